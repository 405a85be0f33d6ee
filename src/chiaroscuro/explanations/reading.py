"""What a caller hands in as an image, as pixels that a classifier takes."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from chiaroscuro.choices import Fit
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ImageError, ModelError
from chiaroscuro.explanations.explanation import ImageFacts
from chiaroscuro.images import CropBox, Photo, check_array, frame, open_photo, to_uint8
from chiaroscuro.images.photos import photo_from_image

PHOTO_SIDE = 640

ImageLike = str | Path | Photo | Image.Image | NDArray[Any] | Tensor


def check_classifier(given: object) -> None:
    """Raise `ModelError` for anything but a `Classifier`."""
    if not isinstance(given, Classifier):
        raise ModelError(
            f"classifier is a {type(given).__name__}: expected a Classifier, as load_classifier "
            "gives, or Classifier(module, mean=..., std=..., size=...)"
        )


def read_image(
    classifier: Classifier, image: ImageLike, fit: Fit | None
) -> tuple[NDArray[np.float32], CropBox, NDArray[np.uint8], ImageFacts]:
    """Pixels (C, H, W), crop box, the photo to show, and where they came from.

    A path or a Pillow image is brought to the classifier's size by `fit`, an array (H, W, C) or
    tensor (C, H, W) is taken as it is. Raises `ImageError`.
    """
    if isinstance(image, Tensor):
        image = _array_of(image)
    if isinstance(image, np.ndarray):
        pixels = check_array(image)
        height, width = pixels.shape[1:]
        digest = hashlib.sha256(pixels.tobytes()).hexdigest()
        box = CropBox(0, 0, width, height, width, height)
        return pixels, box, to_uint8(pixels), ImageFacts("array", digest, is_file=False)
    if isinstance(image, Image.Image):
        image = photo_from_image(image)
    if not isinstance(image, str | Path | Photo):
        raise ImageError(
            f"image is a {type(image).__name__}: expected a path, a Pillow image, an array "
            "(H, W, C) or a tensor (C, H, W)"
        )
    is_file = isinstance(image, str | Path) or image.is_file
    photo = image if isinstance(image, Photo) else open_photo(image)
    pixels, box = frame(photo, classifier.framing.with_fit(fit), classifier.channels)
    facts = ImageFacts(photo.source, photo.sha256, is_file, photo.notes)
    return pixels, box, _shown(photo), facts


def _array_of(image: Tensor) -> NDArray[Any]:
    """A tensor (C, H, W) as an array (H, W, C)."""
    if image.ndim != 3:
        raise ImageError(f"image is a tensor of shape {tuple(image.shape)}: expected (C, H, W)")
    return to_numpy(image.permute(1, 2, 0))


def to_numpy(values: Tensor) -> NDArray[Any]:
    """A NumPy copy; half precision, which NumPy lacks in part, becomes float32."""
    values = values.detach().cpu()
    half = values.dtype in (torch.float16, torch.bfloat16)
    return (values.float() if half else values).numpy().copy()


def _shown(photo: Photo) -> NDArray[np.uint8]:
    """The upright photo in 8 bits, at most `PHOTO_SIDE` a side."""
    image = photo.image
    if image.mode == "F":
        image = Image.fromarray(np.rint(np.asarray(image) * 255).astype(np.uint8))
    image = image.convert("RGB")
    image.thumbnail((PHOTO_SIDE, PHOTO_SIDE), Image.Resampling.LANCZOS)
    return np.asarray(image)


def as_batch(classifier: Classifier, pixels: NDArray[np.floating[Any]]) -> Tensor:
    """Pixels (C, H, W) as a batch of one, where the classifier's module lies and in its dtype."""
    weight = next(classifier.module.parameters(), torch.zeros(()))
    dtype = weight.dtype if weight.is_floating_point() else torch.float32
    return torch.from_numpy(pixels)[None].to(device=weight.device, dtype=dtype)
