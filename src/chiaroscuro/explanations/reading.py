"""What a caller hands in, as pixels, classes and methods; and logits as named classes."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from chiaroscuro.choices import Fit, MethodOptions, RivalRule, as_int
from chiaroscuro.classifier import Classifier, Picture
from chiaroscuro.classifier.reading import as_pixels, opened
from chiaroscuro.errors import ChoiceError, ImageError, ModelError, printable
from chiaroscuro.gradients import GradientChoices, Method
from chiaroscuro.images import CropBox, Framing, Photo, find_photos, frame, open_photo, to_uint8
from chiaroscuro.results.explanations import MethodFacts
from chiaroscuro.results.facts import ImageFacts, Prediction
from chiaroscuro.results.folders import Digest, digest

PHOTO_SIDE = 640
PLAIN = (
    "a plain module was given: it gets pixels in [0, 1], not normalized, at the image's own size"
)
MOST_LISTED = 5
"""So many of the best classes are listed, and of the rivals chosen by name or index."""

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
        kind = type(image).__name__
        raise ImageError(f"image is a {kind} of {len(image)}: expected images in it")
    if isinstance(image, Tensor | np.ndarray) and image.ndim == 4:
        if not len(image):
            raise ImageError(f"image has shape {tuple(image.shape)}: it holds no images")
        return list(image), len(image) > 1
    return [image], False


def read_image(classifier: Classifier, image: Picture, fit: Fit | None) -> ReadImage:
    """An image as pixels: photos at the classifier's size by `fit`, arrays as they are."""
    photo = opened(image)
    if isinstance(photo, np.ndarray):
        pixels, box = as_pixels(photo)
        sha256 = hashlib.sha256(pixels.tobytes()).hexdigest()
        return ReadImage(pixels, box, to_uint8(pixels), ImageFacts("array", sha256, is_file=False))
    is_file = isinstance(image, str | Path) or photo.is_file
    pixels, box = frame(photo, classifier.framing.with_fit(fit), classifier.channels)
    notes: tuple[str, ...] = ()
    known = (classifier.size, classifier.mean, classifier.std) != (None, None, None)
    if not known and PLAIN not in classifier.notes:
        notes = (
            "the classifier has no size, mean and std: the module gets the photo at its own "
            f"{pixels.shape[2]} x {pixels.shape[1]} px, in [0, 1] as it is",
        )
    facts = ImageFacts(printable(photo.source), photo.sha256, is_file, photo.notes)
    return ReadImage(pixels, box, _shown(photo), facts, notes)


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


def class_index(classifier: Classifier, target: Any) -> int | None:
    """A class by index or name, None for the predicted one; raises `ChoiceError`."""
    return None if target is None else classifier.class_index(target)


def as_given(target: object) -> int | str:
    """A target in the form that a result keeps."""
    if target is None:
        return "predicted"
    return target if isinstance(target, str) else as_int("target", target)


def targets_of(target: Any, count: int) -> list[Any]:
    """One target an image; raises `ChoiceError` for another number of them."""
    if not isinstance(target, list | tuple) and getattr(target, "ndim", 0) != 1:
        return [target] * count
    if len(target) != count:
        raise ChoiceError(f"target has {len(target)} classes for {count} images")
    return list(target)


def top_predictions(classifier: Classifier, logits: Tensor) -> tuple[Prediction, ...]:
    """The classes with the highest logits (K,), best first; ties in the order of the classes."""
    best = logits.sort(descending=True, stable=True).indices[:MOST_LISTED].tolist()
    return tuple(prediction(classifier, logits, index) for index in best)


def prediction(classifier: Classifier, logits: Tensor, index: int) -> Prediction:
    """One class of logits (K,)."""
    exact = logits.detach().cpu().double()
    chance = classifier.probabilities(exact)
    return Prediction(index, classifier.label(index), float(exact[index]), float(chance[index]))


def rival_notes(rule: RivalRule, logits: Tensor) -> Iterator[str]:
    """What is unusual about rivals of logits (K,)."""
    if rule.count is not None and rule.count > len(logits) - 1:
        yield f"rivals {rule}: only {len(logits) - 1} other classes"


def make_method(options: MethodOptions | Any, classifier: Classifier) -> Method | Any:
    """The method of these options for this classifier, whose framing its background gets.

    What is no `MethodOptions` is a method already. Raises `ImageError` for a background that cannot
    be read, `ChoiceError` where its images have several sizes.
    """
    if not isinstance(options, MethodOptions):
        return options
    source, background = options.background, None
    if source is not None:
        # Files that are not regular are found out, and named, when they are opened.
        files = tuple((p, digest(p) if p.is_file() else None) for p in find_photos([source]))
        background = _read_background(source, files, classifier.framing, classifier.channels)
    return Method(
        options.name, options.points, options.sigma, options.baseline, background, options.seed
    )


def method_facts(choices: GradientChoices, method: Any) -> MethodFacts:
    """What a result says of the method, with the place of a background that was read from files."""
    settings = {**choices.settings, "name": choices.method}
    place = method.background if isinstance(method, MethodOptions) else None
    return MethodFacts(**settings, background=place)


@lru_cache(maxsize=2)
def _read_background(
    source: str, files: tuple[tuple[Path, Digest | None], ...], framing: Framing, channels: int
) -> Tensor:
    """The pixels (N, C, H, W) of files of known content, which are kept from batch to batch."""
    pixels = [frame(open_photo(path), framing, channels)[0] for path, _ in files]
    sizes = sorted({image.shape for image in pixels})
    if len(sizes) > 1:
        raise ChoiceError(
            f"background {source} has images of {len(sizes)} sizes (such as {sizes[0]} and "
            f"{sizes[1]}): give a model with a size, or images of one size"
        )
    return torch.from_numpy(np.stack(pixels))
