"""How similar two maps are: as orders of the pixels, and in their highest pixels."""

from dataclasses import dataclass

import torch
from torch import Tensor

from chiaroscuro.edits import pixel_order, pixel_rank, tie_priority
from chiaroscuro.errors import ChoiceError, InputError

TOP_SHARE = 0.1
"""The share of pixels that count as a map's highest."""
_OTHER_TIES = 1
"""The two maps break their ties by orders of different seeds, this far apart."""


@dataclass(frozen=True, eq=False)
class Similarity:
    """How similar two maps of B images are: `correlation` of ranks (B,), `overlap` of tops (B,)."""

    correlation: Tensor
    overlap: Tensor


def map_similarity(
    first: Tensor, second: Tensor, pixels: Tensor, share: float = TOP_SHARE, seed: int = 0
) -> Similarity:
    """Rank correlation and top overlap of two maps (B, H, W) of the same pixels (B, C, H, W).

    Raises `InputError` for maps of other shapes or with values that are not finite, `ChoiceError`
    for a share outside (0, 1].

    >>> pixels = torch.rand(2, 3, 4, 4)
    >>> found = map_similarity(pixels.amax(1), 2 * pixels.amax(1), pixels, share=0.5)
    >>> found.correlation.tolist(), found.overlap.tolist()
    ([1.0, 1.0], [1.0, 1.0])
    """
    return Similarity(
        rank_correlation(first, second), top_overlap(first, second, pixels, share, seed)
    )


def average_ranks(values: Tensor) -> Tensor:
    """Ranks 1..N of each row (B, N) in float64, equal values sharing the mean of their places.

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

    Ties share the mean of their places. A constant map orders nothing: its rho is 0, which is what
    a random order has in the mean. Raises `InputError` for other shapes or values not finite.

    >>> rank_correlation(torch.tensor([[[1.0, 2.0, 3.0]]]), torch.tensor([[[1.0, 3.0, 2.0]]]))
    tensor([0.5000], dtype=torch.float64)
    """
    _check(first, second)
    return ranks_correlation(average_ranks(first.flatten(1)), average_ranks(second.flatten(1)))


def ranks_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation (B,) of ranks (B, N) in float64; 0 where one of them is constant."""
    a, b = (ranks - ranks.mean(dim=1, keepdim=True) for ranks in (first, second))
    size = (a.square().sum(dim=1) * b.square().sum(dim=1)).sqrt()
    found = (a * b).sum(dim=1) / torch.where(size > 0, size, 1.0)
    return found.clamp(-1, 1)


def top_overlap(
    first: Tensor, second: Tensor, pixels: Tensor, share: float = TOP_SHARE, seed: int = 0
) -> Tensor:
    """The share of one map's top round(share N) pixels that are the other's too, per image (B,).

    Each map breaks its ties by a random order of its own, drawn from `seed` and the image's pixels,
    so pixels that neither map tells apart meet as often as chance has it: k/N of them.
    """
    _check(first, second)
    count = top_count(first[0].numel(), share)
    tops = (
        top_mask(values, tie_priority(pixels, seed + place), count)
        for place, values in ((0, first), (_OTHER_TIES, second))
    )
    return masks_overlap(*tops)


def top_mask(values: Tensor, priority: Tensor, count: int) -> Tensor:
    """Which pixels (B, N) are a map's (B, H, W) highest `count`, ties in the order `priority`."""
    return pixel_rank(pixel_order(values, priority)) < count


def masks_overlap(first: Tensor, second: Tensor) -> Tensor:
    """The share of the first mask's pixels (B, N) that the second has too: (B,) in float64."""
    return (first & second).sum(dim=1).double() / first.sum(dim=1).double()


def top_count(pixels: int, share: float) -> int:
    """How many of N pixels a share is: at least one; raises `ChoiceError` outside (0, 1]."""
    if not 0 < share <= 1:
        raise ChoiceError(f"share is {share}: expected a number in (0, 1]")
    return max(1, round(share * pixels))


def _check(first: Tensor, second: Tensor) -> None:
    for values in (first, second):
        if values.ndim != 3 or values.shape != first.shape or not values.isfinite().all():
            raise InputError(
                f"maps have shapes {tuple(first.shape)} and {tuple(second.shape)}: "
                "expected two finite maps (B, H, W) of the same images"
            )
