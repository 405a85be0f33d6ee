"""Rows of undecoded images with their numbers, from wherever they lie."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

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

    `features` are the columns as the Hugging Face layout tells them in the schema, by name.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        from pyarrow.parquet import ParquetFile

        self._files = files
        opened = [ParquetFile(file) for file in files]
        self.count = sum(file.metadata.num_rows for file in opened)
        told = (opened[0].schema_arrow.metadata or {}).get(b"huggingface", b"{}")
        info = json.loads(told).get("info") or {}
        self.features: dict[str, Any] = info.get("features") or {}
        self.columns: list[str] = opened[0].schema_arrow.names

    def first_of(self, kind: str) -> str | None:
        """The first column of a kind of feature, such as "Image"."""
        told = ((name, self.features.get(name)) for name in self.columns)
        return next(
            (name for name, one in told if isinstance(one, dict) and one.get("_type") == kind), None
        )

    def numbered(
        self, first: int, wanted: Sequence[int] | None
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """See `Rows`."""
        from pyarrow.parquet import ParquetFile

        columns = [name for name in (self.first_of("Image"), self.first_of("ClassLabel")) if name]
        chosen = None if wanted is None else np.asarray(wanted)
        before = 0
        for path in self._files:
            with ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    count = file.metadata.row_group(group).num_rows
                    if _within(before, count, first, chosen).size:
                        yield from _group_rows(file, group, columns, before, first, chosen)
                    before += count


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
