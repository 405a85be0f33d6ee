"""Maps to pixel orders, orders to masks, masks to edited images."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from chiaroscuro.edits.fills import image_seeds
from chiaroscuro.errors import ChoiceError, InputError


def tie_priority(pixels: Tensor, seed: int = 0) -> Tensor:
    """A random order of each image's H W pixels (B, N): it breaks ties, and it is the control.

    Drawn from `seed` and the image's own values, so an image gets the same one in any batch.
    """
    count = pixels.shape[-2] * pixels.shape[-1]
    drawn = [np.random.default_rng(own).permutation(count) for own in image_seeds(pixels, seed)]
    return torch.from_numpy(np.stack(drawn)).to(pixels.device)


def pixel_order(values: Tensor, priority: Tensor | None = None) -> Tensor:
    """Each image's pixels from the map's highest value to its lowest: flat indices (B, N).

    `values` is a map (B, H, W). Ties keep the order of `priority` (B, N), a permutation such as
    `tie_priority` draws; without one, the order of rows and columns. Raises `InputError` for
    another shape, or values that are not finite.

    >>> pixel_order(torch.tensor([[[1.0, 3.0], [3.0, 2.0]]]))
    tensor([[1, 2, 3, 0]])
    >>> pixel_order(torch.zeros(1, 2, 2), torch.tensor([[2, 0, 3, 1]]))
    tensor([[2, 0, 3, 1]])
    """
    check_map(values)
    flat = values.flatten(1)
    if priority is None:
        return _falling_order(flat)
    return priority.gather(1, _falling_order(flat.gather(1, priority)))


def _falling_order(values: Tensor) -> Tensor:
    """`values.argsort(1, descending=True, stable=True)` of finite floats (B, N).

    On the CPU each value and its place make one integer: sorting those keeps ties in their order,
    and NumPy sorts integers in a fraction of the time of a stable argsort.
    """
    if values.device.type != "cpu" or values.dtype == torch.float64:
        return values.argsort(dim=1, descending=True, stable=True)
    # Taken from 0, falling values rise, and 0.0 and -0.0 become the same bits.
    bits = (0 - values.detach().float().numpy()).view(np.int32)
    # The bits of a negative float, read as an integer, fall as it rises.
    rising = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits).astype(np.int64)
    keys = (rising << 32) | np.arange(values.shape[1])
    keys.sort(axis=1)
    return torch.from_numpy(keys & 0xFFFFFFFF)


def pixel_rank(order: Tensor) -> Tensor:
    """The place of each pixel in its order (B, N): the inverse permutation."""
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)


def check_fractions(fractions: Sequence[float]) -> tuple[float, ...]:
    """Fractions as a tuple; raises `ChoiceError` unless they rise from 0 or more to below 1."""
    chosen = tuple(map(float, fractions))
    rising = all(a < b for a, b in pairwise(chosen))
    if not chosen or not rising or not 0 <= chosen[0] <= chosen[-1] < 1:
        raise ChoiceError(f"fractions are {list(fractions)}: expected rising numbers in [0, 1)")
    return chosen


def matched_counts(values: Tensor, fractions: Sequence[float]) -> Tensor:
    """Exactly round(p H W) pixels at each fraction p, whatever the map's values: (B, F)."""
    places = _places(values[0].numel(), fractions)
    return torch.tensor(places, device=values.device).expand(len(values), -1)


def check_map(values: Tensor) -> None:
    """Raises `InputError` unless a map is finite floats (B, H, W)."""
    if values.ndim != 3 or not values.is_floating_point():
        raise InputError(
            f"map has shape {tuple(values.shape)} and is {values.dtype}: expected floats (B, H, W)"
        )
    # The extremes of a map with a NaN are NaN; asking every value takes seven times as long.
    if values.numel() and not torch.stack(values.aminmax()).isfinite().all():
        raise InputError("map holds values that are not finite: its pixels have no order")


def _places(count: int, fractions: Sequence[float]) -> list[int]:
    return [round(fraction * count) for fraction in check_fractions(fractions)]


def apply_edit(pixels: Tensor, changed: Tensor, rank: Tensor, counts: Tensor) -> Tensor:
    """Pixels (B, C, H, W) with the first `counts` (B,) of each image's ranking changed.

    `changed` are the pixels after the fill, `rank` (B, N) the place of each pixel.
    """
    mask = (rank < counts[:, None]).reshape(len(pixels), 1, *pixels.shape[2:])
    return torch.where(mask, changed, pixels)


def top_edit(pixels: Tensor, filled: Tensor, order: Tensor, fraction: float) -> Tensor:
    """Images (B, C, H, W) with the first round(fraction H W) pixels of each order (B, N) filled."""
    (share,) = check_fractions([fraction])
    counts = matched_counts(pixels[:, 0], [share])[:, 0]
    return apply_edit(pixels, filled, pixel_rank(order), counts)
