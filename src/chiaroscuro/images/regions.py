"""Boxes and masks on a photo as the network's pixels whose middles lie inside."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiaroscuro.errors import ImageError, InputError
from chiaroscuro.files import leads_out
from chiaroscuro.images.photos import image_errors, open_image, read_file
from chiaroscuro.regions import Corners
from chiaroscuro.results.facts import CropBox

Mask = NDArray[np.bool_]
Shape = tuple[int, int]


def box_mask(box: Corners, crop: CropBox, shape: Shape) -> Mask:
    """Which of the network's pixels (H, W) have their middle in a box on the photo."""
    left, top, right, bottom = box
    y, x = _middles(crop, shape)
    inside: Mask = ((y >= top) & (y < bottom))[:, None] & ((x >= left) & (x < right))
    return inside


def read_mask(file: Path) -> Mask:
    """What is not 0 in any color of a picture."""
    try:
        with image_errors(str(file)):
            image = open_image(read_file(file, str(file)), str(file))
            values = np.asarray(image)
            opaque = [c for c, band in enumerate(image.getbands()) if band != "A"]
    except ImageError as error:
        raise InputError(f"{error}: expected a mask") from error
    mask: Mask = values.reshape(*values.shape[:2], -1)[..., opaque].max(axis=2) != 0
    return mask


def mask_file(folder: Path, name: str) -> Path | None:
    """The mask of a photo in a folder of PNG files named as the photos are."""
    names = (f"{name}.png", str(Path(name).with_suffix(".png")))
    found = (file for n in names if (file := folder / n).is_file())
    return next((file for file in found if not leads_out(file, folder)), None)


def photo_mask(mask: NDArray[Any], crop: CropBox, shape: Shape, what: object = "mask") -> Mask:
    """A mask (H', W') of a photo at the middles of the network's pixels; outside it is nothing."""
    if mask.shape != (crop.photo_height, crop.photo_width):
        raise InputError(
            f"{what}: {mask.shape[1]} x {mask.shape[0]} px, its photo has {crop.photo_width} x "
            f"{crop.photo_height}: give masks of the photos' size"
        )
    padded = np.pad(mask, 1) != 0
    rows, columns = (
        np.clip(np.floor(middles).astype(int) + 1, 0, side + 1)
        for middles, side in zip(_middles(crop, shape), mask.shape, strict=True)
    )
    inside: Mask = padded[rows][:, columns]
    return inside


def axes_on_photo(crop: CropBox, shape: Shape) -> tuple[tuple[float, float], tuple[float, float]]:
    """Of columns and rows, where the network's pixels (H, W) begin on the photo, and their size."""
    height, width = crop.bottom - crop.top, crop.right - crop.left
    return (crop.left, width / shape[1]), (crop.top, height / shape[0])


def _middles(crop: CropBox, shape: Shape) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Where on the upright photo the middles of the network's rows and columns lie."""
    (left, across), (top, down) = axes_on_photo(crop, shape)
    return top + (np.arange(shape[0]) + 0.5) * down, left + (np.arange(shape[1]) + 0.5) * across


def box_on_network(box: Corners, crop: CropBox, shape: Shape) -> Corners:
    """A box on the photo in the network's pixels (H, W)."""
    (x, across), (y, down) = axes_on_photo(crop, shape)
    left, top, right, bottom = box
    return (left - x) / across, (top - y) / down, (right - x) / across, (bottom - y) / down


def box_on_photo(box: Corners, crop: CropBox, shape: Shape) -> Corners:
    """A box in the network's pixels (H, W) on the photo."""
    (x, across), (y, down) = axes_on_photo(crop, shape)
    left, top, right, bottom = box
    return x + left * across, y + top * down, x + right * across, y + bottom * down
