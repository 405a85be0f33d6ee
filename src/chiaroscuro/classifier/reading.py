"""What callers hand in, as pixels; what a network returns, as logits."""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from chiaroscuro.errors import ImageError, ModelError, first_line, printable
from chiaroscuro.images import (
    Photo,
    check_array,
    deep_range,
    open_photo,
    photo_from_image,
    read_file,
)
from chiaroscuro.results.facts import ImageFacts


@dataclass(frozen=True, eq=False)
class Given:
    """An array (H, W), (H, W, C), (D, H, W) or (D, H, W, C), and the file that it is from.

    `is_pixels`: its values are pixels, also for a classifier whose arrays are normalized.
    """

    values: NDArray[Any]
    source: str = "array"
    sha256: str = ""
    is_pixels: bool = False


@dataclass(frozen=True, eq=False)
class Read:
    """An array as pixels (C, H, W) or (C, D, H, W) in [0, 1], and where they come from."""

    pixels: NDArray[np.float32]
    facts: ImageFacts


Picture = str | Path | Photo | Given | Image.Image | NDArray[Any] | Tensor
"""A file, a Pillow image, an array (H, W, C) or a tensor (C, H, W); of volumes with D before H."""
Normalization = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and std per channel."""
_ROUNDING = 2e-3
"""How far outside [0, 1] pixels of normalized values may be: half precision rounds so."""


def opened(picture: Picture, *, volumes: bool = False) -> Photo | Given:
    """A photo, or an array with its channels last; arrays and tensors may be a batch of one."""
    axes, source, sha256 = 3 + volumes, "array", ""
    if isinstance(picture, str | Path) and Path(picture).suffix.lower() == ".npy":
        source = printable(picture)
        picture, sha256 = _array_in(read_file(Path(picture), source), source)
    if isinstance(picture, Tensor | np.ndarray) and picture.ndim == axes + 1 and len(picture) == 1:
        picture = picture[0]
    if isinstance(picture, Tensor):
        picture = to_numpy(picture.movedim(0, -1) if picture.ndim == axes else picture)
    if isinstance(picture, str | Path):
        return open_photo(picture)
    if isinstance(picture, Image.Image):
        return photo_from_image(picture)
    if isinstance(picture, Photo | Given):
        return picture
    if not isinstance(picture, np.ndarray):
        forms = "a path, a Pillow image, an array (H, W, C) or a tensor (C, H, W)"
        raise ImageError(f"image is a {type(picture).__name__}: expected {forms}")
    return Given(picture, source, sha256)


def _array_in(data: bytes, source: str) -> tuple[NDArray[Any], str]:
    """The array in the bytes of a NumPy file, and their hash; pickled objects are refused."""
    try:
        array: NDArray[Any] = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ImageError(f"{source}: no readable NumPy array ({first_line(error)})") from error
    return array, hashlib.sha256(data).hexdigest()


def to_numpy(values: Tensor) -> NDArray[Any]:
    """A NumPy array of its own; half precision, which NumPy lacks in part, becomes float32."""
    values = values.detach().cpu().to_dense()
    half = values.dtype in (torch.float16, torch.bfloat16)
    return (values.float() if half else values).numpy().copy()


def as_pixels(given: Given, *, volumes: bool, normalization: Normalization | None) -> Read:
    """An array of floats in [0, 1], of 8 or 16 bits, or of normalized floats, at its own size."""
    array, white = given.values, None
    notes: tuple[str, ...] = ()
    if array.dtype == np.uint8:
        array = array / np.float32(255)
    elif array.dtype == np.uint16:
        white, said = deep_range(float(array.max(initial=0)))
        array, notes = array / np.float32(white), (f"16-bit values{said}",)
    is_pixels = normalization is None or array is not given.values or given.is_pixels
    pixels = check_array(array, volumes=volumes, is_pixels=is_pixels)
    if normalization is not None and not is_pixels:
        notes = ("values were normalized: pixels are values * std + mean",)
        pixels = _unnormalized(pixels, *normalization)
    sha256 = given.sha256 or hashlib.sha256(pixels.tobytes()).hexdigest()
    return Read(pixels, ImageFacts(given.source, sha256, bool(given.sha256), notes, white))


def _unnormalized(
    values: NDArray[np.float32], mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.float32]:
    """Pixels of normalized values (C, ...); what rounding put outside [0, 1] is put back."""
    if len(values) != len(mean):
        raise ImageError(f"image has {len(values)} channels, mean and std {len(mean)}")
    column = (-1, *(1,) * (values.ndim - 1))
    pixels: NDArray[Any] = values * np.reshape(std, column) + np.reshape(mean, column)
    low, high = float(pixels.min()), float(pixels.max())
    if not -_ROUNDING <= low <= high <= 1 + _ROUNDING:
        raise ImageError(
            f"image has normalized values of pixels from {low:.4g} to {high:.4g}: expected [0, 1]; "
            "give the mean and std that made them, or pixels and no normalized=True"
        )
    return np.asarray(pixels.clip(0, 1), np.float32)


def as_photo(pixels: NDArray[np.float32]) -> Photo:
    """Pixels (C, H, W) in 1, 3 or (with alpha) 4 channels as a photo of 8 bits."""
    if pixels.ndim != 3 or len(pixels) not in (1, 3, 4):
        few = "only images of 1, 3 or 4 channels are brought to a network's size and channels"
        raise ImageError(f"image has shape {pixels.shape} (C, ...): {few}")
    array = np.rint(pixels * 255).astype(np.uint8).transpose(1, 2, 0)
    return photo_from_image(Image.fromarray(array[..., 0] if len(pixels) == 1 else array), "array")


def read_logits(output: Any, batch: int, name: str, classes: int | None) -> Tensor:
    """The logits (B, K) in an output: it, its part `logits` or `out`, or its one tensor (B, K).

    Of several such tensors they are the first with K = `classes`, where that is known.
    """
    if not isinstance(output, Tensor):
        output = _logits_among(output, batch, name, classes)
    logits = _squeezed(output)
    if logits.ndim != 2 or logits.shape[0] != batch or logits.shape[1] < 1:
        shape, expected = tuple(output.shape), f"expected logits (B, K) = ({batch}, K)"
        if output.ndim == 4:
            expected += ", or a part of the photo whose scores are averaged (region, mask)"
        raise ModelError(f"{name} returned shape {shape} for {batch} images: {expected}")
    if not logits.is_floating_point():
        raise ModelError(f"{name} returned {output.dtype}: expected floating-point logits")
    return logits


def scores_in(output: Any) -> Tensor | None:
    """The output, if it is a tensor, or its part `logits` or `out`."""
    parts = (output, part_of(output, "logits"), part_of(output, "out"))
    return next((part for part in parts if isinstance(part, Tensor)), None)


def part_of(output: Any, name: str) -> Any:
    """A named part of a network's output, None where it has no such part."""
    return output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)


def _logits_among(output: Any, batch: int, name: str, classes: int | None) -> Tensor:
    if (part := scores_in(output)) is not None:
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
    return tensor.flatten(1) if tensor.ndim > 3 and tensor.shape[2:].numel() == 1 else tensor
