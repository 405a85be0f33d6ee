"""How similar two maps are: as orders of the pixels, and in their highest pixels."""

from dataclasses import dataclass

import torch
from torch import Tensor

from chiaroscuro.choices import as_float
from chiaroscuro.edits import check_map, pixel_order, pixel_rank, tie_priority
from chiaroscuro.errors import ChoiceError, InputError, brief

TOP_SHARE = 0.1
"""The share of pixels that count as a map's highest."""
_OTHER_TIES = 1
"""The two maps break their ties by orders of different seeds, this far apart."""


@dataclass(frozen=True, eq=False)
class Similarity:
    """How similar two maps of B images are: `correlation` of ranks and `overlap` of tops, (B,)."""

    correlation: Tensor
    overlap: Tensor
    __repr__ = brief


def map_similarity(
    first: Tensor, second: Tensor, pixels: Tensor, share: float = TOP_SHARE, seed: int = 0
) -> Similarity:
    """`rank_correlation` and `top_overlap` of two maps (B, H, W) of the same pixels (B, C, H, W).

    Raises `InputError` for maps of other shapes or with values that are not finite, `ChoiceError`
    for a share outside (0, 1].

    >>> pixels = torch.rand(2, 3, 4, 4)
    >>> result = map_similarity(pixels.amax(1), 2 * pixels.amax(1), pixels, share=0.5)
    >>> result.correlation.tolist(), result.overlap.tolist()
    ([1.0, 1.0], [1.0, 1.0])
    """
    overlap = top_overlap(first, second, pixels, share, seed)
    return Similarity(rank_correlation(first, second), overlap)


def average_ranks(values: Tensor) -> Tensor:
    """Ranks 1..N of each row (B, N) in float64, equal values sharing the mean of their ranks.

    >>> average_ranks(torch.tensor([[0.0, 5.0, 0.0, 2.0]])).tolist()
    [[1.5, 4.0, 1.5, 3.0]]
    """
    values = values.contiguous()
    rising = values.sort(dim=1).values
    below = torch.searchsorted(rising, values)
    upto = torch.searchsorted(rising, values, right=True)
    return (below + 1 + upto).double() / 2


def rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's rho of two maps (B, H, W), per image (B,): Pearson's correlation of their ranks.

    Ties share the mean of their ranks. The rho of a constant map is 0, the mean of a random order.
    Raises `InputError` for other shapes or values that are not finite.

    >>> rank_correlation(torch.tensor([[[1.0, 2.0, 3.0]]]), torch.tensor([[[1.0, 3.0, 2.0]]]))
    tensor([0.5000], dtype=torch.float64)
    """
    _check(first, second)
    return ranks_correlation(average_ranks(first.flatten(1)), average_ranks(second.flatten(1)))


def ranks_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation (B,) of ranks (B, N) in float64; 0 where one of them is constant."""
    a, b = (ranks - ranks.mean(dim=1, keepdim=True) for ranks in (first, second))
    size = (a.square().sum(dim=1) * b.square().sum(dim=1)).sqrt()
    return ((a * b).sum(dim=1) / torch.where(size > 0, size, 1.0)).clamp(-1, 1)


def top_overlap(
    first: Tensor, second: Tensor, pixels: Tensor, share: float = TOP_SHARE, seed: int = 0
) -> Tensor:
    """The share of one map's top k = round(share N) pixels that the other's top has too: (B,).

    Each map breaks its ties by a random order of its own, drawn from `seed` and the image's pixels
    (B, C, H, W), so pixels that are tied in both maps coincide at chance level, k / N.
    Raises as `map_similarity` does.
    """
    _check(first, second)
    if pixels.ndim != 4 or (len(pixels), *pixels.shape[2:]) != first.shape:
        raise InputError(
            f"pixels have shape {tuple(pixels.shape)}: expected (B, C, H, W) of the maps' "
            f"{tuple(first.shape)}"
        )
    count = top_count(first[0].numel(), share)
    return masks_overlap(
        top_mask(first, tie_priority(pixels, seed), count),
        top_mask(second, tie_priority(pixels, seed + _OTHER_TIES), count),
    )


def top_mask(values: Tensor, priority: Tensor, count: int) -> Tensor:
    """Which pixels (B, N) are a map's (B, H, W) highest `count`, ties in the order `priority`."""
    return pixel_rank(pixel_order(values, priority)) < count


def masks_overlap(first: Tensor, second: Tensor) -> Tensor:
    """The share of the first mask's pixels (B, N) that the second has too: (B,) in float64."""
    return (first & second).sum(dim=1).double() / first.sum(dim=1).double()


def top_count(pixels: int, share: float) -> int:
    """How many of N pixels a share is: at least one; raises `ChoiceError` outside (0, 1]."""
    part = as_float("share", share)
    if not 0 < part <= 1:
        raise ChoiceError(f"share is {part}: expected a number in (0, 1]")
    return max(1, round(part * pixels))


def _check(first: Tensor, second: Tensor) -> None:
    for name, values in (("first map", first), ("second map", second)):
        check_map(values, name)
    if first.shape != second.shape:
        raise InputError(
            f"maps have shapes {tuple(first.shape)} and {tuple(second.shape)}: expected two of the "
            "same images"
        )
