"""Rows of undecoded images with their numbers, from wherever they lie."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from chiaroscuro.errors import InputError

_AT_A_TIME = 256
"""Rows of a Parquet file that are held undecoded."""


class Rows(Protocol):
    """The rows of one split, in a fixed order."""

    def numbered(
        self, first: int, wanted: Sequence[int] | None
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Numbers and values of the rows from `first` on, of the `wanted` ones (rising) if given.

        An image is its bytes, a dict of "bytes" and "path", either of them None, or None.
        """
        ...


class StreamedRows:
    """Rows of a stream of the `datasets` library, which is read from its start on."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def numbered(
        self, first: int, wanted: Sequence[int] | None
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """See `Rows`."""
        chosen = None if wanted is None else frozenset(wanted)
        rows = self._stream.skip(first) if first else self._stream
        for number, values in enumerate(rows, first):
            if chosen is None or number in chosen:
                yield number, values


class ParquetRows:
    """Rows of local Parquet files one after another; groups without a wanted row are not read.

    `image` and `label` are the columns of images and of classes, as the Hugging Face layout tells
    them in the first file's schema and the columns' types allow; `names` those of the classes.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        from pyarrow.parquet import ParquetFile

        self._files = files
        self.count = 0
        schemas: list[Any] = []
        for path in files:
            with ParquetFile(path) as file:
                self.count += file.metadata.num_rows
                schemas.append(file.schema_arrow)
        schema = schemas[0]
        told = (schema.metadata or {}).get(b"huggingface", b"{}")
        features = (json.loads(told).get("info") or {}).get("features") or {}
        self.columns: list[str] = schema.names
        self.image = _first(schema, features, "Image", _holds_images)
        self.label = _first(schema, features, "ClassLabel", _holds_classes)
        self.names: list[str] | None = features[self.label]["names"] if self.label else None

    def numbered(
        self, first: int, wanted: Sequence[int] | None
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """See `Rows`; a file without the column of classes has images without classes."""
        from pyarrow.parquet import ParquetFile

        chosen = None if wanted is None else np.asarray(wanted)
        before = 0
        for path in self._files:
            with ParquetFile(path) as file:
                asked = [name for name in (self.image, self.label) if name is not None]
                known = [name for name in asked if name in file.schema_arrow.names]
                if self.image not in known:
                    raise InputError(
                        f"{path}: has no column {self.image!r}, as others of its split"
                    )
                for group in range(file.num_row_groups):
                    count = file.metadata.row_group(group).num_rows
                    if _within(before, count, first, chosen).size:
                        yield from _group_rows(file, group, known, before, first, chosen)
                    before += count


def _first(
    schema: Any, features: Mapping[str, Any], kind: str, holds: Callable[[Any], bool]
) -> str | None:
    """The first column that is told to be of a kind of feature, and whose type can be."""
    for field in schema:
        told = features.get(field.name)
        if isinstance(told, dict) and told.get("_type") == kind and holds(field.type):
            return str(field.name)
    return None


def _holds_images(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_struct(kind) or types.is_binary(kind) or types.is_large_binary(kind))


def _holds_classes(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_integer(kind.value_type if types.is_dictionary(kind) else kind))


def _group_rows(
    file: Any,
    group: int,
    columns: list[str],
    before: int,
    first: int,
    wanted: np.ndarray[Any, Any] | None,
) -> Iterator[tuple[int, dict[str, Any]]]:
    for batch in file.iter_batches(_AT_A_TIME, row_groups=[group], columns=columns):
        numbers = _within(before, batch.num_rows, first, wanted)
        rows = batch.take(numbers - before).to_pylist()
        yield from zip(numbers.tolist(), rows, strict=True)
        before += batch.num_rows


def _within(
    before: int, count: int, first: int, wanted: np.ndarray[Any, Any] | None
) -> np.ndarray[Any, Any]:
    """The numbers that are asked of `count` rows which follow `before` others."""
    if wanted is None:
        return np.arange(max(before, first), max(before + count, first))
    low, high = np.searchsorted(wanted, [max(before, first), max(before + count, first)])
    return wanted[low:high]
