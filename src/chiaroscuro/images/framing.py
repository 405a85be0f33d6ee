"""What part of a photo a network sees, and at which size."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from chiaroscuro.choices import FITS, INTERPOLATIONS, Fit, check_names
from chiaroscuro.errors import ChoiceError
from chiaroscuro.images.photos import Photo

PAD_VALUE = 0.5


@dataclass(frozen=True, slots=True)
class Framing:
    """How a photo becomes pixels of a network's size.

    `size` (H, W) in pixels; None takes photos as they are. `fit`: "crop" scales the photo until it
    covers `canvas` (H, W) and cuts `size` out of the middle, "stretch" scales both sides to
    `canvas` and cuts too, "pad" scales it into `size` and fills the rest with mid-gray. `canvas` is
    `size` unless given.
    """

    size: tuple[int, int] | None = None
    canvas: tuple[int, int] | None = None
    fit: Fit = "crop"
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        check_names("fit", [self.fit], FITS)
        check_names("interpolation", [self.interpolation], INTERPOLATIONS)
        for name, sides in (("size", self.size), ("canvas", self.canvas)):
            if sides is not None and (len(sides) != 2 or min(sides) < 1):
                raise ChoiceError(f"{name} is {sides}: expected (height, width) in pixels")
        if self.size and self.canvas and np.any(np.less(self.canvas, self.size)):
            raise ChoiceError(f"canvas {self.canvas} is smaller than size {self.size}")

    def with_fit(self, fit: Fit | None) -> "Framing":
        """The same framing with another fit; None keeps this one."""
        return self if fit is None else replace(self, fit=fit)


@dataclass(frozen=True, slots=True)
class CropBox:
    """The rectangle of the upright photo that the network saw, in photo pixels, edges included.

    A padded photo has a box that reaches beyond it.
    """

    left: float
    top: float
    right: float
    bottom: float
    photo_width: int
    photo_height: int


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
