"""Gradients on their way to the maps: some classes at some of the pixels' values."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Chunk(NamedTuple):
    """Gradients (V, R, n) of classes `first`.. at the values `start`.. of each row.

    A row's N = H W C values lie as networks are fastest: pixel by pixel, channels last.
    """

    first: int
    start: int
    gradients: Tensor

    @property
    def values(self) -> slice:
        """Where its values lie in a row."""
        return slice(self.start, self.start + self.gradients.shape[2])


def flattened(images: Tensor) -> Tensor:
    """Values (..., N) of images (..., C, H, W): a view where their channels come last."""
    return images.movedim(-3, -1).flatten(-3)


def restored(values: Tensor, shape: Sequence[int]) -> Tensor:
    """Images (..., C, H, W) of values (..., N), a view; `shape` is (C, H, W)."""
    channels, *size = shape
    return torch.unflatten(values, -1, (*size, channels)).movedim(-1, -3)
