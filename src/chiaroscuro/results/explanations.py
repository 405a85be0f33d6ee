"""What is returned and saved for one image: explanation, comparison, replay, gallery."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from chiaroscuro.choices import Fit, Score
from chiaroscuro.results.facts import (
    CropBox,
    ImageFacts,
    MapFacts,
    ModelFacts,
    Prediction,
    RegionFacts,
    Shown,
)
from chiaroscuro.results.store import ABSENT, kind_of, load, save

ColorLimits = Mapping[str, tuple[float, float]]
"""Color limits by map: of the pixel view and of the smoothed view, in units of the maps."""

MOST_NAMED = 3
"""So many rivals are named, more are counted; the labels of these are always kept."""


class Saved(Shown):
    """A result that can be saved."""

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write arrays, figure, page and marker: all of them, or nothing and `ResultError`."""
        return save(self, folder, overwrite=overwrite)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """The result of this kind that lies in a folder; raises `ResultError` for anything else."""
        return cast(Self, load(folder, kind_of(cls)))


@dataclass(frozen=True, slots=True)
class MethodFacts:
    """A gradient method with its settings; None for those that it does not take.

    `rounding`: with a `precision`, the root mean square of its error over that of the gradients of
    the highest logits.
    """

    name: str
    points: int | None = None
    sigma: float | None = None
    baseline: str | None = None
    seed: int | None = None
    background: str | None = None
    background_images: int | None = None
    background_sha256: str | None = None
    captum: str | None = None
    precision: str | None = None
    rounding: float | None = None


@dataclass(frozen=True, slots=True)
class ExplanationChoices:
    """What decides an explanation's numbers."""

    target: int | str
    rivals: str
    score: Score
    method: MethodFacts
    maps: tuple[str, ...]
    fit: Fit


@dataclass(frozen=True, slots=True)
class Views:
    """A figure of a map pixel by pixel, and of the same map smoothed."""

    pixels: float
    smoothed: float


@dataclass(frozen=True, slots=True)
class MapEvidence:
    """How far one map can be believed.

    `stability`: its rank correlation with the map of the image with a little noise. `half`: the
    smallest share of pixels that holds half of the sum of its sizes. `drop`: what the target's
    probability loses when the highest pixels become `fill`. `linear_step`: the largest share of
    that change up to which the logit changes as the gradient predicts; 0: at none that was tried.
    `constant`: one value everywhere, so that it orders no pixels. `rank`: of its drop among those
    of the maps of networks with random weights, 1 the largest; None where that was not tried.
    """

    fill: str
    stability: Views
    half: Views
    drop: Views
    linear_step: float
    constant: bool
    rank: int | None = None


@dataclass(frozen=True, slots=True)
class RegionEvidence:
    """One region changed alone.

    `unit`: its number in `Evidence.units`; `area`: its share of the pixels. `predicted` (to first
    order) and `actual`: the change of the target's logit; `change`: of its probability. `winner`:
    the other class that gains most probability, with what it has then, and `gain`.
    """

    unit: int
    area: float
    predicted: float
    actual: float
    change: float
    winner: Prediction | None = None
    gain: float = 0.0


@dataclass(frozen=True, eq=False)
class Evidence:
    """The tests of an explanation's maps, and what its regions are worth.

    `effort`: a name of `choices.EVIDENCE`. Noise has the width `noise`; `rivals` are those compared
    with under it. `share`: of the pixels, the highest, that change. `random`: what the target's
    probability loses when a random order's change, by fill; of "smoothed" orders by smoothed noise.
    `units` (H, W): the region of each pixel. `regions`: each with `change` made to it, the one that
    costs the target most first; `agreement`: the rank correlation of predicted and actual changes.
    `networks`: so many with random weights were tried.
    """

    effort: str
    noise: float
    rivals: str
    share: float
    maps: Mapping[str, MapEvidence]
    random: Mapping[str, tuple[Views, ...]]
    cells: str
    change: str
    units: NDArray[np.integer[Any]]
    regions: tuple[RegionEvidence, ...]
    agreement: float
    seed: int
    networks: int = 0


@dataclass(frozen=True, eq=False, repr=False)
class Explanation(Saved):
    """One image explained for one class: predictions, raw maps, and every choice.

    `pixels` (C, H, W) in [0, 1] are what the network saw, `crop` is where they lie on the upright
    photo (`photo`, 8 bit, scaled down). `logits` (K,). `predictions` are the five best classes,
    then the target and the rivals that were chosen by name or index. `maps` are raw, (H, W):
    gradients per unit of pixel value, or class indices. Of a volume, `pixels` are (C, D, H, W),
    maps (D, H, W), and `photo` is its middle slices. `rivals` are the classes compared with,
    `labels` the names of all classes that pictures name. `threads`: CPU threads of the computation.
    `notes` say what is unusual. `color_limits` are those that several images share; None: each
    map's own. `region`: the part whose scores these are; None: the whole image. `evidence`: tests
    of the maps, where they were asked for.
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
    choices: ExplanationChoices
    model: ModelFacts
    threads: int
    versions: Mapping[str, str]
    notes: tuple[str, ...] = ()
    color_limits: ColorLimits | None = None
    region: RegionFacts | None = None
    evidence: Evidence | None = field(default=None, metadata=ABSENT)

    def save(self, folder: str | Path, *, overwrite: bool = False, figure: bool = False) -> Path:
        """Write arrays, page and marker, all or nothing; `figure`: also every map on one PNG."""
        return save(self, folder, overwrite=overwrite, figure=figure)

    def __repr__(self) -> str:
        shape = self.pixels.shape[1:] if self.pixels.ndim == 4 else self.pixels.shape[:0:-1]
        sides = " x ".join(map(str, shape))
        return (
            f"<Explanation of {self.image.source}: {self.target}, rivals "
            f"{self.choices.rivals}, {self.choices.method.name}, {sides} px; "
            f"maps {', '.join(self.maps)}>"
        )

    def overlay(self, map: str = "signed", **options: Any) -> Any:
        """A map over the photo at the photo's size, as a Pillow image; see `overlay`."""
        return import_module("chiaroscuro.notebook").overlay(self, map, **options)

    def plot(self, maps: Any = None, *, ax: Any = None, **options: Any) -> Any:
        """Maps as Matplotlib axes, an array of one a map; see `plot_maps`."""
        return import_module("chiaroscuro.notebook").plot_maps(self, maps, axes=ax, **options)

    def widget(self) -> Any:
        """The viewer as a widget of a notebook (extra `notebook`)."""
        return import_module("chiaroscuro.notebook").widget(self)


@dataclass(frozen=True, eq=False)
class MapPair:
    """One map of two classifiers, each over its root mean square: second minus first (H, W)."""

    difference: NDArray[np.floating[Any]]
    correlation: float
    overlap: float


@dataclass(frozen=True, eq=False)
class Pair:
    """The first explanation against that at position `other`; a `note` says why without maps."""

    other: int
    maps: Mapping[str, MapPair]
    note: str = ""


@dataclass(frozen=True, eq=False)
class Detail:
    """More about one classifier: a title, sentences, and a picture (H, W, 3) or None."""

    title: str
    lines: tuple[str, ...]
    picture: NDArray[np.uint8] | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Saved):
    """One image explained by M classifiers for one class.

    `names` are unique names of the classifiers; `pairs` set the first against each other one.
    `details` has one entry a classifier, or none: a what-if of each, or what `compare(details=...)`
    returns. Saving also writes each explanation into a folder of its own, 1, 2, ...
    """

    names: tuple[str, ...]
    explanations: tuple[Explanation, ...]
    pairs: tuple[Pair, ...]
    details: tuple[Detail, ...] = ()

    def __post_init__(self) -> None:
        count, others = len(self.names), [pair.other for pair in self.pairs]
        if not count or len(self.explanations) != count or not all(0 < k < count for k in others):
            raise ValueError("names, explanations and pairs that do not fit each other")

    def __repr__(self) -> str:
        first, pairs = self.explanations[0], zip(self.names, self.explanations, strict=True)
        said = ", ".join(f"{name} {one.target}" for name, one in pairs)
        return f"<Comparison on {first.image.source}: {said}; maps {', '.join(first.maps)}>"


@dataclass(frozen=True)
class Differences:
    """How a replayed explanation differs, relative to the saved one; None where shapes differ."""

    maps: Mapping[str, float | None]
    logits: float | None
    changes: tuple[str, ...] = ()
    why: tuple[str, ...] = ()
    tolerance: float = 0.0

    @property
    def same(self) -> bool:
        """Whether nothing changed, and logits and maps agree within the tolerance."""
        sizes = (self.logits, *self.maps.values())
        is_within = all(size is not None and size <= self.tolerance for size in sizes)
        return is_within and not self.changes


@dataclass(frozen=True, slots=True)
class GalleryEntry:
    """One explanation of a gallery; `folder` lies below the gallery's own, with "/" between."""

    folder: str
    source: str
    target: Prediction
    model: str
    rivals: str
    shared_scale: bool


@dataclass(frozen=True)
class Gallery:
    """The explanations of a folder, for the page that lists them."""

    entries: tuple[GalleryEntry, ...]
