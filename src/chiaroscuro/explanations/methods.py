"""A method's options as the method itself: background images are read here."""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chiaroscuro.choices import MethodOptions
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ChoiceError
from chiaroscuro.gradients import Method
from chiaroscuro.images import Framing, find_photos, frame, open_photo


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


@lru_cache(maxsize=2)
def _background(source: str, framing: Framing, channels: int) -> Tensor:
    """Pixels (N, C, H, W) of the photos in a folder, of a glob, or of one photo."""
    pixels = [frame(open_photo(path), framing, channels)[0] for path in find_photos([source])]
    sizes = sorted({image.shape for image in pixels})
    if len(sizes) > 1:
        raise ChoiceError(
            f"background {source} has images of {len(sizes)} sizes (such as {sizes[0]} and "
            f"{sizes[1]}): give a model with a size, or images of one size"
        )
    return torch.from_numpy(np.stack(pixels))
