"""A run over an image set: a folder with one part a batch, each whole or not there."""

import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from chiaroscuro.errors import ExistingResultError, ResultError, first_line, unwritable
from chiaroscuro.results.codec import Result, from_plain, to_plain
from chiaroscuro.results.facts import LeftOut, ModelFacts
from chiaroscuro.results.folders import (
    FRESH,
    NEW,
    PARTS,
    Digest,
    Marker,
    Receipt,
    check_free,
    check_readable,
    digest,
    foreign_files,
    kind_in,
    locked,
    move_aside,
    read_marker,
    read_receipt,
    recover,
    remove_aside,
    resolved,
    write_file,
    write_marker,
)
from chiaroscuro.results.kinds import Kind
from chiaroscuro.results.store import write

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, eq=False)
class Part:
    """What a run makes of one batch: tables and other files by name, and images left out.

    `number` is the batch's; `images` is how many rows of the set it covers, left out ones included.
    Tables of one name have one schema in all parts. The same batch gives the same part, so one that
    is written twice does no harm.
    """

    number: int
    images: int
    tables: Mapping[str, "pa.Table"]
    left_out: tuple[LeftOut, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Everything that decides the parts of a run.

    `settings` as they were given; `batch` images at a time and CPU `threads` of one worker are
    fixed at the beginning. `rows`, `labels` and `files` (a digest) describe the images, `facts`
    what else the run's task reads, `profile` the sizes that decide rounding.
    """

    settings: Mapping[str, Any]
    batch: int
    threads: int
    split: str
    rows: int | None
    labels: tuple[str, ...] | None
    files: str | None
    facts: Mapping[str, Any]
    profile: Mapping[str, Any]
    model: ModelFacts
    versions: Mapping[str, str]


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run.

    `marker` is written first, with the configuration, and once more at the end, with the result.
    """

    folder: Path
    kind: Kind
    config: Any

    @property
    def is_finished(self) -> bool:
        """Whether the result is there."""
        return read_marker(self.folder, self.kind).result is not None

    def finished_parts(self) -> dict[int, int]:
        """The numbers of all parts that are there and whole, with the images each covers."""
        return {
            receipt.number: receipt.images
            for file in sorted((self.folder / PARTS).glob("*.json"))
            if (receipt := read_receipt(file)) is not None and self._is_whole(receipt)
        }

    def write_part(self, part: Part) -> None:
        """Put a part in its place, whole or not at all, also when power fails."""
        files: dict[str, Digest] = {}
        for name, table in part.tables.items():
            place = _table_file(name, part.number)
            write_file(self.folder / place, _parquet_bytes(table))
            files[place] = digest(self.folder / place)
        for place, data in part.files.items():
            write_file(self.folder / place, data)
            files[place] = digest(self.folder / place)
        receipt = Receipt(part.number, part.images, part.left_out, files)
        write_file(self._receipt_file(part.number), receipt.sealed())

    def read_parts(self, numbers: Sequence[int]) -> Iterator[Part]:
        """The parts of these numbers, one at a time, with their tables.

        Raises `ResultError` for one that is gone or damaged.
        """
        from pyarrow import parquet

        for number in numbers:
            receipt = read_receipt(self._receipt_file(number))
            if receipt is None or not self._is_whole(receipt):
                raise ResultError(
                    f"{self.folder}: part {number} is gone or damaged: "
                    "resume=True (--resume) computes it"
                )
            tables = {
                # `read_table` would import pyarrow's data sets and pandas, where nothing else has.
                Path(name).parts[0]: parquet.ParquetFile(self.folder / name).read()
                for name in receipt.files
                if name == _table_file(Path(name).parts[0], number)
            }
            yield Part(number, receipt.images, tables, receipt.left_out)

    def finish(self, result: Any) -> None:
        """Write result, pictures, page, and last the marker; remove what the run replaces."""
        for left in self.folder.rglob(f"*{NEW}"):  # of writes that never came to their end
            left.unlink()
        before = read_marker(self.folder, self.kind)
        theirs = foreign_files(self.folder, self.kind)
        write(result, self.folder, config=before.config, without=theirs)
        if before.replaces is not None:
            remove_aside(self.folder.with_name(before.replaces))

    def _receipt_file(self, number: int) -> Path:
        return self.folder / PARTS / f"{number:06d}.json"

    def _is_whole(self, receipt: Receipt) -> bool:
        try:
            return all(digest(self.folder / name) == d for name, d in receipt.files.items())
        except OSError:
            return False


@contextmanager
def open_run(
    folder: str | Path, kind: Kind, config: Any, *, resume: bool, overwrite: bool
) -> Iterator[RunFolder]:
    """A run's folder, locked: started now with this configuration, or there with the same.

    `config` is a dataclass of everything that decides the parts. With `overwrite` an older result
    is moved aside, and removed when the new one is finished. Raises `ResultError` for a folder that
    holds anything else, a run of another configuration (the first three differences are named), or
    one that another process writes.
    """
    try:
        final, ours = check_startable(folder, kind, resume=resume, overwrite=overwrite)
        if ours and resume:
            with locked(final):
                check_config(final, kind, config)
                yield RunFolder(final, kind, config)
            return
        replaces = _set_aside(final, kind) if ours else None
        marker = Marker(kind.schema, config=to_plain(config)[0], replaces=replaces)
        if not final.is_dir():
            _begin(final, kind, marker)
        with locked(final):
            write_marker(final, kind, marker)
            yield RunFolder(final, kind, config)
    except OSError as error:
        raise unwritable(folder, error) from error


def check_startable(
    folder: str | Path, kind: Kind, *, resume: bool, overwrite: bool
) -> tuple[Path, bool]:
    """The folder with links resolved, and whether a run of this kind lies there.

    Raises `ResultError` where no run may begin, nor one be resumed.
    """
    final = resolved(folder)
    recover(final)
    ours = final.is_dir() and kind_in(final) == kind
    if ours and not resume and not overwrite:
        raise ExistingResultError(
            f"{final} holds a run: resume it (resume=True, --resume) or replace it "
            "(overwrite=True, --force)"
        )
    if ours and resume:
        _check_no_links(final)
    else:
        check_free(final, kind, overwrite=overwrite)
    return final, ours


def _begin(final: Path, kind: Kind, marker: Marker) -> None:
    """A new folder that appears with its marker, which names the older result that it replaces."""
    fresh = final.with_name(f"{FRESH}{secrets.token_hex(6)}")
    try:
        fresh.mkdir(parents=True)
        write_marker(fresh, kind, marker)
        fresh.replace(final)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _check_no_links(folder: Path) -> None:
    """Raise `ResultError` for a run with links in it, which would lead writing elsewhere."""
    for file in folder.rglob("*"):
        if file.is_symlink():
            raise ResultError(f"{file} is a link: a run is resumed in a folder without any")


def _set_aside(final: Path, kind: Kind) -> str:
    """Move an older run away; an unfinished one that replaced another hands that on."""
    with locked(final):
        marker = read_marker(final, kind)
        aside = move_aside(final)
    if marker.result is not None or marker.replaces is None:
        return aside.name
    remove_aside(aside)
    return marker.replaces


def check_config(folder: Path, kind: Kind, config: Any, what: str = "a run") -> None:
    """Raise `ResultError`, with up to three differences, for a result of another configuration."""
    marker = read_marker(folder, kind)
    check_readable(folder, kind, marker)
    wanted, _ = to_plain(config)
    wanted = msgspec.json.decode(msgspec.json.encode(wanted))  # as a file keeps it
    differences = list(_differences(marker.config, wanted, ""))
    if differences:
        raise ResultError(
            f"{folder} holds {what} of another configuration ({'; '.join(differences[:3])}): "
            "choose another place, repeat it as it was, or replace it (overwrite=True, --force)"
        )


def _differences(old: Any, new: Any, name: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            yield from _differences(old.get(key), new.get(key), f"{name}.{key}" if name else key)
    elif old != new:
        yield f"{name} was {_short(old)}, now {_short(new)}"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _table_file(name: str, number: int) -> str:
    return f"{name}/{number:06d}.parquet"


def _parquet_bytes(table: "pa.Table") -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    target = pa.BufferOutputStream()
    parquet.write_table(table, target, compression="zstd", write_page_checksum=True)
    data: bytes = target.getvalue().to_pybytes()
    return data


def read_config(folder: str | Path, kind: Kind, config_type: type[Result]) -> Result:
    """What a run was begun with; raises `ResultError` for a folder without one."""
    marker = read_marker(Path(folder), kind)
    check_readable(Path(folder), kind, marker)
    try:
        return from_plain(marker.config, {}, config_type)
    except (ValueError, msgspec.MsgspecError) as error:
        raise ResultError(
            f"{folder}: its configuration cannot be read ({first_line(error)})"
        ) from error
