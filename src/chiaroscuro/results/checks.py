"""What a sanity check says of maps, and where maps point: results of checks."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from chiaroscuro.choices import CheckSettings, LocalizationSettings
from chiaroscuro.results.facts import DataFacts, Interval, ModelFacts
from chiaroscuro.results.frames import frame_of

if TYPE_CHECKING:
    import pandas as pd

Level = Literal["none", "some", "much"]
"""How much of its similarity a map keeps: no more than a random order has, some, or much."""
LEVELS: tuple[Level, ...] = ("none", "some", "much")


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

    def of(self, measure: str) -> Interval:
        """One of the two by name."""
        return self.correlation if measure == "correlation" else self.overlap


@dataclass(frozen=True, slots=True)
class Step:
    """A map against that of a changed network or image, averaged over draws.

    `step` counts layers from the output, 1 the last; `constant` is the share of images whose other
    map has one value everywhere; `by_draw` gives the mean correlation and overlap of each draw.
    """

    step: int
    similarity: Similarities
    constant: float
    by_draw: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """The two limits of one measure, from random orders of the pixels.

    `floor`: the similarity that one image's map has with a random order in 95 of 100 cases, at
    most; `lowest` the same from below; `middle`: half way from the floor to an unchanged map.
    """

    lowest: float
    floor: float
    middle: float

    def level(self, similarity: Interval) -> Level:
        """Where the interval of a mean similarity lies.

        "none" with its upper end at or below the floor, "much" when that reaches the middle, else
        "some".

        >>> limits = Limits(-0.2, 0.2, 0.6)
        >>> [limits.level(Interval(0, *e)) for e in [(0.1, 0.19), (0.1, 0.3), (0.5, 0.6)]]
        ['none', 'some', 'much']
        """
        if similarity.high <= self.floor:
            return "none"
        return "much" if similarity.high >= self.middle else "some"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How similar a map stays with random weights, for the second-best class, and under noise.

    `changes_after`: layers randomized before its similarity is no longer "much", None for never;
    `overlooked`: the steps of layers that, randomized alone, leave it "much" the same.
    """

    weights: Level
    other_class: Level
    noise: Level
    changes_after: int | None
    overlooked: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CheckedMap:
    """One method's map: similarities by test, limits, and the verdict.

    `cascade`: layers randomized from the output on, `alone`: one layer at a time; `cascade_mean`
    over all steps; `other_class`: the second-best class; `random`: random orders of the pixels.
    """

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
class SanityCheck:
    """Whether maps depend on the weights and the class, and not on noise."""

    settings: CheckSettings
    data: DataFacts
    model: ModelFacts
    layers: tuple[Layer, ...]
    maps: tuple[CheckedMap, ...]
    versions: Mapping[str, str]

    def __repr__(self) -> str:
        pairs = [(checked.method, checked.map, checked.verdict.weights) for checked in self.maps]
        kept = ", ".join(f"{method} {name}: {level}" for method, name, level in pairs)
        return (
            f"SanityCheck({self.model.name} on {self.data.name}: "
            f"{self.data.images} images; similarity left with random weights: {kept})"
        )

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods whose maps were checked."""
        return tuple(dict.fromkeys(checked.method for checked in self.maps))

    def to_frame(self) -> "pd.DataFrame":
        """A tidy pandas table: one row per method, map, test and step.

        Raises `MissingExtraError` without pandas.
        """
        return frame_of("steps", {"steps": self._rows})

    def _rows(self) -> Iterator[Mapping[str, Any]]:
        for checked in self.maps:
            steps = (
                *(("cascade", step) for step in checked.cascade),
                *(("alone", step) for step in checked.alone),
                ("other_class", checked.other_class),
                ("noise", checked.noise),
                ("random", checked.random),
            )
            for test, step in steps:
                yield {
                    "method": checked.method,
                    "map": checked.map,
                    "test": test,
                    "step": step.step,
                    "correlation": step.similarity.correlation,
                    "overlap": step.similarity.overlap,
                    "constant": step.constant,
                }


@dataclass(frozen=True, slots=True)
class LocatedMap:
    """Where one map points, in the mean over images.

    `hit`: its highest pixel lies in the region; `energy`: the share of its size in the region; the
    others know nothing of the map. `hit_p` and `energy_p` are for a difference from a random
    order, corrected over all maps and both measures.
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
class Localization:
    """Whether maps point at regions of images: the pointing game, and the energy inside."""

    settings: LocalizationSettings
    data: DataFacts
    model: ModelFacts
    maps: tuple[LocatedMap, ...]
    versions: Mapping[str, str]

    def __repr__(self) -> str:
        hits = ", ".join(f"{located.map} {located.hit.value:.3f}" for located in self.maps)
        return (
            f"Localization({self.model.name} on {self.data.name}: "
            f"{self.data.images} images; hits: {hits})"
        )

    def to_frame(self) -> "pd.DataFrame":
        """A tidy pandas table: one row per map; raises `MissingExtraError` without pandas."""
        return frame_of("maps", {"maps": self.maps})
