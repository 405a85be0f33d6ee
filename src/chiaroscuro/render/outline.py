"""Pixels marked on a picture by a line around them."""

import numpy as np
from numpy.typing import NDArray

from chiaroscuro.render.colors import Rgb

OUTLINE = (255, 0, 170)
"""A hue that neither photos nor the maps' two colors have much of."""
_SIDE = 896


def enlarged(picture: Rgb, side: int = _SIDE) -> Rgb:
    """A picture (H, W, 3) with every pixel a square, its longer side about `side`."""
    times = _times(picture.shape, side)
    return picture.repeat(times, axis=0).repeat(times, axis=1)


def outlined(picture: Rgb, mask: NDArray[np.bool_], side: int = _SIDE) -> Rgb:
    """The enlarged picture with a line around every region of the mask (H, W), drawn inside it.

    Marked pixels that touch are one region; the line takes a quarter of a pixel at most, so what
    the pixels show stays visible. A picture with more pixels than `side` has room for is marked
    pixel by pixel.

    >>> marked = outlined(np.zeros((2, 2, 3), np.uint8), np.eye(2, dtype=bool), side=16)
    >>> (marked[0, 0] == OUTLINE).all(), marked[4, 4].tolist(), marked[4, 12].tolist()
    (np.True_, [0, 0, 0], [0, 0, 0])
    """
    large = enlarged(picture, side)
    times = _times(picture.shape, side)
    inside = mask.repeat(times, axis=0).repeat(times, axis=1)
    width = max(1, times // 8)
    core = inside
    for _ in range(width):
        core = _eroded(core)
    large[inside & ~core] = OUTLINE
    return large


def _times(shape: tuple[int, ...], side: int) -> int:
    return max(1, round(side / max(shape[:2])))


def _eroded(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask without the pixels at its border; the picture's edge is a border too."""
    padded = np.pad(mask, 1)
    kept: NDArray[np.bool_] = (
        mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    )
    return kept
