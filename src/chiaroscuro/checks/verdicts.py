"""Likeness to words: what passes, and by which line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["unlike", "trace", "alike"]
FLOOR_QUANTILE = 0.95
MEAN = "cascade_mean"
"""The cascade's likeness averaged over its steps: the area under its curve."""
LEVELS: tuple[Level, ...] = ("unlike", "trace", "alike")


@dataclass(frozen=True, slots=True)
class Lines:
    """The two lines of a measure that its random-order control draws.

    `floor`: what one image's map shares with a random order in 95 of 100 cases, at most. `middle`:
    half way from there to 1, an unchanged map.
    """

    floor: float

    @property
    def middle(self) -> float:
        """Half way from the floor to an unchanged map."""
        return (self.floor + 1) / 2

    def level(self, low: float, high: float) -> Level:
        """Where the interval [low, high] of a mean lies.

        "unlike" below the floor with its upper end, "alike" when it reaches the middle, else
        "trace".

        >>> [Lines(0.2).level(*ends) for ends in [(0.1, 0.19), (0.1, 0.3), (0.5, 0.6)]]
        ['unlike', 'trace', 'alike']
        """
        if high <= self.floor:
            return "unlike"
        return "alike" if high >= self.middle else "trace"


WORDS: Mapping[str, Mapping[Level, str]] = {
    "weights": {
        "unlike": "passes: random weights leave no more of it than a random order has",
        "trace": "passes in part: random weights change it, but a trace stays",
        "alike": "fails: it hardly notices random weights",
    },
    "class": {
        "unlike": "tells the two best classes apart as well as a random order would",
        "trace": "tells the two best classes apart, though the maps share something",
        "alike": "hardly tells the two best classes apart",
    },
    "noise": {
        "unlike": "unstable: a little noise makes it another map",
        "trace": "half stable: a little noise changes much of it",
        "alike": "stable under a little noise",
    },
}
"""What is said of each question at each level."""


def worst(levels: Sequence[Level]) -> Level:
    """The most alike of several levels: a question is answered by the measure that sees most."""
    return max(levels, key=LEVELS.index)


def least(levels: Sequence[Level]) -> Level:
    """The least alike of several levels."""
    return min(levels, key=LEVELS.index)


def verdict(found: Mapping[str, Any]) -> dict[str, Any]:
    """Levels and words of one map: `weights`, `class` and `noise`, and the layers it overlooks.

    `found` has `lines` by measure, and by test a list of steps, each with the interval of every
    measure. Randomized weights and another class should make a map unlike itself, by every
    measure; noise should not, so there the measure that sees least counts. For the weights both
    the last step, where all are random, and the mean over all steps must pass: a method that only
    the layers next to the pixels can change has not asked the network.
    """
    lines = {measure: Lines(ends["floor"]) for measure, ends in found["lines"].items()}

    def levels(step: Mapping[str, Any]) -> list[Level]:
        return [line.level(step[m]["low"], step[m]["high"]) for m, line in lines.items()]

    answers: dict[str, Level] = {
        "weights": worst([*levels(found["cascade"][-1]), *levels(found[MEAN][0])]),
        "class": worst(levels(found["class"][0])),
        "noise": least(levels(found["noise"][0])),
    }
    said: dict[str, Any] = {
        question: {"level": level, "words": WORDS[question][level]}
        for question, level in answers.items()
    }
    said["unlike_after"] = next(
        (s["step"] for s in found["cascade"] if worst(levels(s)) != "alike"), None
    )
    said["overlooked"] = [s["step"] for s in found["alone"] if worst(levels(s)) == "alike"]
    return said
