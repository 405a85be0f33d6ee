"""What callers hand in, as pixels; what a network returns, as logits."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from chiaroscuro.errors import ImageError, ModelError
from chiaroscuro.images import Photo, check_array, open_photo, photo_from_image, to_uint8
from chiaroscuro.results.facts import CropBox

Picture = str | Path | Photo | Image.Image | NDArray[Any] | Tensor
"""A file, a Pillow image, an array (H, W, C) or a tensor (C, H, W)."""


def opened(picture: Picture) -> Photo | NDArray[Any]:
    """A photo, or an array (H, W) or (H, W, C); arrays and tensors may be a batch of one."""
    if isinstance(picture, Tensor | np.ndarray) and picture.ndim == 4 and len(picture) == 1:
        picture = picture[0]
    shape = tuple(getattr(picture, "shape", ()))
    if isinstance(picture, Tensor):
        picture = to_numpy(picture.movedim(0, -1) if picture.ndim == 3 else picture)
    if isinstance(picture, str | Path):
        return open_photo(picture)
    if isinstance(picture, Image.Image):
        return photo_from_image(picture)
    if not isinstance(picture, Photo | np.ndarray):
        forms = "a path, a Pillow image, an array (H, W, C) or a tensor (C, H, W)"
        raise ImageError(f"image is a {type(picture).__name__}: expected {forms}")
    if not isinstance(picture, Photo) and (picture.ndim not in (2, 3) or picture.shape[2:] > (4,)):
        expected = "expected an array (H, W) or (H, W, C), or a tensor (C, H, W)"
        raise ImageError(f"image has shape {shape}: {expected}")
    return picture


def to_numpy(values: Tensor) -> NDArray[Any]:
    """A NumPy array of its own; half precision, which NumPy lacks in part, becomes float32."""
    values = values.detach().cpu().to_dense()
    half = values.dtype in (torch.float16, torch.bfloat16)
    return (values.float() if half else values).numpy().copy()


def as_pixels(array: NDArray[Any]) -> tuple[NDArray[np.float32], CropBox]:
    """An array of floats in [0, 1] or of bytes, taken as it is."""
    pixels = check_array(array / np.float32(255) if array.dtype == np.uint8 else array)
    height, width = pixels.shape[1:]
    return pixels, CropBox(0, 0, width, height, width, height)


def as_photo(array: NDArray[Any]) -> Photo:
    """An array of floats in [0, 1], or of bytes in up to four channels, as a photo."""
    if array.dtype != np.uint8:
        array = to_uint8(check_array(array))
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    return photo_from_image(Image.fromarray(array), "array")


def read_logits(output: Any, batch: int, name: str, classes: int | None) -> Tensor:
    """The logits (B, K) in an output: it, its part `logits` or `out`, or its one tensor (B, K).

    Of several such tensors they are the first with K = `classes`, where that is known.
    """
    if not isinstance(output, Tensor):
        output = _logits_among(output, batch, name, classes)
    logits = _squeezed(output)
    if logits.ndim != 2 or logits.shape[0] != batch or logits.shape[1] < 1:
        shape, expected = tuple(output.shape), f"expected logits (B, K) = ({batch}, K)"
        raise ModelError(f"{name} returned shape {shape} for {batch} images: {expected}")
    if not logits.is_floating_point():
        raise ModelError(f"{name} returned {output.dtype}: expected floating-point logits")
    return logits


def _logits_among(output: Any, batch: int, name: str, classes: int | None) -> Tensor:
    by_name = output.get if isinstance(output, Mapping) else lambda n: getattr(output, n, None)
    for part in map(by_name, ("logits", "out")):
        if isinstance(part, Tensor):
            return part
    parts = output.values() if isinstance(output, Mapping) else output
    several = isinstance(output, Mapping | Sequence)
    tensors = [part for part in parts if isinstance(part, Tensor)] if several else []
    fitting = [t for t in map(_squeezed, tensors) if t.ndim == 2 and t.shape[0] == batch]
    if len(fitting) > 1 and classes is not None:
        widths = (1, 2) if classes == 2 else (classes,)
        fitting = [t for t in fitting if t.shape[1] in widths][:1]  # auxiliary heads come after
    if len(fitting) == 1:
        return fitting[0]
    shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors) or "no tensors"
    raise ModelError(
        f"{name} returned a {type(output).__name__} with {shapes}: expected logits as a tensor "
        f"({batch}, K), ['logits'], ['out'] or .logits; give labels where several tensors could be "
        "the logits, or wrap the network in one that returns them"
    )


def _squeezed(tensor: Tensor) -> Tensor:
    return tensor.flatten(1) if tensor.ndim == 4 and tensor.shape[2:] == (1, 1) else tensor
