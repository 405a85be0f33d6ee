"""A method's options as the method itself, whose background images are read here."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chiaroscuro.choices import MethodOptions
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ChoiceError
from chiaroscuro.gradients import Method
from chiaroscuro.gradients.result import GradientChoices
from chiaroscuro.images import Framing, find_photos, frame, open_photo
from chiaroscuro.results import MethodFacts
from chiaroscuro.results.folders import Digest, digest


def make_method(options: MethodOptions | Any, classifier: Classifier) -> Method | Any:
    """The method of these options for this classifier, whose framing its background gets.

    What is no `MethodOptions` is a method already.

    Raises `ImageError` for a background that cannot be read, `ChoiceError` where its images have
    several sizes.
    """
    if not isinstance(options, MethodOptions):
        return options
    background = None
    if options.background is not None:
        background = _background(options.background, classifier.framing, classifier.channels)
    return Method(
        options.name, options.points, options.sigma, options.baseline, background, options.seed
    )


def method_facts(choices: GradientChoices, method: Any) -> MethodFacts:
    """What a result says of the method, with the place of a background that was read from files."""
    settings = {**choices.settings, "name": choices.method}
    place = method.background if isinstance(method, MethodOptions) else None
    return MethodFacts(**settings, background=place)


def _background(source: str, framing: Framing, channels: int) -> Tensor:
    """Pixels (N, C, H, W) of the photos in a folder, of a glob, or of one photo."""
    files = tuple(
        (path, digest(path) if path.is_file() else None) for path in find_photos([source])
    )
    return _read_background(source, files, framing, channels)


@lru_cache(maxsize=2)
def _read_background(
    source: str, files: tuple[tuple[Path, Digest | None], ...], framing: Framing, channels: int
) -> Tensor:
    """The pixels of files of known content, which are kept from batch to batch."""
    pixels = [frame(open_photo(path), framing, channels)[0] for path, _ in files]
    sizes = sorted({image.shape for image in pixels})
    if len(sizes) > 1:
        raise ChoiceError(
            f"background {source} has images of {len(sizes)} sizes (such as {sizes[0]} and "
            f"{sizes[1]}): give a model with a size, or images of one size"
        )
    return torch.from_numpy(np.stack(pixels))
