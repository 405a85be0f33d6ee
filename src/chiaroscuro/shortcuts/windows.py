"""Maxima over windows of pixels, one axis after the other."""

import torch
from torch import Tensor

from chiaroscuro.products import Pair


def window_maximum(values: Tensor, taps: Pair, stride: Pair, padding: Pair) -> Tensor | None:
    """The largest value (R, C, h, w) in each window of values (R, C, H, W); None where unusual.

    The maximum of a window is that of its rows' maxima: k + k comparisons in place of k k, each of
    a slice of the picture, and no table of places.
    """
    usual = zip(taps, stride, padding, strict=True)
    if any(s < 1 or p < 0 or 2 * p > k for k, s, p in usual):
        return None
    found: Tensor | None = values
    for axis, (k, s, p) in enumerate(zip(taps, stride, padding, strict=True), start=2):
        found = None if found is None else _along(found, axis, k, s, p)
    return found


def _along(values: Tensor, axis: int, taps: int, step: int, padding: int) -> Tensor | None:
    """The same along one axis; None where no tap lies inside for every window."""
    size = values.shape[axis]
    count = (size + 2 * padding - taps) // step + 1
    whole: list[tuple[int, Tensor]] = []
    edges: list[tuple[int, Tensor]] = []
    for shift in range(-padding, taps - padding):
        first, last = max(0, -(shift // step)), min(count, (size - 1 - shift) // step + 1)
        start = step * first + shift
        read = values[(slice(None),) * axis + (slice(start, step * last + shift, step),)]
        if first < last:
            (whole if last - first == count else edges).append((first, read))
    if not whole:
        return None
    made = torch.maximum(whole[0][1], whole[-1][1])
    for first, read in whole[1:-1] + edges:
        part = made.narrow(axis, first, read.shape[axis])
        torch.maximum(part, read, out=part)
    return made
