"""A run's folder: what it is, one file of rows a batch, and the manifest that says it is whole."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from chiaroscuro.data import LeftOut
from chiaroscuro.errors import ResultError

CONFIG = "config.json"
"""The file that marks a folder as a run; written first."""
MANIFEST = "manifest.json"
"""Written last: every file with its size and digest."""
ROWS = "rows"
WHAT_IF = "what-if"
_ABOUT = b"chiaroscuro"


@dataclass(frozen=True)
class Part:
    """The rows of one batch as they lie on disk, with the images that were left out.

    `what_if`: the file of its what-if rows, where the run has any.
    """

    file: Path
    what_if: Path | None = None

    def read(self) -> pa.Table:
        """The rows."""
        # `read_table` would import pyarrow's data sets and pandas, where nothing else has.
        return parquet.ParquetFile(self.file).read()

    def read_what_if(self) -> pa.Table:
        """The what-if rows, of a run that has them."""
        return parquet.ParquetFile(self.what_if).read()

    @property
    def broken(self) -> list[LeftOut]:
        """Images of the batch that were left out."""
        about = json.loads(parquet.read_schema(self.file).metadata[_ABOUT])
        return [LeftOut(id_, reason) for id_, reason in about["broken"]]


@dataclass(frozen=True)
class RunStore:
    """The folder of one run; `what_if`: whether its parts have a second table of such rows."""

    folder: Path
    what_if: bool = False

    def parts(self) -> list[Part]:
        """Whole parts from the first on; a gap or an unreadable file ends them."""
        found: list[Part] = []
        while True:
            number = len(found)
            part = Part(
                self._file(ROWS, number), self._file(WHAT_IF, number) if self.what_if else None
            )
            if not all(_is_whole(file) for file in (part.file, part.what_if) if file):
                return found
            found.append(part)

    def write_part(
        self,
        number: int,
        rows: pa.Table,
        broken: tuple[LeftOut, ...],
        what_if: pa.Table | None = None,
    ) -> None:
        """Put a batch's rows in their place, whole or not at all, also when power fails."""
        about = {"batch": number, "broken": [[one.id, one.reason] for one in broken]}
        if what_if is not None:
            self._write(WHAT_IF, number, what_if)
        described = rows.replace_schema_metadata({_ABOUT: json.dumps(about).encode()})
        self._write(ROWS, number, described)

    def _write(self, kind: str, number: int, table: pa.Table) -> None:
        file = self._file(kind, number)
        file.parent.mkdir(exist_ok=True)
        new = file.with_suffix(".new")
        with new.open("wb") as target:
            parquet.write_table(table, target, compression="zstd")
            target.flush()
            os.fsync(target.fileno())
        new.replace(file)

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Put a JSON file in its place, whole or not at all."""
        file = self.folder / name
        new = file.with_suffix(".new")
        with new.open("w", encoding="utf-8") as target:
            target.write(json.dumps(values, indent=2, ensure_ascii=False) + "\n")
            target.flush()
            os.fsync(target.fileno())
        new.replace(file)

    def read_json(self, name: str) -> dict[str, Any]:
        """A JSON file of the run; raises `ResultError` for one that cannot be read."""
        try:
            values = json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ResultError(f"{self.folder / name}: cannot be read ({error})") from error
        if not isinstance(values, dict):
            raise ResultError(f"{self.folder / name}: expected an object")
        return values

    def finish(self, figures: Mapping[str, Any]) -> None:
        """Write the manifest: the figures, and every other file with its size and digest."""
        for left in self.folder.rglob("*.new"):  # of writes that never came to their end
            left.unlink()
        files = {
            file.relative_to(self.folder).as_posix(): {
                "bytes": file.stat().st_size, "sha256": _digest(file),
            }
            for file in self._files()
        }  # fmt: skip
        self.write_json(MANIFEST, {"schema": "chiaroscuro-run/1", **figures, "files": files})

    @property
    def is_finished(self) -> bool:
        """Whether the manifest is there."""
        return (self.folder / MANIFEST).is_file()

    def _files(self) -> Iterator[Path]:
        for file in sorted(self.folder.rglob("*")):
            if file.is_file() and file.name != MANIFEST:
                yield file

    def _file(self, kind: str, number: int) -> Path:
        return self.folder / kind / f"{number:06d}.parquet"


def _is_whole(file: Path) -> bool:
    """Whether a file of rows is there and came to its end."""
    try:
        parquet.read_metadata(file)
    except (pa.ArrowException, OSError):
        return False
    return True


def _digest(file: Path) -> str:
    with file.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()
