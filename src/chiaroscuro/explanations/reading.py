"""What a caller hands in, as pixels for a classifier; and logits as named classes."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from chiaroscuro.choices import Fit, as_int
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ChoiceError, ImageError, ModelError, printable
from chiaroscuro.images import CropBox, Photo, check_array, frame, open_photo, to_uint8
from chiaroscuro.images.photos import photo_from_image
from chiaroscuro.results import ImageFacts, Prediction

PHOTO_SIDE = 640
PLAIN = (
    "a plain module was given: it gets pixels in [0, 1], not normalized, at the image's own size"
)
TOP = 5

ImageLike = str | Path | Photo | Image.Image | NDArray[Any] | Tensor
Target = int | str | Tensor | np.integer[Any]


@dataclass(frozen=True, eq=False)
class ReadImage:
    """Pixels (C, H, W) in [0, 1], where they lie on the photo, the photo to show, and its facts."""

    pixels: NDArray[np.float32]
    crop: CropBox
    photo: NDArray[np.uint8]
    facts: ImageFacts
    notes: tuple[str, ...] = ()


def as_classifier(given: object) -> Classifier:
    """A classifier, or a module as one that gets pixels in [0, 1] as they are, which a note says.

    Raises `ModelError` for anything else.
    """
    if isinstance(given, nn.Module):
        classifier = Classifier(given)
        classifier.notes += (PLAIN,)
        return classifier
    if not isinstance(given, Classifier):
        raise ModelError(
            f"classifier is a {type(given).__name__}: expected a Classifier, as load_classifier "
            "gives, or Classifier(module, mean=..., std=..., size=...)"
        )
    return given


def split_images(image: object) -> tuple[list[Any], bool]:
    """The images of a list or of a batch (B, C, H, W), and whether there are several."""
    if isinstance(image, list | tuple):
        if image and not any(isinstance(part, int | float | list) for part in image):
            return list(image), True
        raise ImageError(
            f"image is a {type(image).__name__} of {len(image)}: expected images in it"
        )
    if isinstance(image, Tensor | np.ndarray) and image.ndim == 4:
        if not len(image):
            raise ImageError(f"image has shape {tuple(image.shape)}: it holds no images")
        return list(image), len(image) > 1
    return [image], False


def read_image(classifier: Classifier, image: ImageLike, fit: Fit | None) -> ReadImage:
    """Any form of an image as pixels.

    A path or a Pillow image is brought to the classifier's size by `fit`, an array (H, W, C) or
    tensor (C, H, W), alone or as a batch of one, is taken as it is. Raises `ImageError`.
    """
    if isinstance(image, Tensor | np.ndarray) and image.ndim == 4 and len(image) == 1:
        image = image[0]
    if isinstance(image, Tensor):
        image = _array_of(image)
    if isinstance(image, np.ndarray):
        pixels = check_array(image / np.float32(255) if image.dtype == np.uint8 else image)
        height, width = pixels.shape[1:]
        digest = hashlib.sha256(pixels.tobytes()).hexdigest()
        box = CropBox(0, 0, width, height, width, height)
        return ReadImage(pixels, box, to_uint8(pixels), ImageFacts("array", digest, is_file=False))
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
    facts = ImageFacts(printable(photo.source), photo.sha256, is_file, photo.notes)
    return ReadImage(pixels, box, _shown(photo), facts, _preparation_notes(classifier, pixels))


def _preparation_notes(classifier: Classifier, pixels: NDArray[Any]) -> tuple[str, ...]:
    """What a photo for a module that nothing is known of may be missing."""
    known = (classifier.size, classifier.mean, classifier.std) != (None, None, None)
    if known or PLAIN in classifier.notes:
        return ()
    height, width = pixels.shape[1:]
    return (
        f"the classifier has no size, mean and std: the module gets the photo at its own {width} x "
        f"{height} px, in [0, 1] as it is",
    )


def _array_of(image: Tensor) -> NDArray[Any]:
    """A tensor (C, H, W) as an array (H, W, C)."""
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ImageError(
            f"image is a tensor of shape {tuple(image.shape)}: expected (C, H, W) with 1 or 3 "
            "channels, alone or as a batch of one"
        )
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


def as_batch(classifier: Classifier, images: Iterable[NDArray[np.floating[Any]]]) -> Tensor:
    """Images (C, H, W) of one size as a batch, where the module lies and in its dtype."""
    pixels = torch.from_numpy(np.stack(list(images)))
    return pixels.to(device=classifier.device, dtype=classifier.dtype)


def class_index(classifier: Classifier, target: object) -> int | None:
    """A class by index or name, None for the predicted one; raises `ChoiceError`."""
    return None if target is None else classifier.class_index(target)  # type: ignore[arg-type]


def as_given(target: object) -> int | str:
    """A target in the form that a result keeps."""
    if target is None:
        return "predicted"
    return target if isinstance(target, str) else as_int("target", target)


def targets_of(target: object, count: int) -> list[object]:
    """One target an image; raises `ChoiceError` for another number of them."""
    several = isinstance(target, list | tuple) or (
        isinstance(target, Tensor | np.ndarray) and target.ndim == 1
    )
    if not several:
        return [target] * count
    targets: list[object] = list(target)  # type: ignore[call-overload]
    if len(targets) != count:
        raise ChoiceError(f"target has {len(targets)} classes for {count} images")
    return targets


def top_predictions(
    classifier: Classifier, logits: Tensor, count: int = TOP
) -> tuple[Prediction, ...]:
    """The classes with the highest logits (K,), best first; ties in the order of the classes."""
    best = logits.sort(descending=True, stable=True).indices[:count].tolist()
    return tuple(prediction(classifier, logits, index) for index in best)


def prediction(classifier: Classifier, logits: Tensor, index: int) -> Prediction:
    """One class of logits (K,)."""
    exact = logits.detach().cpu().double()
    chance = classifier.probabilities(exact)
    return Prediction(index, classifier.label(index), float(exact[index]), float(chance[index]))
