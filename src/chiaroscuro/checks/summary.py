"""Rows of a sanity check to means with intervals, lines and verdicts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from chiaroscuro.checks.layers import Layer
from chiaroscuro.checks.rows import MEASURES, Key
from chiaroscuro.checks.verdicts import FLOOR_QUANTILE, MEAN, verdict
from chiaroscuro.choices import CheckSettings
from chiaroscuro.data import LeftOut
from chiaroscuro.metrics.intervals import BootstrapMeans
from chiaroscuro.runs.store import Part

SCHEMA = "chiaroscuro-check/1"
_DIGITS = 6
_WORDS = ("method", "map", "test")

Values = NDArray[np.float64]
Cell = tuple[str, str, str, int]
"""Method, map, test and step: what is a mean over images and draws."""


def summarize_check(
    parts: Sequence[Part], settings: CheckSettings, layers: Sequence[Layer]
) -> dict[str, Any]:
    """The images, the layers, and for every method and map its likenesses, lines and verdict.

    Means over images (draws averaged first) have percentile intervals of a bootstrap over images;
    `by_draw` gives the mean of each draw, whose spread the interval does not hold.
    """
    sums: _Sums | None = None
    broken: list[LeftOut] = []
    for part in parts:
        broken += part.broken
        table = part.read()
        if len(table):
            keys, values = _read(table)
            sums = sums or _Sums(keys, settings)
            sums.add(values)
    return {
        "images": 0 if sums is None else sums.images,
        "left_out": [{"id": one.id, "reason": one.reason} for one in broken],
        "layers": [{"name": layer.name, "modules": list(layer.modules)} for layer in layers],
        "maps": [] if sums is None else sums.maps(),
    }


def _read(table: pa.Table) -> tuple[tuple[Key, ...], Values]:
    """The keys, the same for every image, and their values (B, R, 3)."""
    images = len(table["id"].unique())
    count = len(table) // images
    head = table.slice(0, count)
    words = [head[name].cast(pa.string()).to_pylist() for name in _WORDS]
    numbers = [head[name].to_pylist() for name in ("step", "draw")]
    keys = tuple(Key(*row) for row in zip(*words, *numbers, strict=True))
    columns = [
        np.asarray(table[name].to_numpy(), np.float64).reshape(images, count)
        for name in (*MEASURES, "constant")
    ]
    return keys, np.stack(columns, axis=2)


class _Sums:
    """Everything that is added up over images."""

    def __init__(self, keys: tuple[Key, ...], settings: CheckSettings) -> None:
        self.keys, self.settings = keys, settings
        pairs = dict.fromkeys(key[:2] for key in keys)
        self.cells: list[Cell] = [
            *dict.fromkeys(key[:4] for key in keys), *((*pair, MEAN, 0) for pair in pairs),
        ]  # fmt: skip
        # One row a cell: the mean over its draws, or over all steps of the cascade.
        belongs = self.belongs = np.array([[_is_in(k, c) for k in keys] for c in self.cells])
        self.average = belongs / belongs.sum(axis=1, keepdims=True)
        self.means = BootstrapMeans(
            len(self.cells) * len(MEASURES), settings.resamples, settings.seed
        )
        self.total = np.zeros((len(keys), len(MEASURES) + 1))
        self.control: list[Values] = []

    @property
    def images(self) -> int:
        """Images counted in."""
        return self.means.images

    def add(self, values: Values) -> None:
        """Count a batch in: (B, R, 3)."""
        averaged = np.einsum("dr,brm->bdm", self.average, values[..., : len(MEASURES)])
        self.means.add(averaged.reshape(len(values), -1))
        self.total += values.sum(axis=0)
        random = np.array([key.test == "random" for key in self.keys])
        self.control.append(values[:, random, : len(MEASURES)])

    def maps(self) -> list[dict[str, Any]]:
        """One entry a method and map."""
        steps = self._steps()
        floors = self._floors()
        found = []
        for method, name in dict.fromkeys(cell[:2] for cell in self.cells):
            tests: dict[str, Any] = {}
            for cell in (c for c in self.cells if c[:2] == (method, name)):
                tests.setdefault(cell[2], []).append(steps[cell])
            entry = {"method": method, "map": name, "lines": floors[method, name], **tests}
            found.append({**entry, "verdict": verdict(entry)})
        return found

    def _steps(self) -> dict[Cell, dict[str, Any]]:
        found = self.means.interval(self.settings.confidence)
        shape = (len(self.cells), len(MEASURES))
        value, low, high = (ends.reshape(shape) for ends in (found.value, found.low, found.high))
        mean = self.total / self.images
        steps: dict[Cell, dict[str, Any]] = {}
        for i, cell in enumerate(self.cells):
            draws = mean[self.belongs[i]]
            step: dict[str, Any] = {"step": cell[3], "constant": _round(draws[:, -1].mean())}
            for m, measure in enumerate(MEASURES):
                step[measure] = {
                    "value": _round(value[i, m]), "low": _round(low[i, m]),
                    "high": _round(high[i, m]),
                }  # fmt: skip
                if cell[2] not in ("random", MEAN):
                    step[measure]["by_draw"] = [_round(one) for one in draws[:, m]]
            steps[cell] = step
        return steps

    def _floors(self) -> dict[tuple[str, str], dict[str, dict[str, float]]]:
        """By method and map, the lines of each measure: quantiles over images and orders."""
        control = np.concatenate(self.control)
        keys = [key for key in self.keys if key.test == "random"]
        lines: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
        for pair in dict.fromkeys(key[:2] for key in keys):
            own = control[:, [key[:2] == pair for key in keys]].reshape(-1, len(MEASURES))
            low, floor = np.quantile(own, [1 - FLOOR_QUANTILE, FLOOR_QUANTILE], axis=0)
            lines[pair] = {
                measure: {
                    "lowest": _round(low[m]), "floor": _round(floor[m]),
                    "middle": _round((floor[m] + 1) / 2),
                }
                for m, measure in enumerate(MEASURES)
            }  # fmt: skip
        return lines


def _is_in(key: Key, cell: Cell) -> bool:
    """Whether a row is one of those that a cell is the mean of."""
    if cell[2] == MEAN:
        return key[:3] == (*cell[:2], "cascade")
    return key[:4] == cell


def _round(value: Any) -> float:
    return round(float(value), _DIGITS)


def describe(
    found: Mapping[str, Any], config: Mapping[str, Any], settings: CheckSettings
) -> dict[str, Any]:
    """What `check.json` holds."""
    return {
        "schema": SCHEMA,
        "data": {"source": settings.data, "split": config["settings"]["split"],
                 "images": found["images"], "left_out": found["left_out"]},
        "model": config["model"],
        "choices": {"target": "the predicted class of the untouched image", **config["settings"]},
        "layers": found["layers"],
        "maps": found["maps"],
        "versions": config["versions"],
    }  # fmt: skip
