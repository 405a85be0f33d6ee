"""Rows of one batch as arrays."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from chiaroscuro.runs.rows import Key


@dataclass(frozen=True, eq=False)
class Block:
    """The rows of one batch as arrays over images B, curves J and fractions F.

    `labels` and `predicted` (B,), -1 where there is none; `allegiance`, `probability` and
    `changed`, the share of pixels (B, J, F).
    """

    keys: tuple[Key, ...]
    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    allegiance: NDArray[np.float64]
    probability: NDArray[np.float64]
    changed: NDArray[np.float64]


def read_block(table: pa.Table, fractions: int) -> Block:
    """A part's rows as arrays: every image has the same curves in the same order."""
    keys = _keys(table)
    images = len(table) // len(keys)
    shape = (images, len(keys), fractions)

    def lists(name: str) -> NDArray[np.float64]:
        flat = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return np.asarray(flat, np.float64).reshape(shape)

    def first(name: str) -> NDArray[np.int64]:
        column = table[name].fill_null(-1).to_numpy()
        return np.asarray(column, np.int64)[:: len(keys)]

    pixels = first("pixels")[:, None, None]
    return Block(
        keys=keys,
        labels=first("label"),
        predicted=first("predicted"),
        allegiance=lists("allegiance"),
        probability=lists("probability"),
        changed=lists("changed") / pixels,
    )


def _keys(table: pa.Table) -> tuple[Key, ...]:
    """The curves of the first image, which ends where its first curve comes again."""
    found: dict[Key, None] = {}
    for words in zip(*(table[name] for name in ("protocol", "map", "fill")), strict=True):
        protocol, name, fill = (word.as_py() for word in words)
        if (protocol, name, fill) in found:
            break
        found[protocol, name, fill] = None
    return tuple(found)
