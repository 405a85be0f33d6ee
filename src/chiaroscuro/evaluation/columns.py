"""Arrays over images and keys to the rows that are stored, and back."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

WORD = pa.dictionary(pa.int16(), pa.string())
Floats = NDArray[np.float64]


def image_rows(
    schema: pa.Schema,
    images: Mapping[str, Sequence[Any]],
    keys: Mapping[str, Sequence[Any]],
    values: Mapping[str, NDArray[Any]],
) -> pa.Table:
    """One row per image and key, image by image.

    By column: `images` has one value per image (B), `keys` a word or number per key (J), `values`
    what was measured (B, J), or lists of it (B, J, F).
    """
    count, each = len(next(iter(images.values()))), len(next(iter(keys.values())))
    owner = pa.array(np.repeat(np.arange(count), each))
    kinds = {name: schema.field(name).type for name in schema.names}
    columns = {
        **{name: pa.array(held, kinds[name]).take(owner) for name, held in images.items()},
        **{name: _repeated(held, count, kinds[name]) for name, held in keys.items()},
        **{name: _cells(held, kinds[name]) for name, held in values.items()},
    }
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def in_image_order(
    tables: Sequence[pa.Table], places: Sequence[Sequence[int]], schema: pa.Schema
) -> pa.Table:
    """Tables of images grouped otherwise as one, in the order of the images' `places`."""
    if not tables:
        return schema.empty_table()
    joined = pa.concat_tables(tables).unify_dictionaries()
    if len(tables) == 1:
        return joined
    each = len(joined) // sum(map(len, places))
    order = np.argsort(np.concatenate([np.asarray(some) for some in places]))
    rows = order[:, None] * each + np.arange(each)
    return joined.take(pa.array(rows.ravel())).combine_chunks()


def read_keys(table: pa.Table, names: Sequence[str]) -> tuple[tuple[Any, ...], ...]:
    """The keys of the first image, which ends where its first key comes again."""
    keys: dict[tuple[Any, ...], None] = {}
    for cells in zip(*(table[name] for name in names), strict=True):
        key = tuple(cell.as_py() for cell in cells)
        if key in keys:
            break
        keys[key] = None
    return tuple(keys)


def read_values(table: pa.Table, name: str, keys: int) -> Floats:
    """A column as (B, J), a column of lists as (B, J, F); nulls are -1."""
    column = table[name].combine_chunks()
    if pa.types.is_list(column.type):
        flat = column.flatten().to_numpy(zero_copy_only=False)
        return np.asarray(flat, np.float64).reshape(len(table) // keys, keys, -1)
    values = column.fill_null(-1) if column.null_count else column
    flat = values.to_numpy(zero_copy_only=False)
    return np.asarray(flat, np.float64).reshape(-1, keys)


def _repeated(held: Sequence[Any], count: int, kind: pa.DataType) -> pa.Array:
    if not pa.types.is_dictionary(kind):
        return pa.array(np.tile(np.asarray(held), count)).cast(kind)
    known = pa.array(held, pa.string()).dictionary_encode()
    codes = np.tile(known.indices.to_numpy().astype(np.int16), count)
    return pa.DictionaryArray.from_arrays(pa.array(codes), known.dictionary)


def _cells(held: NDArray[Any], kind: pa.DataType) -> pa.Array:
    if held.ndim == 2:
        return pa.array(held.ravel()).cast(kind)
    ends = np.arange(0, held.size + 1, held.shape[2], dtype=np.int32)
    return pa.ListArray.from_arrays(ends, pa.array(held.ravel()).cast(kind.value_type))
