"""What part of a photo a network sees, and at which size."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from chiaroscuro.choices import Framing
from chiaroscuro.images.photos import Photo
from chiaroscuro.results.facts import CropBox

PAD_VALUE = 0.5


def frame(photo: Photo, framing: Framing, channels: int = 3) -> tuple[NDArray[np.float32], CropBox]:
    """The pixels (C, H, W) in [0, 1] that a network with this framing sees, and where they lie.

    Resizing is Pillow's, on the photo's own bit depth, as torchvision and timm do it.

    >>> picture = Image.new("RGB", (40, 20), "white")
    >>> pixels, box = frame(Photo(picture, "white", ""), Framing(size=(10, 10)))
    >>> pixels.shape, (box.left, box.right)
    ((3, 10, 10), (10.0, 30.0))
    """
    image = photo.image
    if framing.size is None:
        window = (0, 0, image.width, image.height)
        scaled = image
    else:
        scaled, window = _scale(image, framing)
    return _to_pixels(scaled.crop(window), channels, window, scaled.size), _box(
        image, scaled, window
    )


def _scale(image: Image.Image, framing: Framing) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """The resized photo and the window (left, top, right, bottom) to cut from it."""
    assert framing.size is not None
    height, width = framing.size
    if framing.fit == "stretch":
        down, across = framing.canvas or framing.size
        new = (across, down)
    else:
        new = _scaled_sides(image, framing)
    resample = Image.Resampling[framing.interpolation.upper()]
    scaled = image if new == image.size else image.resize(new, resample)
    left, top = round((new[0] - width) / 2), round((new[1] - height) / 2)
    return scaled, (left, top, left + width, top + height)


def _scaled_sides(image: Image.Image, framing: Framing) -> tuple[int, int]:
    """Width and height after scaling with the aspect kept: covering (crop) or inside (pad)."""
    assert framing.size is not None
    crop = framing.fit == "crop"
    height, width = (framing.canvas or framing.size) if crop else framing.size
    if crop and height != width:  # timm's rule; torchvision's below knows square sizes only
        ratio = min(image.height / height, image.width / width)
        return round(image.width / ratio), round(image.height / ratio)
    by_width = width * image.height, height * image.width
    fits_width = by_width[0] >= by_width[1] if crop else by_width[0] <= by_width[1]
    if fits_width:
        return width, max(1, width * image.height // image.width)
    return max(1, height * image.width // image.height), height


def _to_pixels(
    cut: Image.Image, channels: int, window: tuple[int, int, int, int], scaled: tuple[int, int]
) -> NDArray[np.float32]:
    if cut.mode == "F":
        gray = np.clip(np.asarray(cut, np.float32), 0, 1)
        pixels = np.repeat(gray[None], channels, axis=0)
    else:
        picture = cut.convert("L") if channels == 1 else cut
        array = np.asarray(picture, np.float32).reshape(cut.height, cut.width, channels)
        pixels = np.ascontiguousarray(array.transpose(2, 0, 1)) / np.float32(255)
    left, top, right, bottom = window
    width, height = scaled
    pixels[:, : max(0, -top)] = PAD_VALUE
    pixels[:, :, : max(0, -left)] = PAD_VALUE
    pixels[:, pixels.shape[1] - max(0, bottom - height) :] = PAD_VALUE
    pixels[:, :, pixels.shape[2] - max(0, right - width) :] = PAD_VALUE
    return pixels


def _box(image: Image.Image, scaled: Image.Image, window: tuple[int, int, int, int]) -> CropBox:
    across, down = image.width / scaled.width, image.height / scaled.height
    left, top, right, bottom = window
    return CropBox(
        left * across, top * down, right * across, bottom * down, image.width, image.height
    )
