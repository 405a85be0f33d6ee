"""What runs over image sets say of maps: evaluation, sanity check, localization, reproduction."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from chiaroscuro.errors import unknown
from chiaroscuro.results.facts import DataFacts, Interval, ModelFacts, Shown, frame_of, pick
from chiaroscuro.settings import CheckSettings, EvaluationSettings, LocalizationSettings

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = "examples"
"""The folder of a few images with their maps, next to an evaluation's parts."""
Level = Literal["none", "some", "much"]
"""How much of its similarity a map keeps: no more than a random order has, some, or much."""
ScoreName = Literal["area", "gain"]
"""The area under a deletion curve, lower is better, or the relevance gain, higher is better."""
LEVELS: tuple[Level, ...] = ("none", "some", "much")


def _short(run: "SanityCheck | Localization | Evaluation", found: str) -> str:
    where = f"{run.model.name} on {run.data.name}: {run.data.images} images"
    return f"{type(run).__name__}({where}{found})"


@dataclass(frozen=True, slots=True)
class Layer:
    """Modules of a network that get new random weights together."""

    name: str
    modules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Similarities:
    """How similar two maps are in the mean over images, by both measures."""

    correlation: Interval
    overlap: Interval

    def __iter__(self) -> Iterator[Interval]:
        return iter((self.correlation, self.overlap))


@dataclass(frozen=True, slots=True)
class Step:
    """A map against that of a changed network or image, in the mean over images and draws.

    `step` counts layers from the output: 1 is the last, 0 a mean over steps. `constant`: the share
    of other maps with one value everywhere; `by_draw`: correlation and overlap by random draw.
    """

    step: int
    similarity: Similarities
    constant: float
    by_draw: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """How similar 95 of 100 random orders are, at least and at most, and half way to the map."""

    lowest: float
    floor: float
    middle: float

    def level(self, similarity: Interval) -> Level:
        """Where the interval of a mean similarity lies.

        >>> limits = Limits(-0.2, 0.2, 0.6)
        >>> [limits.level(Interval(0, *e)) for e in [(0.1, 0.19), (0.1, 0.3), (0.5, 0.6)]]
        ['none', 'some', 'much']
        """
        if similarity.high <= self.floor:
            return "none"
        return "much" if similarity.high >= self.middle else "some"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How much of its similarity a map keeps, by the worse of the two measures.

    `weights`, `other_class` and `noise`: with random weights, for the second-best class, under
    noise. `changes_after`: the first step of the cascade that keeps less than much, None: no step
    does. `overlooked`: the layers, from the output, whose random weights alone keep much.
    """

    weights: Level
    other_class: Level
    noise: Level
    changes_after: int | None
    overlooked: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CheckedMap:
    """One method's map: randomized from the output on and one layer `alone`, limits, verdict."""

    method: str
    map: str
    cascade: tuple[Step, ...]
    alone: tuple[Step, ...]
    cascade_mean: Step
    other_class: Step
    noise: Step
    random: Step
    correlation_limits: Limits
    overlap_limits: Limits
    verdict: Verdict


@dataclass(frozen=True, repr=False)
class SanityCheck(Shown):
    """Whether maps depend on the weights and the class, and not on noise."""

    settings: CheckSettings
    data: DataFacts
    model: ModelFacts
    layers: tuple[Layer, ...]
    maps: tuple[CheckedMap, ...]
    versions: Mapping[str, str]

    def __repr__(self) -> str:
        kept = ", ".join(f"{one.method} {one.map}: {one.verdict.weights}" for one in self.maps)
        return _short(self, f"; similarity left with random weights: {kept}")

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods whose maps were checked."""
        return tuple(dict.fromkeys(checked.method for checked in self.maps))

    def to_frame(self) -> "pd.DataFrame":
        """A tidy pandas table: one row per method, map, test and step."""
        return frame_of(
            {"method": checked.method, "map": checked.map, "test": test, "step": step}
            for checked in self.maps
            for test in ("cascade", "alone", "other_class", "noise", "random")
            for steps in [getattr(checked, test)]
            for step in (steps if isinstance(steps, tuple) else [steps])
        )


@dataclass(frozen=True, slots=True)
class LocatedMap:
    """One map, in the mean over images, with the same for a random order (`chance`).

    `hit`: the share of images whose highest pixel lies in the region; `energy`: the share of the
    map's sum that does; `center_hit`: hits of the middle pixel. `hit_p` and `energy_p`: p-values of
    the differences from chance, corrected over maps and measures (Holm).
    """

    map: str
    hit: Interval
    energy: Interval
    chance_hit: Interval
    chance_energy: Interval
    center_hit: Interval
    hit_p: float
    energy_p: float


@dataclass(frozen=True, repr=False)
class Localization(Shown):
    """Whether maps point at regions of images: the pointing game, and the energy inside."""

    settings: LocalizationSettings
    data: DataFacts
    model: ModelFacts
    maps: tuple[LocatedMap, ...]
    versions: Mapping[str, str]

    def __repr__(self) -> str:
        hits = ", ".join(f"{located.map} {located.hit.value:.3f}" for located in self.maps)
        return _short(self, f"; hits: {hits}")

    def to_frame(self) -> "pd.DataFrame":
        """A tidy pandas table: one row per map."""
        return frame_of(self.maps)


@dataclass(frozen=True, slots=True)
class Line:
    """Means at every fraction, with the ends of their confidence intervals."""

    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def at(self, place: int) -> Interval:
        """The mean at one place."""
        return Interval(self.mean[place], self.low[place], self.high[place])


@dataclass(frozen=True, slots=True)
class Curve:
    """What deleting a map's highest pixels does; `control`: a random or inverted order.

    `allegiance`: the share of images that keep their predicted class, with the `area` below it;
    `probability_area` and `logit_area`: below those of the target class; `changed`: the share of
    pixels whose value differs.
    """

    protocol: str
    map: str
    fill: str
    control: bool
    allegiance: Line
    probability: Line
    changed: tuple[float, ...]
    area: Interval
    area_by_range: Interval
    probability_area: Interval
    logit_area: Interval


@dataclass(frozen=True, slots=True)
class Difference:
    """The score of `map` minus that of `against` on the same images.

    `score`: "area", lower is better, or "gain", the symmetric relevance gain, higher is better;
    `of` says of which curve. `p_holm`: `p` corrected over all pairs of the run of one score.
    """

    protocol: str
    fill: str
    map: str
    against: str
    difference: Interval
    p: float
    p_holm: float
    score: ScoreName = "area"
    of: str = "allegiance"

    @property
    def better(self) -> str:
        """The map with the better score, significantly or not."""
        return self.map if (self.difference.value < 0) == (self.score == "area") else self.against


@dataclass(frozen=True, slots=True)
class Gain:
    """The symmetric relevance gain of a map: the area of its inverted order minus its own.

    `of`: the curves' allegiance, probability or logit. `p`: of maps whose order does not matter;
    `p_holm` is corrected over all maps and fills.
    """

    of: str
    fill: str
    map: str
    gain: Interval
    p: float
    p_holm: float


@dataclass(frozen=True, slots=True)
class ClassRow:
    """The images of one class: their number, accuracy, and mean areas in the order of `curves`."""

    name: str
    images: int
    accuracy: float | None
    areas: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class WhatIfRow:
    """Predicted and actual changes of the target logit at one share (`step`) of a map's change.

    `control`: a random order. Over `images` in which a pixel changes: `direction` is the share with
    the predicted sign, `tolerated` within tolerance; `slope` and `correlation` are of actual on
    predicted changes, which have the means `actual` and `predicted`. `flips` and `predicted_flips`:
    the share of images whose predicted class changes. None: no value.
    """

    map: str
    fill: str
    step: float
    control: bool
    images: int
    direction: Interval | None
    tolerated: Interval | None
    slope: Interval | None
    correlation: Interval | None
    predicted: Interval | None
    actual: Interval | None
    flips: Interval | None
    predicted_flips: Interval | None


@dataclass(frozen=True, slots=True)
class MetricRow:
    """The mean of one measure of a metric over images, by map; `fill` is "" where none matters."""

    metric: str
    measure: str
    map: str
    fill: str
    mean: Interval


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What metrics find; each fills some of it. `accuracy` is that of the predicted classes."""

    accuracy: Interval | None = None
    curves: tuple[Curve, ...] = ()
    differences: tuple[Difference, ...] = ()
    gains: tuple[Gain, ...] = ()
    notes: tuple[str, ...] = ()
    classes: tuple[ClassRow, ...] = ()
    what_if: tuple[WhatIfRow, ...] = ()
    metrics: tuple[MetricRow, ...] = ()


@dataclass(frozen=True, kw_only=True, repr=False)
class Evaluation(Figures, Shown):
    """Maps of a classifier, measured over an image set.

    `accuracy`: the share of images whose predicted class is their own, `accuracy_note` says why
    there is none. `curves`: one per protocol, map and fill; `gains`: one per map and fill, of each
    kind of curve; `differences`: one per pair of maps and score under one protocol and fill;
    `notes`: which maps do not differ from chance; `classes`: one per class that has images;
    `what_if`: one per map, fill and step; `metrics`: one per measure, map and fill of the other
    metrics. `check` is a sanity check of the same network that the page shows, `check_page` the
    way to its own page.
    """

    settings: EvaluationSettings
    data: DataFacts
    model: ModelFacts
    accuracy_note: str
    versions: Mapping[str, str]
    check: SanityCheck | None = None
    check_page: str = ""

    def __repr__(self) -> str:
        right = "" if self.accuracy is None else f", accuracy {self.accuracy.value:.3f}"
        return _short(self, f", maps {', '.join(self.settings.maps)}{right}")

    def curve(self, protocol: str, map: str, fill: str) -> Curve:
        """One curve; raises `ChoiceError` for one that was not measured."""
        return pick(self.curves, protocol=protocol, map=map, fill=fill)

    def to_frame(self, table: str = "curves") -> "pd.DataFrame":
        """A tidy pandas table: "curves" (a row per curve and fraction), "areas", "gains",
        "differences", "classes", "what_if" or "metrics"; raises `ChoiceError` for another name.
        """
        tables = {"curves": self._curve_rows(), "areas": self.curves, "classes": self._class_rows()}
        same = ("gains", "differences", "what_if", "metrics")
        tables |= {name: getattr(self, name) for name in same}
        if table not in tables:
            raise unknown("table", table, tables)
        return frame_of(tables[table])

    def _curve_rows(self) -> Iterator[Mapping[str, Any]]:
        for curve in self.curves:
            lines = {"allegiance": curve.allegiance, "probability": curve.probability}
            for i, fraction in enumerate(self.settings.fractions):
                values = {name: line.at(i) for name, line in lines.items()}
                yield {**_key(curve), "fraction": fraction, **values, "changed": curve.changed[i]}

    def _class_rows(self) -> Iterator[Mapping[str, Any]]:
        for row in self.classes:
            about = {"class": row.name, "images": row.images, "accuracy": row.accuracy}
            for curve, area in zip(self.curves, row.areas, strict=True):
                yield {**about, **_key(curve), "area": area}


def _key(curve: Curve) -> dict[str, Any]:
    return {name: getattr(curve, name) for name in ("protocol", "map", "fill", "control")}


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table; every cell is text, the first column names the row."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture of the report's folder with its caption."""

    file: str
    caption: str


@dataclass(frozen=True, slots=True)
class Answer:
    """One claim of the paper, the answer in a sentence or two, and the table behind it."""

    claim: str
    sentences: tuple[str, ...]
    table: Table | None = None


@dataclass(frozen=True)
class Reproduction:
    """The paper's tables (by file name), claims and figures, with our numbers."""

    facts: tuple[str, ...]
    tables: Mapping[str, Table]
    answers: tuple[Answer, ...]
    figures: tuple[Figure, ...]
    missing: Mapping[str, str]
    versions: Mapping[str, str]
