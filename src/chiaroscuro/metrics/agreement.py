"""How far a map agrees with a region of the image, and with another map."""

from dataclasses import dataclass
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from chiaroscuro.choices import as_float, as_int
from chiaroscuro.edits import check_map, pixel_order, pixel_rank, tie_priority
from chiaroscuro.errors import ChoiceError, InputError, brief


@dataclass(frozen=True, eq=False)
class Localization:
    """Where the maps of B images point, each (B,) in float64 and in [0, 1].

    `hit`: whether the highest pixel lies in the region; `energy`: the share of the map's absolute
    values in it. Baselines that do not depend on the map: `chance_hit` and `chance_energy` of a
    random order, and `center_hit`, of the middle pixel, since objects tend to be in the middle.
    """

    hit: Tensor
    energy: Tensor
    chance_hit: Tensor
    chance_energy: Tensor
    center_hit: Tensor
    __repr__ = brief


def localization(values: Tensor, regions: Tensor, tolerance: int = 0) -> Localization:
    """The pointing game and the energy share of maps (B, H, W) in regions (B, H, W) of booleans.

    hit = 1 if the pixel of the largest value lies in the region, or at most `tolerance` pixels (in
    rows and in columns) from it; if several share the largest value, the share of them that does.
    energy = sum of abs(values) in the region / sum of abs(values), without the tolerance; for a
    map of zeros, the region's share of the image.
    chance_hit and chance_energy are the shares of pixels in the (widened) region: exactly the
    expectation over random orders.

    Raises `InputError` for other shapes, values that are not finite, or an empty region;
    `ChoiceError` for a tolerance that is no whole number >= 0.
    Source: Zhang et al., Top-down neural attention by excitation backprop, 2016 (pointing game);
    Wang et al., Score-CAM, 2020 (energy).

    >>> region = torch.tensor([[[True, False], [False, False]]])
    >>> result = localization(torch.tensor([[[3.0, 1.0], [0.0, -2.0]]]), region)
    >>> result.hit.item(), result.energy.item(), result.chance_hit.item()
    (1.0, 0.5, 0.25)
    """
    check_map(values)
    if values.shape != regions.shape or regions.dtype != torch.bool:
        raise InputError(
            f"regions have shape {tuple(regions.shape)} and are {regions.dtype}: expected booleans "
            f"(B, H, W) = {tuple(values.shape)}"
        )
    flat, inside = values.flatten(1), regions.flatten(1)
    if not inside.any(dim=1).all():
        raise InputError("a region is empty: leave images without one out")
    tolerance = as_int("tolerance", tolerance)
    if tolerance < 0:
        raise ChoiceError(f"tolerance is {tolerance}: expected a number of pixels, 0 or more")
    side = 2 * tolerance + 1
    pool = F.max_pool2d if values.ndim == 3 else F.max_pool3d
    wide = pool(regions[:, None].float(), side, 1, tolerance)[:, 0] > 0
    near = wide.flatten(1)
    highest = flat == flat.amax(dim=1, keepdim=True)
    size = flat.abs().double()
    total, share = size.sum(dim=1), inside.double().mean(dim=1)
    within = torch.where(inside, size, 0.0).sum(dim=1)
    return Localization(
        hit=(highest & near).sum(dim=1).double() / highest.sum(dim=1).double(),
        energy=torch.where(total > 0, within / torch.where(total > 0, total, 1.0), share),
        chance_hit=near.double().mean(dim=1),
        chance_energy=share,
        center_hit=reduce(lambda part, n: part.select(1, n // 2), values.shape[1:], wide).double(),
    )


@dataclass(frozen=True, eq=False)
class Similarity:
    """How similar two maps of B images are: `correlation` of ranks and `overlap` of tops, (B,)."""

    correlation: Tensor
    overlap: Tensor
    __repr__ = brief


def map_similarity(
    first: Tensor, second: Tensor, pixels: Tensor, share: float = 0.1, seed: int = 0
) -> Similarity:
    """How similar two maps (B, H, W) of the same pixels (B, C, H, W) order them, per image (B,).

    `correlation` is Spearman's rho: Pearson's of the ranks, where ties share the mean of theirs; 0,
    the mean of a random order, where a map is constant. `overlap` is the share of one map's top
    k = round(share N) pixels that the other's top has too. There each map breaks its ties by a
    random order of its own, drawn from `seed` and the image's pixels, so pixels that are tied in
    both maps coincide at chance level, k / N.

    Raises `InputError` for maps of other shapes or with values that are not finite, `ChoiceError`
    for a share outside (0, 1].

    >>> pixels = torch.rand(2, 3, 4, 4)
    >>> result = map_similarity(pixels.amax(1), 2 * pixels.amax(1), pixels, share=0.5)
    >>> result.correlation.tolist(), result.overlap.tolist()
    ([1.0, 1.0], [1.0, 1.0])
    """
    maps = {"first map": first, "second map": second}
    for name, values in maps.items():
        check_map(values, name)
        if (len(pixels), *pixels.shape[2:]) != values.shape:
            raise InputError(
                f"{name} has shape {tuple(values.shape)}: expected (B, H, W) of the pixels' "
                f"{tuple(pixels.shape)}"
            )
    count = top_count(first[0].numel(), share)
    # The two break their ties by orders of different seeds.
    tops = [
        top_mask(each, tie_priority(pixels, seed + n), count)
        for n, each in enumerate(maps.values())
    ]
    ranks = [average_ranks(each.flatten(1)) for each in maps.values()]
    return Similarity(ranks_correlation(*ranks), masks_overlap(*tops))


def average_ranks(values: Tensor) -> Tensor:
    """Ranks 1..N of each row (B, N) in float64, equal values sharing the mean of their ranks."""
    values = values.contiguous()
    rising = values.sort(dim=1).values
    below = torch.searchsorted(rising, values)
    upto = torch.searchsorted(rising, values, right=True)
    return (below + 1 + upto).double() / 2


def ranks_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's correlation (B,) of ranks (B, N) in float64; 0 where one of them is constant."""
    a, b = (ranks - ranks.mean(dim=1, keepdim=True) for ranks in (first, second))
    size = (a.square().sum(dim=1) * b.square().sum(dim=1)).sqrt()
    return ((a * b).sum(dim=1) / torch.where(size > 0, size, 1.0)).clamp(-1, 1)


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
