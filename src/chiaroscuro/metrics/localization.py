"""Whether a map points at the object: the pointing game and the energy inside a region."""

from dataclasses import dataclass

import torch
from torch import Tensor

from chiaroscuro.choices import as_int
from chiaroscuro.edits import check_map
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
    _check(values, regions)
    tolerance = as_int("tolerance", tolerance)
    if tolerance < 0:
        raise ChoiceError(f"tolerance is {tolerance}: expected a number of pixels, 0 or more")
    wide = widened(regions, tolerance)
    flat, inside, near = values.flatten(1), regions.flatten(1), wide.flatten(1)
    highest = flat == flat.amax(dim=1, keepdim=True)
    size = flat.abs().double()
    total = size.sum(dim=1)
    share = inside.double().mean(dim=1)
    within = torch.where(inside, size, 0.0).sum(dim=1)
    return Localization(
        hit=(highest & near).sum(dim=1).double() / highest.sum(dim=1).double(),
        energy=torch.where(total > 0, within / torch.where(total > 0, total, 1.0), share),
        chance_hit=near.double().mean(dim=1),
        chance_energy=share,
        center_hit=wide[:, values.shape[1] // 2, values.shape[2] // 2].double(),
    )


def widened(regions: Tensor, tolerance: int) -> Tensor:
    """Regions (B, H, W) with every pixel at most `tolerance` rows and columns away."""
    side = 2 * tolerance + 1
    grown = torch.nn.functional.max_pool2d(regions[:, None].float(), side, 1, tolerance)
    return grown[:, 0] > 0


def _check(values: Tensor, regions: Tensor) -> None:
    check_map(values)
    if values.shape != regions.shape or regions.dtype != torch.bool:
        raise InputError(
            f"regions have shape {tuple(regions.shape)} and are {regions.dtype}: expected booleans "
            f"(B, H, W) = {tuple(values.shape)}"
        )
    if not regions.flatten(1).any(dim=1).all():
        raise InputError("a region is empty: leave images without one out")
