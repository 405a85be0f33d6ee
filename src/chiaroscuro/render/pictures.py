"""Maps as pictures: orange where brighter helps, blue where darker helps, zero has one color.

Common forms of color blindness see the two hues apart, and each ramp rises in lightness.
"""

import numpy as np
from numpy.typing import NDArray

from chiaroscuro.choices import Helps

Rgb = NDArray[np.uint8]
Color = tuple[int, int, int]
Ramp = tuple[Color, ...]

CLIP = 0.99
"""Color limits are this quantile of a map's non-zero sizes: one pixel cannot darken the rest."""
ZERO = (14, 16, 20)
BRIGHTER = (240, 120, 20)
DARKER = (40, 130, 235)
SUPPORTS, OPPOSES = (0, 158, 115), (190, 90, 170)
"""Other hues than those of a map, where a sign tells nothing of brighter or darker."""
BRIGHT_RAMP: Ramp = (ZERO, BRIGHTER, (255, 240, 190))
DARK_RAMP: Ramp = (ZERO, DARKER, (205, 240, 255))
RAMPS: dict[Helps, Ramp] = {
    "either": (ZERO, (128, 128, 128), (255, 255, 255)),
    "brighter": BRIGHT_RAMP,
    "darker": DARK_RAMP,
    "supports": (ZERO, SUPPORTS, (215, 255, 235)),
    "opposes": (ZERO, OPPOSES, (255, 225, 250)),
}
"""Colors from zero to the limit of a map's values."""
HUES: dict[Helps, Color] = {
    "either": (205, 60, 190),
    "brighter": BRIGHTER,
    "darker": DARKER,
    "supports": SUPPORTS,
    "opposes": OPPOSES,
}
"""Colors of a map that lies over the gray photo."""
GRAY = (80, 130)
"""The gray photo below a map: black, and what white adds."""
CLASS_COLORS: Ramp = (
    (48, 191, 120), (237, 166, 255), (255, 227, 115), (111, 69, 153), (153, 38, 50),
    (149, 230, 213), (119, 153, 38),
)  # fmt: skip
"""Distinct under color blindness, and none is the orange or the blue of the other maps."""
OTHER_CLASS = (110, 110, 115)
OUTLINE = (255, 0, 170)
"""A hue that neither photos nor the maps' two colors have much of."""
_SIDE = 896
"""Pixels of the longer side of an enlarged picture."""


def one_sided(values: NDArray[np.floating], limit: float, helps: Helps) -> Rgb:
    """A map (H, W) >= 0 as a picture (H, W, 3): 0 is near-black, `limit` and above the lightest."""
    return _ramp(_share(values, limit), RAMPS[helps])


def two_sided(
    values: NDArray[np.floating], limit: float, up: Ramp = BRIGHT_RAMP, down: Ramp = DARK_RAMP
) -> Rgb:
    """A signed map (H, W) as a picture: 0 near-black, +limit light orange, -limit light blue."""
    share = _share(values, limit)
    bright, dark = _ramp(share, up), _ramp(-share, down)
    bright[share < 0] = dark[share < 0]
    return bright


def overlay(
    values: NDArray[np.floating],
    limit: float,
    gray: NDArray[np.floating],
    up: Color = BRIGHTER,
    down: Color = DARKER,
) -> Rgb:
    """A signed map (H, W) over a gray photo (H, W) in [0, 1]: 0 shows the photo alone."""
    share = _share(values, limit)
    photo = np.repeat((GRAY[0] + GRAY[1] * gray)[..., None], 3, axis=2)
    hue = np.where((share > 0)[..., None], np.array(up), np.array(down))
    cover = np.abs(share)[..., None]
    blend: NDArray[np.float64] = photo * (1 - cover) + hue * cover
    return np.rint(blend).astype(np.uint8)


def difference(values: NDArray[np.floating], limit: float) -> Rgb:
    """A difference of two maps (H, W): 0 near-black, more in the second green, in the first purple.

    Other hues than those of a map, since its sign tells nothing of brighter or darker.
    """
    return two_sided(values, limit, RAMPS["supports"], RAMPS["opposes"])


def class_colors(classes: NDArray[np.integer]) -> tuple[Rgb, dict[int, Color]]:
    """A class map (H, W) as a picture, with the colors of its most frequent classes.

    Other classes are gray; -1 (a tie) has the color of zero.
    """
    present, counts = np.unique(classes[classes >= 0], return_counts=True)
    common = present[np.argsort(-counts, kind="stable")][: len(CLASS_COLORS)]
    colors = {int(k): color for k, color in zip(common, CLASS_COLORS, strict=False)}
    picture = np.empty((*classes.shape, 3), np.uint8)
    picture[:] = OTHER_CLASS
    picture[classes < 0] = ZERO
    for index, color in colors.items():
        picture[classes == index] = color
    return picture, colors


def smooth(values: NDArray[np.floating], sigma: float) -> NDArray[np.float64]:
    """A map (H, W) under a Gaussian of standard deviation sigma pixels, cut at 4 sigma.

    Near an edge the weights inside the map are scaled to sum to 1, so a constant map stays
    constant. Sigma 0 returns the map.

    >>> smooth(np.ones((5, 5)), 1.0).round(6).min()
    np.float64(1.0)
    """
    result = np.asarray(values, np.float64)
    if sigma <= 0:
        return result
    reach = int(4 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return _blurred(_blurred(result, weights).T, weights).T


def _blurred(values: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The weighted means of each column (H, W), over what of the weights lies inside of it."""
    height, reach = len(values), len(weights) // 2
    padded = np.pad(values, ((reach, reach), (0, 0)))
    inside = np.pad(np.ones(height), reach)
    total, shares = np.zeros(values.shape), np.zeros(height)
    for shift, weight in enumerate(weights):  # a matrix product would wake threads for this
        total += weight * padded[shift : shift + height]
        shares += weight * inside[shift : shift + height]
    return total / shares[:, None]


def enlarged(picture: Rgb, side: int = _SIDE) -> Rgb:
    """A picture (H, W, 3) with every pixel a square, its longer side about `side`."""
    times = max(1, round(side / max(picture.shape[:2])))
    return picture.repeat(times, axis=0).repeat(times, axis=1)


def outlined(picture: Rgb, mask: NDArray[np.bool_], side: int = _SIDE, width: int = 0) -> Rgb:
    """The enlarged picture with a line around every region of the mask (H, W), drawn inside it.

    Marked pixels that touch are one region; the line takes a quarter of a pixel at most, so what
    the pixels show stays visible, unless it has a `width`. A picture with more pixels than `side`
    has room for is marked pixel by pixel.

    >>> marked = outlined(np.zeros((2, 2, 3), np.uint8), np.eye(2, dtype=bool), side=16)
    >>> (marked[0, 0] == OUTLINE).all(), marked[4, 4].tolist(), marked[4, 12].tolist()
    (np.True_, [0, 0, 0], [0, 0, 0])
    """
    large = enlarged(picture, side)
    times = large.shape[0] // picture.shape[0]
    inside = mask.repeat(times, axis=0).repeat(times, axis=1)
    core = inside
    for _ in range(width or max(1, times // 8)):
        core = _eroded(core)
    large[inside & ~core] = OUTLINE
    return large


def outline(
    mask: NDArray[np.bool_], x: tuple[float, float] = (0, 1), y: tuple[float, float] = (0, 1)
) -> str:
    """The line around every part of a mask (H, W) as the path of an SVG.

    `x` and `y`: where the mask begins, and the size of its pixels.

    >>> outline(np.array([[False, True]]), x=(10, 2))
    'M12 0H14M12 1H14M12 0V1M14 0V1'
    """
    padded = np.pad(mask, 1).astype(np.int8)
    parts = []
    for edges, line in (
        (np.diff(padded, axis=0)[:, 1:-1], "M{0:.6g} {2:.6g}H{1:.6g}"),
        (np.diff(padded, axis=1)[1:-1].T, "M{2:.6g} {0:.6g}V{1:.6g}"),
    ):
        (first, step), (start, across) = (x, y) if "H" in line else (y, x)
        for place, edge in enumerate(edges != 0):
            ends = first + step * np.flatnonzero(np.diff(np.pad(edge, 1).astype(np.int8)))
            at = start + across * place
            parts += [line.format(*pair, at) for pair in ends.reshape(-1, 2)]
    return "".join(parts)


def _share(values: NDArray[np.floating], limit: float) -> NDArray[np.float64]:
    """Values as shares of the limit in [-1, 1]; a limit of 0 belongs to an empty map."""
    if limit <= 0:
        return np.zeros(values.shape)
    return np.clip(np.asarray(values, np.float64) / limit, -1, 1)


def _ramp(share: NDArray[np.float64], stops: Ramp) -> Rgb:
    positions = np.linspace(0, 1, len(stops))
    channels = [np.interp(share, positions, [stop[c] for stop in stops]) for c in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def _eroded(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask without the pixels at its border; the picture's edge is a border too."""
    padded = np.pad(mask, 1)
    kept: NDArray[np.bool_] = (
        mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    )
    return kept
