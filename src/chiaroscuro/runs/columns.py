"""Arrays over images and curves to the rows that are stored."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

WORD = pa.dictionary(pa.int16(), pa.string())


def image_rows(
    schema: pa.Schema,
    images: Mapping[str, Sequence[Any]],
    keys: Mapping[str, Sequence[str]],
    values: Mapping[str, NDArray[Any]],
) -> pa.Table:
    """One row an image and key, image by image.

    By column: `images` has one value an image (B), `keys` a word a key (J), `values` what was found
    (B, J), or as lists (B, J, F).
    """
    count, each = len(next(iter(images.values()))), len(next(iter(keys.values())))
    owner = pa.array(np.repeat(np.arange(count), each))
    kinds = {name: schema.field(name).type for name in schema.names}
    columns = {
        **{name: pa.array(told, kinds[name]).take(owner) for name, told in images.items()},
        **{name: _repeated(words, count) for name, words in keys.items()},
        **{name: _cells(found, kinds[name]) for name, found in values.items()},
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


def _repeated(words: Sequence[str], count: int) -> pa.Array:
    known = pa.array(words, pa.string()).dictionary_encode()
    codes = np.tile(known.indices.to_numpy().astype(np.int16), count)
    return pa.DictionaryArray.from_arrays(pa.array(codes), known.dictionary)


def _cells(found: NDArray[Any], kind: pa.DataType) -> pa.Array:
    if found.ndim == 2:
        return pa.array(found.ravel()).cast(kind)
    ends = np.arange(0, found.size + 1, found.shape[2], dtype=np.int32)
    return pa.ListArray.from_arrays(ends, pa.array(found.ravel()).cast(kind.value_type))
