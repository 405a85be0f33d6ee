"""Arrays over images and keys to the rows that are stored, and back; means to figures."""

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from chiaroscuro.metrics.intervals import BootstrapMeans
from chiaroscuro.metrics.intervals import Interval as Ends
from chiaroscuro.results.facts import Interval
from chiaroscuro.results.measurements import Figures

WORD = pa.dictionary(pa.int16(), pa.string())
Floats = NDArray[np.float64]
Stacked = tuple[Sequence[int], pa.Table]
"""Places of some of a batch's images, and their rows."""


def row_schema(*columns: tuple[pa.DataType, str]) -> pa.Schema:
    """A schema of columns by type, in the order of their names."""
    return pa.schema([(name, kind) for kind, names in columns for name in names.split()])


def image_rows(
    schema: pa.Schema,
    images: Mapping[str, Sequence[Any]],
    keys: Mapping[str, Sequence[Any]],
    values: Mapping[str, NDArray[Any]],
) -> pa.Table:
    """One row per image and key, by column: of images (B), of keys (J), of both (B, J) or lists."""
    count, each = len(next(iter(images.values()))), len(next(iter(keys.values())))
    owner = pa.array(np.repeat(np.arange(count), each))
    columns = {}
    for name, kind in zip(schema.names, schema.types, strict=True):
        if name in images:
            columns[name] = pa.array(images[name], kind).take(owner)
        elif name in keys:
            columns[name] = pa.array([*keys[name]] * count, kind)
        elif values[name].ndim == 2:
            columns[name] = pa.array(values[name].ravel()).cast(kind)
        else:
            flat = pa.array(values[name].ravel()).cast(kind.value_type)
            lists = pa.FixedSizeListArray.from_arrays(flat, values[name].shape[2])
            columns[name] = lists.cast(kind)
    return pa.table(columns, schema=schema)


def in_image_order(stacks: Sequence[Stacked], schema: pa.Schema) -> pa.Table:
    """The rows of a batch's images, measured in several stacks, in the order of the images."""
    if not stacks:
        return schema.empty_table()
    joined = pa.concat_tables(table for _, table in stacks).unify_dictionaries()
    order = np.argsort(np.concatenate([np.asarray(places) for places, _ in stacks]))
    rows = np.arange(len(joined)).reshape(len(order), -1)[order]
    return joined.take(pa.array(rows.ravel())).combine_chunks()


def rounded(values: Any) -> Any:
    """Figures as Python's, rounded so that a summary that is computed again is the same text."""
    return np.round(np.asarray(values, np.float64), 12).tolist()


def stacked(ends: Ends, *shape: int) -> Floats:
    """Means with the lower and upper ends of their intervals: (3, ...)."""
    return np.stack([ends.value, ends.low, ends.high]).reshape(3, *shape)


def interval_at(ends: Floats, *place: int) -> Interval:
    """One of the means of `stacked` with its interval."""
    return Interval(*rounded([end[place] for end in ends]))


class Sums:
    """Means over images with bootstrap intervals, from a first table on; memory does not grow."""

    columns: ClassVar[tuple[str, ...]]
    measures: ClassVar[tuple[str, ...]]
    """What the rows of an image differ in, and the columns that are averaged."""

    def __init__(self, table: pa.Table, settings: Any, classes: Any = None) -> None:
        self.settings, self.classes = settings, classes
        ids = table["id"].to_pylist()
        first = table.slice(0, len([*takewhile(ids[0].__eq__, ids)])).select(self.columns)
        self.keys: list[tuple[Any, ...]] = [*zip(*first.to_pydict().values(), strict=True)]
        values = self.values(table)[0].size
        self.means = BootstrapMeans(values, settings.resamples, settings.seed)

    def values(self, table: pa.Table) -> Floats:
        """What is averaged of a batch (B, ...): of every row all measures."""
        return np.stack(self.read(table, *self.measures), axis=2)

    def add(self, table: pa.Table) -> None:
        """Count a batch in."""
        values = self.values(table)
        self.means.add(values.reshape(len(values), -1))
        self.add_others(values, table)

    def add_others(self, values: Floats, table: pa.Table) -> None:
        """Count in what is no mean."""

    def read(self, table: pa.Table, *names: str) -> list[Floats]:
        """Columns as (B, J), those of lists as (B, J, F); nulls are NaN."""
        found = []
        for name in names:
            column = table[name].combine_chunks()
            each = [-1] if pa.types.is_list(column.type) else []
            flat = (column.flatten() if each else column).to_numpy(zero_copy_only=False)
            images = len(table) // len(self.keys)
            found.append(np.asarray(flat, np.float64).reshape(images, len(self.keys), *each))
        return found

    def ends(self, *shape: int) -> Floats:
        """All means with the ends of their intervals (3, ...)."""
        return stacked(self.means.interval(self.settings.confidence), *shape)

    def figures(self) -> Figures:
        """Means with intervals of all that was added."""
        raise NotImplementedError
