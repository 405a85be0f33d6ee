"""Colors with a meaning: orange where brighter helps, blue where darker helps, zero fixed.

The pair is told apart by every common form of color blindness, and each ramp rises in lightness.
"""

import numpy as np
from numpy.typing import NDArray

from chiaroscuro.choices import Helps

Rgb = NDArray[np.uint8]

ZERO = (14, 16, 20)
BRIGHTER = (240, 120, 20)
DARKER = (40, 130, 235)
_RAMPS: dict[Helps, tuple[tuple[int, int, int], ...]] = {
    "either": (ZERO, (128, 128, 128), (255, 255, 255)),
    "brighter": (ZERO, BRIGHTER, (255, 240, 190)),
    "darker": (ZERO, DARKER, (205, 240, 255)),
}
_MORE, _LESS = (0, 158, 115), (190, 90, 170)
CLASS_COLORS: tuple[tuple[int, int, int], ...] = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178),
    (213, 94, 0), (204, 121, 167),
)  # fmt: skip
"""Okabe and Ito's palette, distinct under color blindness."""
OTHER_CLASS = (110, 110, 115)


def one_sided(values: NDArray[np.floating], limit: float, helps: Helps) -> Rgb:
    """A map (H, W) >= 0 as a picture (H, W, 3): 0 is near-black, `limit` and above the lightest."""
    return _ramp(_share(values, limit), _RAMPS[helps])


def two_sided(values: NDArray[np.floating], limit: float) -> Rgb:
    """A signed map (H, W) as a picture: 0 near-black, +limit light orange, -limit light blue."""
    share = _share(values, limit)
    bright, dark = _ramp(share, _RAMPS["brighter"]), _ramp(-share, _RAMPS["darker"])
    bright[share < 0] = dark[share < 0]
    return bright


def overlay(values: NDArray[np.floating], limit: float, gray: NDArray[np.floating]) -> Rgb:
    """A signed map (H, W) over a gray photo (H, W) in [0, 1]: 0 shows the photo alone."""
    share = _share(values, limit)
    photo = np.repeat((80 + 130 * gray)[..., None], 3, axis=2)
    hue = np.where((share > 0)[..., None], np.array(BRIGHTER), np.array(DARKER))
    cover = np.abs(share)[..., None]
    blend: NDArray[np.float64] = photo * (1 - cover) + hue * cover
    return np.rint(blend).astype(np.uint8)


def difference(values: NDArray[np.floating], limit: float) -> Rgb:
    """A difference of two maps (H, W): 0 near-black, more in the second green, in the first purple.

    Other hues than those of a map, since its sign tells nothing of brighter or darker.
    """
    share = _share(values, limit)
    more, less = (
        _ramp(share, (ZERO, _MORE, (215, 255, 235))),
        _ramp(-share, (ZERO, _LESS, (255, 225, 250))),
    )
    more[share < 0] = less[share < 0]
    return more


def class_colors(classes: NDArray[np.integer]) -> tuple[Rgb, dict[int, tuple[int, int, int]]]:
    """A class map (H, W) as a picture, with the colors of its most frequent classes.

    Other classes are gray; -1 (a tie) has the color of zero.
    """
    found, counts = np.unique(classes[classes >= 0], return_counts=True)
    common = found[np.argsort(-counts, kind="stable")][: len(CLASS_COLORS)]
    colors = {int(k): color for k, color in zip(common, CLASS_COLORS, strict=False)}
    picture = np.empty((*classes.shape, 3), np.uint8)
    picture[:] = OTHER_CLASS
    picture[classes < 0] = ZERO
    for index, color in colors.items():
        picture[classes == index] = color
    return picture, colors


def _share(values: NDArray[np.floating], limit: float) -> NDArray[np.float64]:
    """Values as shares of the limit in [-1, 1]; a limit of 0 belongs to an empty map."""
    if limit <= 0:
        return np.zeros(values.shape)
    return np.clip(np.asarray(values, np.float64) / limit, -1, 1)


def _ramp(share: NDArray[np.float64], stops: tuple[tuple[int, int, int], ...]) -> Rgb:
    places = np.linspace(0, 1, len(stops))
    channels = [np.interp(share, places, [stop[c] for stop in stops]) for c in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)
