"""Which class takes pixels from which over an image set: what is returned and saved."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from chiaroscuro.errors import unknown
from chiaroscuro.results.explanations import Explanation, Saved
from chiaroscuro.results.facts import DataFacts, Interval, ModelFacts, frame_of, pick
from chiaroscuro.settings import ConfusionSettings

if TYPE_CHECKING:
    import pandas as pd

GRID = 8
"""Cells a side of the maps of where a class takes pixels."""
MOST_PAIRS = 1000
"""So many pairs are in a result; the rows hold all."""


@dataclass(frozen=True, slots=True)
class ClassPair:
    """What class `rival` takes from class `target`, in the mean over the target's `images`.

    Each value of an image can become brighter or darker; `share` is the part of all these changes
    that helps the rival more than any other class, `brighter` and `darker` are its two parts.
    `lead`: by how much more than the target, where it takes, in logits per unit of pixel value.
    `first`: the share of images in which no other rival takes more. `confused`: images predicted
    as the rival. `border` (the outer ring of the grid, 44 % of the picture), `center` (its middle
    quarter) and `inside` (the object; `region` is its part of the picture) are shares of the lead.
    `photos`: images in which it takes most. With `rival` = `target` it is what the target keeps.
    """

    target: int
    rival: int
    images: int
    share: Interval
    brighter: float
    darker: float
    lead: float
    first: float
    confused: int
    border: float
    center: float
    inside: float | None
    region: float | None
    photos: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Mend:
    """The smallest edit found that turns a wrong prediction, `rival`, into the class, `target`.

    `changed` (H, W): its pixels of image `id`, in `units` squares of `side` pixels; none where none
    was found. `edited` (H, W, 3): the picture with the edit.
    """

    id: str
    target: int
    rival: int
    edited: NDArray[np.uint8]
    changed: NDArray[np.bool_]
    units: int
    side: int


@dataclass(frozen=True, eq=False, repr=False)
class Confusions(Saved):
    """Which class takes pixels from which, where, on which colors, and what is confused.

    `pairs`: what each class takes from each other, those first that take most; at most `MOST_PAIRS`
    of `pair_count`. `classes`: what each target keeps; its `confused` are the images predicted
    right. `labels`: class names by index. `grids` (P, GRID, GRID) and `colors` (P, 2, C, 2) of the
    pairs are mean leads by place, and by way (brighter, darker), channel and value (dark, bright);
    `class_grids` and `class_colors`: sums of all that a class takes from others, by index, over the
    `class_images` that it takes from.
    `photos`: what pairs name, explained. `mends`: wrong predictions put right. `target_note` says
    why targets are the predicted classes.
    """

    settings: ConfusionSettings
    data: DataFacts
    model: ModelFacts
    labels: Mapping[int, str]
    pairs: tuple[ClassPair, ...]
    pair_count: int
    classes: tuple[ClassPair, ...]
    grids: NDArray[np.float32]
    colors: NDArray[np.float32]
    class_images: Mapping[int, int]
    class_grids: Mapping[int, NDArray[np.float32]]
    class_colors: Mapping[int, NDArray[np.float32]]
    photos: Mapping[str, Explanation]
    mends: tuple[Mend, ...]
    target_note: str
    versions: Mapping[str, str]

    def __repr__(self) -> str:
        said = "".join(
            f"; {self.name(first.target)} loses most to {self.name(first.rival)}"
            for first in self.pairs[:1]
        )
        where = f"{self.model.name} on {self.data.name}: {self.data.images} images"
        return f"Confusions({where}{said})"

    def name(self, index: int) -> str:
        """The first of the names of the class of this `index`."""
        return self.labels[index].split(",")[0]

    def pair(self, target: int, rival: int) -> ClassPair:
        """What class `rival` takes from class `target`; `ChoiceError` for none in the result."""
        return pick(self.pairs, target=target, rival=rival)

    def to_frame(self, table: str = "pairs") -> "pd.DataFrame":
        """A tidy pandas `table`, "pairs" or "classes"; `ChoiceError` for another name."""
        tables: dict[str, tuple[ClassPair, ...]] = {"pairs": self.pairs, "classes": self.classes}
        if table not in tables:
            raise unknown("table", table, tables)
        return frame_of(map(self._row, tables[table]))

    def _row(self, pair: ClassPair) -> dict[str, Any]:
        values = {name: getattr(pair, name) for name in ClassPair.__dataclass_fields__}
        return values | {n: self.labels[values[n]] for n in ("target", "rival")}
