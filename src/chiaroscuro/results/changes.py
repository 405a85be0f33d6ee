"""What is returned and saved for one image whose pixels are changed: what-if, smallest edit."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chiaroscuro.choices import Fit
from chiaroscuro.results.explanations import MethodFacts, Saved
from chiaroscuro.results.facts import (
    CropBox,
    ImageFacts,
    ModelFacts,
    Prediction,
    RegionFacts,
    frame_of,
)
from chiaroscuro.settings import SmallestEditSettings

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class WhatIfChoices:
    """What decides a what-if's numbers; no `method` for maps not made of class gradients."""

    map: str
    fraction: float
    fill: str
    target: int | str
    rivals: str
    method: MethodFacts | None
    fit: Fit
    tolerance: float
    seed: int


@dataclass(frozen=True, eq=False, repr=False)
class WhatIf(Saved):
    """One image with some pixels changed: predicted (first-order) and actual change of every logit.

    `pixels` and `edited` (C, H, W) in [0, 1]; `changed` (H, W): where a value is another one;
    `selected`: how many pixels the map selects, changed or not. `logits`, `predicted_change` and
    `actual_change` (K,). `before` and `after` are the five best classes, `expected` is the best one
    to first order; `shown` are all of `before`, `after` and the target, each before and after.

    `region`: the part whose scores these are; None: the whole image.

    With shares `steps` (S,) of the change, the target logit changes by `path` (S,), where step t
    predicts t times the whole predicted change. `valid_step` is the last step up to which every
    step is within the tolerance of that and has its sign: 1 where all are, 0 where the first is
    not.
    """

    image: ImageFacts
    crop: CropBox
    pixels: NDArray[np.floating[Any]]
    edited: NDArray[np.floating[Any]]
    changed: NDArray[np.bool_]
    selected: int
    target: Prediction
    logits: NDArray[np.floating[Any]]
    predicted_change: NDArray[np.floating[Any]]
    actual_change: NDArray[np.floating[Any]]
    before: tuple[Prediction, ...]
    expected: Prediction
    after: tuple[Prediction, ...]
    shown: tuple[tuple[Prediction, Prediction], ...]
    steps: tuple[float, ...]
    path: tuple[float, ...]
    valid_step: float
    choices: WhatIfChoices
    model: ModelFacts
    threads: int
    versions: Mapping[str, str]
    notes: tuple[str, ...] = ()
    region: RegionFacts | None = None

    def __post_init__(self) -> None:
        shown = [one for pair in self.shown for one in pair]
        named = [self.target, self.expected, *self.before, *self.after, *shown]
        classes = min(len(self.logits), len(self.predicted_change), len(self.actual_change))
        if not self.before or not self.after:
            raise ValueError("no prediction before or after")
        if not all(0 <= one.index < classes for one in named):
            raise ValueError(f"a class outside the {classes} that have logits")

    def __repr__(self) -> str:
        return (
            f"<WhatIf of {self.image.source}: {self.choices.fraction:.3g} of "
            f"{self.choices.map} to {self.choices.fill}; logit of {self.target.label} "
            f"{self.actual:+.3g}, predicted {self.predicted:+.3g}, "
            f"valid up to a step of {self.valid_step:.3g}>"
        )

    @property
    def flipped(self) -> bool:
        """Whether the predicted class is another one after the change."""
        return self.after[0].index != self.before[0].index

    @property
    def predicted(self) -> float:
        """The target logit's change to first order."""
        return float(self.predicted_change[self.target.index])

    @property
    def actual(self) -> float:
        """The target logit's actual change."""
        return float(self.actual_change[self.target.index])

    @property
    def same_direction(self) -> bool:
        """Whether the target logit moves in the predicted direction."""
        return self.predicted * self.actual > 0


@dataclass(frozen=True, eq=False)
class Edit:
    """One edit that the search found; where it `reached` nothing, it is empty.

    `order` (H, W): 0 where nothing changes, and 1, 2, ... at its `units`, the most needed first.
    `minimal`: each unit was restored alone, and the edit no longer did what it is for. `after`: the
    five best classes; `shown`: these and the best ones before, each before and after; `logits`
    (K,). With the first `steps` units, the predicted class has the probabilities `path`, and its
    `rival` `path_rival`: the class that wins after the edit, or, of one that keeps, without any of
    it. `gradients` and `predictions`: passes of the search, with and without a backward pass.
    """

    order: NDArray[np.int32]
    reached: bool
    minimal: bool
    units: int
    logits: NDArray[np.floating[Any]]
    after: tuple[Prediction, ...]
    shown: tuple[tuple[Prediction, Prediction], ...]
    steps: tuple[int, ...]
    path: tuple[float, ...]
    rival: str
    path_rival: tuple[float, ...]
    gradients: int
    predictions: int

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The pixels of the edit (H, W)."""
        return self.order > 0


@dataclass(frozen=True, eq=False, repr=False)
class SmallestEdit(Saved):
    """The fewest pixels, cells or superpixels found whose change turns the prediction of one image.

    With `choices.keep` they are the fewest that alone keep it, everything else changed. `pixels`
    and `changed` (C, H, W) in [0, 1]: the image, and all of it changed. `logits` (K,); `before`:
    the five best classes. `edits`: the first one found, then others that share no pixel with it.
    `mask`, `flipped` and `after` are of the first. `region`: the part whose scores these are.
    """

    image: ImageFacts
    crop: CropBox
    pixels: NDArray[np.floating[Any]]
    changed: NDArray[np.floating[Any]]
    logits: NDArray[np.floating[Any]]
    before: tuple[Prediction, ...]
    edits: tuple[Edit, ...]
    choices: SmallestEditSettings
    model: ModelFacts
    threads: int
    versions: Mapping[str, str]
    notes: tuple[str, ...] = ()
    region: RegionFacts | None = None

    def __post_init__(self) -> None:
        if not self.edits or not self.before or not all(edit.after for edit in self.edits):
            raise ValueError("no edit, or none with its predictions before and after")

    def __repr__(self) -> str:
        first, verb = self.edits[0], "keep" if self.choices.keep else "turn"
        found = f"{int(self.mask.sum())} pixels {verb} it"
        return (
            f"<SmallestEdit of {self.image.source}, {self.before[0]}, to "
            f"{self.choices.change}: {found if first.reached else f'nothing found to {verb} it'}; "
            f"then {self.after[0]}>"
        )

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The pixels of the first edit (H, W)."""
        return self.edits[0].mask

    @property
    def reached(self) -> bool:
        """Whether the first edit does what it is for."""
        return self.edits[0].reached

    @property
    def flipped(self) -> bool:
        """Whether the predicted class is another one after the first edit."""
        return self.after[0].index != self.before[0].index

    @property
    def after(self) -> tuple[Prediction, ...]:
        """The five best classes after the first edit."""
        return self.edits[0].after

    @property
    def passes(self) -> int:
        """Images that the searches sent through the network, with or without a backward pass."""
        return sum(edit.gradients + edit.predictions for edit in self.edits)

    def edited(self, edit: int = 0) -> NDArray[np.floating[Any]]:
        """The image (C, H, W) after the `edit` of this number, counted from 0."""
        taken = ~self.edits[edit].mask if self.choices.keep else self.edits[edit].mask
        return np.where(taken, self.changed, self.pixels)

    def to_frame(self) -> "pd.DataFrame":
        """A row an edit, as a table of pandas."""
        names = ("reached", "minimal", "units", "gradients", "predictions")
        return frame_of(
            {n: getattr(edit, n) for n in names}
            | {"pixels": int(edit.mask.sum()), "after": edit.after[0].label}
            for edit in self.edits
        )
