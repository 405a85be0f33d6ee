"""What is known after an image's pixels were changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiaroscuro.explanations import ImageFacts, Prediction
from chiaroscuro.images import CropBox


@dataclass(frozen=True, eq=False)
class WhatIf:
    """One image with some pixels changed: the foretold and the real change of every logit.

    `pixels` and `edited` (C, H, W) in [0, 1]; `changed` (H, W), where a value became another;
    `taken` is how many pixels the map gave away, changed or not. `logits`, `predicted` and `real`
    (K,): before, and their change to first order and in fact. `before` and `after` are the five
    best classes, `expected` the best one if first order held; `shown` are all of `before` and
    `after` and the explained one, each before and after.

    With parts of `steps` (S,) of the change made, the target logit moves by `way` (S,), where
    step t promises t times the foretold change. `holds` is the last step up to which every step
    keeps that promise within `tolerance` (a share of it) and in sign: 1 where it never fails, 0
    where it fails at once.
    """

    image: ImageFacts
    crop: CropBox
    pixels: NDArray[np.floating[Any]]
    edited: NDArray[np.floating[Any]]
    changed: NDArray[np.bool_]
    taken: int
    target: Prediction
    logits: NDArray[np.floating[Any]]
    predicted: NDArray[np.floating[Any]]
    real: NDArray[np.floating[Any]]
    before: tuple[Prediction, ...]
    expected: Prediction
    after: tuple[Prediction, ...]
    shown: tuple[tuple[Prediction, Prediction], ...]
    steps: tuple[float, ...]
    way: tuple[float, ...]
    holds: float
    tolerance: float
    choices: Mapping[str, Any]
    model: Mapping[str, Any]
    versions: Mapping[str, str]

    @property
    def flipped(self) -> bool:
        """Whether another class is predicted now."""
        return self.after[0].index != self.before[0].index

    @property
    def flip_foretold(self) -> bool:
        """Whether another class would be predicted if first order held."""
        return self.expected.index != self.before[0].index

    @property
    def promise(self) -> float:
        """The target logit's change to first order."""
        return float(self.predicted[self.target.index])

    @property
    def outcome(self) -> float:
        """The target logit's real change."""
        return float(self.real[self.target.index])

    @property
    def as_foretold(self) -> bool:
        """Whether the target logit moved in the foretold direction."""
        return self.promise * self.outcome > 0

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write figure.png, what-if.json and index.html: all of them or nothing.

        Raises `ResultError` for an existing folder.
        """
        from chiaroscuro.changes.storage import save

        return save(self, Path(folder), overwrite=overwrite)
