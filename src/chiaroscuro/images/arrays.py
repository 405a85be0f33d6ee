"""Arrays as pixels: what is accepted, and the way back to bytes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiaroscuro.errors import ImageError

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a gray value (ITU-R BT.601, what Pillow uses)."""


def check_array(array: NDArray[Any], what: str = "image") -> NDArray[np.float32]:
    """A picture (H, W), (H, W, 1) or (H, W, 3) of floats in [0, 1] as new float32 pixels (C, H, W).

    Raises `ImageError` for integers, NaN, values outside [0, 1] and other shapes.

    >>> check_array(np.zeros((4, 6, 3))).shape
    (3, 4, 6)
    """
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3):
        raise ImageError(
            f"{what} has shape {array.shape}: expected (H, W) or (H, W, C) with 1 or 3 channels"
        )
    if min(array.shape[:2]) < 1:
        raise ImageError(f"{what} has shape {array.shape}: it holds no pixels")
    if not np.issubdtype(array.dtype, np.floating):
        raise ImageError(
            f"{what} holds {array.dtype}: expected floats in [0, 1]; divide 8-bit values by 255"
        )
    check_range(float(array.min()), float(array.max()), what)
    return np.array(array.transpose(2, 0, 1), dtype=np.float32, order="C")


def check_range(low: float, high: float, what: str) -> None:
    """Raise `ImageError` unless the extremes of a picture are finite and lie in [0, 1]."""
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ImageError(f"{what} holds NaN or infinite values: expected floats in [0, 1]")
    if low < 0 or high > 1:
        raise ImageError(
            f"{what} has values from {low:.9g} to {high:.9g}: expected floats in [0, 1]; "
            "hand in pixels before normalization (the Classifier normalizes inside)"
        )


def to_uint8(pixels: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Pixels (C, H, W) in [0, 1] as an 8-bit picture (H, W, 3); gray becomes three equal channels.

    >>> to_uint8(np.full((1, 1, 1), 0.5, np.float32)).tolist()
    [[[128, 128, 128]]]
    """
    picture = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    return np.broadcast_to(picture, (*picture.shape[:2], 3)).copy()


def gray(pixels: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Pixels (C, H, W) as brightness (H, W): the one channel, or the BT.601 luma of three."""
    weights = np.asarray((1.0,) if pixels.shape[0] == 1 else LUMA, pixels.dtype)
    brightness: NDArray[np.floating[Any]] = np.einsum("c,chw->hw", weights, pixels)
    return brightness
