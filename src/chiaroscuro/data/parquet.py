"""Parquet files by split: only the columns and row groups that are needed are read."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiaroscuro.data.columns import ChosenColumns, Column, Columns, choose_columns, class_names
from chiaroscuro.data.images import ImageRow, ImageSet
from chiaroscuro.errors import InputError, MissingFileError

_ROWS_HELD = 256
"""Rows that are held undecoded."""
_ANY = "*.[pP][aA][rR][qQ][uU][eE][tT]"
_SHARD = re.compile(r"(^|[-_.])\d+([-_]of[-_].*)?$")
Numbers = NDArray[np.int64]


def parquet_splits(folder: Path) -> dict[str, list[Path]]:
    """Parquet files of a folder by split.

    They are named `test.parquet` or `test-00000-of-2.parquet`, in the folder or in its `data`
    folder, or numbered in a folder named by split.
    """
    found: dict[str, list[Path]] = {}
    files = [*_matching(folder, _ANY), *_matching(folder, f"data/{_ANY}")]
    deeper = _matching(folder, f"*/{_ANY}") or _matching(folder, f"*/*/{_ANY}")
    for file in files or deeper:
        name = _SHARD.sub("", file.stem) if files else file.parent.name
        found.setdefault(name or file.parent.name, []).append(file)
    return found


def _matching(folder: Path, pattern: str) -> list[Path]:
    """Files in order, no hidden ones; a folder of Spark's is named like a file."""
    return sorted(f for f in folder.glob(pattern) if not f.name.startswith(".") and f.is_file())


def open_parquet(
    files: Mapping[str, Sequence[Path]],
    split: str,
    source: str,
    folder: Path,
    chosen: ChosenColumns = (None, None),
) -> ImageSet:
    """One split of Parquet files; paths in their cells lead no further than below `folder`.

    Class names are the Hugging Face metadata's, else the values in all splits. Raises `InputError`.
    """
    from pyarrow.parquet import ParquetFile

    counts, schemas = [], []
    for path in files[split]:
        if not path.is_file():
            raise MissingFileError(f"{path}: no such file")
        with ParquetFile(path) as file:
            counts.append(file.metadata.num_rows)
            schemas.append(file.schema_arrow)
    features = _features(schemas[0])
    image, label = choose_columns([_column(f, features) for f in schemas[0]], source, chosen)
    for path, schema in zip(files[split], schemas, strict=True):
        if image not in schema.names:
            raise InputError(f"{path}: has no column {image!r}, as others of its split")
    names = _names(features.get(label)) if label else None
    if label and names is None:
        names = class_names(_values([path for paths in files.values() for path in paths], label))
    columns = Columns(image, label if names else None, names, folder)
    rows = ParquetRows(tuple(files[split]), tuple(counts), columns, split)
    return ImageSet(source, split, names, sum(counts), rows, (columns.note,), rows.files)


@dataclass(frozen=True)
class ParquetRows:
    """Rows of Parquet files one after another; groups without a wanted row are not read."""

    files: tuple[Path, ...]
    counts: tuple[int, ...]
    columns: Columns
    split: str

    def read(self, first: int, wanted: Sequence[int] | None) -> Iterator[ImageRow]:
        """See `Rows`; a file without the column of classes has images without classes."""
        from pyarrow.parquet import ParquetFile

        chosen = None if wanted is None else np.asarray(wanted, np.int64)
        before = 0
        for path, count in zip(self.files, self.counts, strict=True):
            if _within(before, count, first, chosen).size:
                with ParquetFile(path) as file:
                    yield from self._read_file(file, before, first, chosen)
            before += count

    def _read_file(
        self, file: Any, before: int, first: int, chosen: Numbers | None
    ) -> Iterator[ImageRow]:
        wanted = (self.columns.image, self.columns.label)
        known = [name for name in file.schema_arrow.names if name in wanted]
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            if not _within(before, count, first, chosen).size:
                before += count
                continue
            for batch in file.iter_batches(_ROWS_HELD, row_groups=[group], columns=known):
                numbers = _within(before, batch.num_rows, first, chosen)
                for number in numbers.tolist():
                    (values,) = batch.slice(number - before, 1).to_pylist()
                    yield self.columns.row(f"{self.split}#{number}", values)
                before += batch.num_rows


def _within(before: int, count: int, first: int, wanted: Numbers | None) -> Numbers:
    """The numbers that are wanted of `count` rows which follow `before` others."""
    if wanted is None:
        return np.arange(max(before, first), max(before + count, first))
    low, high = np.searchsorted(wanted, [max(before, first), max(before + count, first)])
    return wanted[low:high]


def _features(schema: Any) -> dict[str, Any]:
    """What the Hugging Face metadata of a schema say of its columns, if there are any."""
    try:
        about = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        return {k: v for k, v in about["info"]["features"].items() if isinstance(v, dict)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _names(feature: Mapping[str, Any] | None) -> tuple[str, ...] | None:
    names = (feature or {}).get("names") or ()
    return tuple(map(str, names.values() if isinstance(names, dict) else names)) or None


def _column(field: Any, features: Mapping[str, Any]) -> Column:
    from pyarrow import types

    def holds(kind: Any, *names: str) -> bool:
        kind = kind.value_type if types.is_dictionary(kind) else kind
        return any(getattr(types, f"is_{name}")(kind) for name in names)

    kind = field.type
    binary = "binary", "large_binary", "binary_view", "fixed_size_binary"
    text = "string", "large_string", "string_view"
    if types.is_struct(kind):
        parts = {part.name: part.type for part in kind}
        images = "bytes" in parts and holds(parts["bytes"], *binary)
        images = images or ("path" in parts and holds(parts["path"], *text))
    else:
        images = holds(kind, *binary)
    classes = holds(kind, "boolean", "integer", "floating", *text)
    return Column(field.name, images, classes, features.get(field.name, {}).get("_type"))


def _values(files: Sequence[Path], column: str) -> set[Any]:
    """Every value of a column; files that lack it have none."""
    from pyarrow.parquet import ParquetFile

    found: set[Any] = set()
    for path in files:
        with ParquetFile(path) as file:
            if column in file.schema_arrow.names:
                found.update(file.read(columns=[column])[column].to_pylist())
    return found
