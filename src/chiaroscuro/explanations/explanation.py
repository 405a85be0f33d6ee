"""What is known after one image was explained."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiaroscuro.images import CropBox


@dataclass(frozen=True, slots=True)
class Prediction:
    """One class of the untouched image."""

    index: int
    label: str
    logit: float
    probability: float


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Where the pixels came from: a path or a word, their hash, and what reading changed."""

    source: str
    sha256: str
    is_file: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MapFacts:
    """A map in numbers: its form, and how much of pixels and of channel entries its mask takes."""

    form: str
    kind: str
    reads: str
    support_pixels: float
    support_entries: float


@dataclass(frozen=True, eq=False)
class Explanation:
    """One image explained for one class: predictions, raw maps, and every choice made.

    `pixels` (C, H, W) in [0, 1] are what the network saw, `crop` is where they lie on the upright
    photo (`photo`, 8 bit, scaled down). `logits` (K,). `maps` are raw, (H, W): gradients per unit
    of pixel value, or class indices. `rivals` are the classes compared with. `choices`, `model`
    and `versions` are what it takes to make the same explanation again.
    """

    image: ImageFacts
    crop: CropBox
    photo: NDArray[np.uint8]
    pixels: NDArray[np.floating[Any]]
    logits: NDArray[np.floating[Any]]
    target: Prediction
    predictions: tuple[Prediction, ...]
    rivals: tuple[int, ...]
    maps: Mapping[str, NDArray[Any]]
    facts: Mapping[str, MapFacts]
    labels: Mapping[int, str]
    choices: Mapping[str, Any]
    model: Mapping[str, Any]
    versions: Mapping[str, str]

    def save(
        self,
        folder: str | Path,
        *,
        overwrite: bool = False,
        limits: Mapping[str, tuple[float, float]] | None = None,
    ) -> Path:
        """Write figure.png, maps.npz, explanation.json and index.html: all of them or nothing.

        `limits`: color limits by map, of the pixel view and the smoothed view, to draw several
        images on one scale; None takes this image's own. Raises `ResultError` for an existing
        folder.
        """
        from chiaroscuro.explanations.storage import save

        return save(self, Path(folder), overwrite=overwrite, limits=limits)

    @staticmethod
    def load(folder: str | Path) -> "Explanation":
        """The explanation that `save` wrote; raises `ResultError` when it is not one."""
        from chiaroscuro.explanations.storage import load

        return load(Path(folder))

    def color_limits(self) -> Mapping[str, tuple[float, float]]:
        """Color limits by map: of the pixel view and the smoothed view, in the maps' unit."""
        from chiaroscuro.explanations.sheet import color_limits

        return color_limits(self)
