"""Photos and arrays as pixels: what part a network sees, at which size, and the way back."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from chiaroscuro.choices import MAX_PIXELS, Fit, Framing
from chiaroscuro.errors import ImageError
from chiaroscuro.images.photos import Photo, image_errors
from chiaroscuro.results.facts import CropBox

PAD_VALUE = 0.5
LUMA = (0.299, 0.587, 0.114)  # red, green and blue in a gray value (ITU-R BT.601, as Pillow)
Size = tuple[int, int]
Window = tuple[int, int, int, int]
Pixels = NDArray[np.float32]


def frame(photo: Photo, framing: Framing, channels: int = 3) -> tuple[Pixels, CropBox]:
    """The pixels (C, H, W) in [0, 1] that a network with this framing sees, and where they lie.

    Resizing is Pillow's, on the photo's own bit depth, as torchvision and timm do it.
    """
    image = photo.image
    if channels not in (1, 3):
        forms = "give an array (H, W, C) or a tensor (C, H, W)"
        raise ImageError(f"{photo.source}: a photo has 3 channels, the network {channels}: {forms}")
    scaled, window = _layout(image.size, framing)
    if (window[2] - window[0]) * (window[3] - window[1]) > MAX_PIXELS:
        sides = f"{image.width} x {image.height} px would become {window[2]} x {window[3]}"
        raise ImageError(f"{photo.source}: {sides}, expected at most {MAX_PIXELS:,} pixels")
    with image_errors(photo.source):
        pixels = _to_pixels(_cut(image, scaled, window, framing), channels, window, scaled)
    left, top, right, bottom = window
    across, down = image.width / scaled[0], image.height / scaled[1]
    box = (left * across, top * down, right * across, bottom * down)
    return pixels, CropBox(*box, image.width, image.height)


def _layout(photo: Size, framing: Framing) -> tuple[Size, Window]:
    """The size (width, height) of the scaled photo and the window (left, top, right, bottom)."""
    if framing.size is None:
        canvas = framing.canvas
        scaled = _scaled_sides(photo, framing.fit, *canvas) if canvas else photo
        return scaled, (0, 0, *scaled)
    height, width = framing.size
    sides = framing.size if framing.fit == "pad" else framing.canvas or framing.size
    scaled = _scaled_sides(photo, framing.fit, *sides)
    left, top = round((scaled[0] - width) / 2), round((scaled[1] - height) / 2)
    return scaled, (left, top, left + width, top + height)


def _scaled_sides(photo: Size, fit: Fit, height: int, width: int) -> Size:
    """Width and height after scaling: covering (crop), inside (pad), or both sides as given."""
    crop = fit == "crop"
    if fit == "stretch":
        return width, height
    if crop and height != width:  # timm's rule; torchvision's below knows square sizes only
        ratio = min(photo[1] / height, photo[0] / width)
        return round(photo[0] / ratio), round(photo[1] / ratio)
    by_width = width * photo[1], height * photo[0]
    if by_width[0] >= by_width[1] if crop else by_width[0] <= by_width[1]:
        return width, max(1, width * photo[1] // photo[0])
    return max(1, height * photo[0] // photo[1]), height


def _cut(image: Image.Image, scaled: Size, window: Window, framing: Framing) -> Image.Image:
    """The window of the scaled photo; of a photo that gets too large, nothing else is scaled."""
    resample = Image.Resampling[framing.interpolation.upper()]
    if scaled == image.size:
        return image.crop(window)
    if scaled[0] * scaled[1] <= MAX_PIXELS:
        return image.resize(scaled, resample).crop(window)
    left, top, right, bottom = window
    across, down = image.width / scaled[0], image.height / scaled[1]
    ends = min(right * across, image.width), min(bottom * down, image.height)
    return image.resize((right - left, bottom - top), resample, (left * across, top * down, *ends))


def _to_pixels(cut: Image.Image, channels: int, window: Window, scaled: Size) -> Pixels:
    if cut.mode == "F":
        gray = np.clip(np.asarray(cut, np.float32), 0, 1)
        pixels = np.repeat(gray[None], channels, axis=0)
    else:
        array = np.asarray(cut.convert("L") if channels == 1 else cut)
        array = array.reshape(cut.height, cut.width, channels)
        pixels = array.transpose(2, 0, 1).astype(np.float32, order="C")
        pixels /= np.float32(255)
    left, top, right, bottom = window
    rows, columns = np.arange(top, bottom), np.arange(left, right)
    pixels[:, (rows < 0) | (rows >= scaled[1])] = PAD_VALUE
    pixels[:, :, (columns < 0) | (columns >= scaled[0])] = PAD_VALUE
    return pixels


def on_photo(values: NDArray[Any], crop: CropBox) -> NDArray[Any]:
    """A map (H, W) of what a network saw, on the photo's own pixels (H', W'); NaN outside."""
    rows = _covering(crop.top, crop.bottom, values.shape[0], crop.photo_height)
    columns = _covering(crop.left, crop.right, values.shape[1], crop.photo_width)
    dtype = np.result_type(values, np.float32)
    drawn = np.full((crop.photo_height, crop.photo_width), np.nan, dtype)
    drawn[np.ix_(rows >= 0, columns >= 0)] = values[np.ix_(rows[rows >= 0], columns[columns >= 0])]
    return drawn


def _covering(first: float, last: float, count: int, photo: int) -> NDArray[np.int64]:
    """The network's row or column over the middle of each of the photo's; -1 outside."""
    places = np.floor((np.arange(photo) + 0.5 - first) / (last - first) * count).astype(np.int64)
    return np.where((places >= 0) & (places < count), places, -1)


def check_array(
    array: NDArray[Any], what: str = "image", *, volumes: bool = False, is_pixels: bool = True
) -> Pixels:
    """A picture (H, W) or (H, W, C) of floats as new float32 pixels (C, H, W).

    `volumes`: (D, H, W) or (D, H, W, C) as (C, D, H, W). `is_pixels`: values must be in [0, 1].
    """
    if array.ndim == 2 + volumes:
        array = array[..., None]
    if array.ndim != 3 + volumes or not array.size:
        side = "D, H, W" if volumes else "H, W"
        forms = f"an array ({side}) or ({side}, C), or a tensor (C, {side})"
        raise ImageError(f"{what} has shape {array.shape}: expected {forms}")
    if not np.issubdtype(array.dtype, np.floating):
        expected = "expected floats in [0, 1]; divide 8-bit values by 255"
        raise ImageError(f"{what} holds {array.dtype}: {expected}")
    if is_pixels:
        check_range(float(array.min()), float(array.max()), what)
    return np.array(np.moveaxis(array, -1, 0), dtype=np.float32, order="C")


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
    """Pixels (C, H, W) in [0, 1] as an 8-bit picture (H, W, 3); gray in three equal channels."""
    picture = np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0)
    return np.broadcast_to(picture, (*picture.shape[:2], 3)).copy()


def gray(pixels: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Pixels (C, H, W) as brightness (H, W): the one channel, or the BT.601 luma of three."""
    weights = np.asarray((1.0,) if pixels.shape[0] == 1 else LUMA, pixels.dtype)
    brightness: NDArray[np.floating[Any]] = np.einsum("c,chw->hw", weights, pixels)
    return brightness
