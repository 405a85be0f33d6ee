"""Rows of a sanity check to means with intervals, limits and verdicts."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from chiaroscuro.evaluation.columns import read_keys, read_values
from chiaroscuro.evaluation.figures import interval_at, reshaped, rounded
from chiaroscuro.metrics.intervals import BootstrapMeans
from chiaroscuro.metrics.intervals import Interval as Ends
from chiaroscuro.results.measurements import (
    LEVELS,
    CheckedMap,
    Level,
    Limits,
    Similarities,
    Step,
    Verdict,
)
from chiaroscuro.settings import CheckSettings

MEASURES = ("correlation", "overlap")
_MEAN = "cascade mean"
"""The similarity averaged over all steps of the cascade: the area under its curve."""
_QUANTILE = 0.95
"""Of the similarities with random orders: the floor."""

Values = NDArray[np.float64]
Cell = tuple[str, str, str, int]
"""Method, map, test and step: what is a mean over images and draws."""


class SanitySums:
    """Means over images, draws averaged first, with intervals of a bootstrap over images."""

    def __init__(self, table: pa.Table, settings: CheckSettings) -> None:
        self.keys = read_keys(table, ("method", "map", "test", "step", "draw"))
        pairs = dict.fromkeys(key[:2] for key in self.keys)
        self.cells: list[Cell] = [
            *dict.fromkeys(key[:4] for key in self.keys),
            *((*pair, _MEAN, 0) for pair in pairs),
        ]
        # One row a cell: the mean over its draws, or over all steps of the cascade.
        belongs = np.array([[_is_in(key, cell) for key in self.keys] for cell in self.cells])
        self.belongs, self.average = belongs, belongs / belongs.sum(axis=1, keepdims=True)
        values = len(self.cells) * len(MEASURES)
        self.means = BootstrapMeans(values, settings.resamples, settings.seed)
        self.confidence = settings.confidence
        self.total = np.zeros((len(self.keys), len(MEASURES) + 1))
        self.control: list[Values] = []

    def add(self, table: pa.Table) -> None:
        """Count a batch in."""
        columns = [read_values(table, name, len(self.keys)) for name in (*MEASURES, "constant")]
        values = np.stack(columns, axis=2)  # (B, R, 3)
        averaged = np.einsum("dr,brm->bdm", self.average, values[..., : len(MEASURES)])
        self.means.add(averaged.reshape(len(values), -1))
        self.total += values.sum(axis=0)
        random = np.array([key[2] == "random" for key in self.keys])
        self.control.append(values[:, random, : len(MEASURES)])

    def maps(self) -> Iterator[CheckedMap]:
        """One entry per method and map."""
        ends = reshaped(self.means.interval(self.confidence), len(self.cells), len(MEASURES))
        for method, name in dict.fromkeys(cell[:2] for cell in self.cells):
            steps: dict[str, list[Step]] = {}
            for i, cell in enumerate(self.cells):
                if cell[:2] == (method, name):
                    steps.setdefault(cell[2], []).append(self._step(i, ends))
            limits = self._limits(method, name)
            yield CheckedMap(
                method=method,
                map=name,
                cascade=tuple(steps["cascade"]),
                alone=tuple(steps["alone"]),
                cascade_mean=steps[_MEAN][0],
                other_class=steps["class"][0],
                noise=steps["noise"][0],
                random=steps["random"][0],
                correlation_limits=limits[0],
                overlap_limits=limits[1],
                verdict=verdict(
                    steps["cascade"],
                    steps["alone"],
                    steps[_MEAN][0],
                    steps["class"][0],
                    steps["noise"][0],
                    limits,
                ),
            )

    def _step(self, i: int, ends: Ends) -> Step:
        cell = self.cells[i]
        draws = (self.total / self.means.images)[self.belongs[i]]
        similarity = Similarities(*(interval_at(ends, i, m) for m in range(len(MEASURES))))
        by_draw = () if cell[2] in ("random", _MEAN) else draws[:, : len(MEASURES)]
        return Step(
            cell[3],
            similarity,
            rounded(draws[:, -1].mean()),
            tuple((rounded(correlation), rounded(overlap)) for correlation, overlap in by_draw),
        )

    def _limits(self, method: str, name: str) -> tuple[Limits, Limits]:
        """The limits of each measure: quantiles over images and orders."""
        keys = [key for key in self.keys if key[2] == "random"]
        own = np.concatenate(self.control)[:, [key[:2] == (method, name) for key in keys]]
        quantiles = [1 - _QUANTILE, _QUANTILE]
        low, floor = np.quantile(own.reshape(-1, len(MEASURES)), quantiles, axis=0)
        correlation, overlap = (
            Limits(rounded(low[m]), rounded(floor[m]), rounded((floor[m] + 1) / 2))
            for m in range(len(MEASURES))
        )
        return correlation, overlap


def verdict(
    cascade: Sequence[Step],
    alone: Sequence[Step],
    cascade_mean: Step,
    other_class: Step,
    noise: Step,
    limits: tuple[Limits, Limits],
) -> Verdict:
    """How similar a map stays in each test, and the layers that it overlooks.

    Random weights and another class should leave no similarity, by every measure; noise should
    leave much, so there the measure that finds least counts. For the weights both the last step,
    where all are random, and the mean over all steps must pass: a map that only the layers next to
    the pixels can change does not depend on the network.
    """

    def levels(step: Step) -> list[Level]:
        return [limit.level(one) for limit, one in zip(limits, step.similarity, strict=True)]

    return Verdict(
        weights=_most([*levels(cascade[-1]), *levels(cascade_mean)]),
        other_class=_most(levels(other_class)),
        noise=min(levels(noise), key=LEVELS.index),
        changes_after=next((s.step for s in cascade if _most(levels(s)) != "much"), None),
        overlooked=tuple(s.step for s in alone if _most(levels(s)) == "much"),
    )


def _most(levels: Sequence[Level]) -> Level:
    """The level of the measure that finds most similarity."""
    return max(levels, key=LEVELS.index)


def _is_in(key: Sequence[object], cell: Cell) -> bool:
    """Whether a row is one of those that a cell is the mean of."""
    if cell[2] == _MEAN:
        return tuple(key[:3]) == (*cell[:2], "cascade")
    return tuple(key[:4]) == cell
