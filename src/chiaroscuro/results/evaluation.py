"""What an evaluation says of maps: deletion curves, differences, classes, what-ifs, metrics."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chiaroscuro.choices import EvaluationSettings
from chiaroscuro.results.checks import SanityCheck
from chiaroscuro.results.facts import DataFacts, Interval, ModelFacts
from chiaroscuro.results.frames import frame_of, pick

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = "examples"
"""The folder of a few images with their maps, next to an evaluation's parts."""


@dataclass(frozen=True, slots=True)
class Line:
    """Means at every fraction, with the ends of their confidence intervals."""

    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def at(self, place: int) -> Interval:
        """The mean at one place with its interval."""
        return Interval(self.mean[place], self.low[place], self.high[place])


@dataclass(frozen=True, slots=True)
class Curve:
    """What deleting a map's highest pixels does, by protocol and fill.

    `allegiance`: the share of images that keep their predicted class; `probability` of the target;
    `changed`: the share of pixels whose value differs. `area` lies under the allegiance curve,
    `area_by_range` is divided by the range of fractions. `control`: a random or inverted order.
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


@dataclass(frozen=True, slots=True)
class Difference:
    """The area of `map` minus that of `against`, on the same images.

    `p` is by sign flips of whole images, `p_holm` corrected over all pairs of the run.
    """

    protocol: str
    fill: str
    map: str
    against: str
    difference: Interval
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
    """Predicted and actual changes of the target logit, by map, fill and step; None: no value.

    `direction`: the share of images whose logit moves in the predicted direction; `tolerated`:
    whose actual change is within tolerance; `slope` and `correlation` of actual on predicted
    changes; `predicted`, `actual`: their means; `flips`, `predicted_flips`: the share of images
    whose predicted class changes. Images in which no pixel changes count for flips alone.
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
    """What metrics find; each fills some of it.

    `accuracy`: the share of images whose predicted class is their own. `curves`: one per protocol,
    map and fill; `differences`: one per pair of maps under one protocol and fill; `classes`: one
    per class that has images; `what_if`: one per map, fill and step; `metrics`: one per measure,
    map and fill of the other metrics.
    """

    accuracy: Interval | None = None
    curves: tuple[Curve, ...] = ()
    differences: tuple[Difference, ...] = ()
    classes: tuple[ClassRow, ...] = ()
    what_if: tuple[WhatIfRow, ...] = ()
    metrics: tuple[MetricRow, ...] = ()


@dataclass(frozen=True, kw_only=True, repr=False)
class Evaluation(Figures):
    """Maps of a classifier, measured over an image set.

    `accuracy_note` says why there is no accuracy. `check` is a sanity check of the same network
    that the page shows, `check_page` the way to its own page.
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
        return (
            f"Evaluation({self.model.name} on {self.data.name}: "
            f"{self.data.images} images, maps {', '.join(self.settings.maps)}{right})"
        )

    def curve(self, protocol: str, map: str, fill: str) -> Curve:
        """One curve; raises `ChoiceError` for one that was not measured."""
        return pick(self.curves, protocol=protocol, map=map, fill=fill)

    def to_frame(self, table: str = "curves") -> "pd.DataFrame":
        """A tidy pandas table: "curves" (a row per curve and fraction), "areas", "differences",
        "classes", "what_if" or "metrics".

        Raises `ChoiceError` for another name, `MissingExtraError` without pandas.
        """
        return frame_of(
            table,
            {
                "curves": self._curve_rows,
                "areas": self._area_rows,
                "classes": self._class_rows,
                "differences": self.differences,
                "what_if": self.what_if,
                "metrics": self.metrics,
            },
        )

    def _curve_rows(self) -> Iterator[Mapping[str, Any]]:
        for curve in self.curves:
            for i, fraction in enumerate(self.settings.fractions):
                yield {
                    **_key(curve),
                    "fraction": fraction,
                    "allegiance": curve.allegiance.at(i),
                    "probability": curve.probability.at(i),
                    "changed": curve.changed[i],
                }

    def _area_rows(self) -> Iterator[Mapping[str, Any]]:
        for curve in self.curves:
            yield {**_key(curve), "area": curve.area, "area_by_range": curve.area_by_range}

    def _class_rows(self) -> Iterator[Mapping[str, Any]]:
        for row in self.classes:
            for curve, area in zip(self.curves, row.areas, strict=True):
                about = {"class": row.name, "images": row.images, "accuracy": row.accuracy}
                yield {**about, **_key(curve), "area": area}


def _key(curve: Curve) -> dict[str, Any]:
    return {
        "protocol": curve.protocol,
        "map": curve.map,
        "fill": curve.fill,
        "control": curve.control,
    }
