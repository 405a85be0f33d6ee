"""How far first order can be taken at its word: rows of what-ifs to figures with intervals."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from chiaroscuro.choices import RANDOM, WHAT_IF_STEPS, EvaluationSettings
from chiaroscuro.metrics.intervals import BootstrapMeans
from chiaroscuro.runs.what_if import WhatIfKey

Floats = NDArray[np.float64]

_MOMENTS = (
    "counted", "direction", "kept", "told", "real", "told2", "real2", "both", "flipped",
    "flip_foretold",
)  # fmt: skip
"""Means over images that every figure is made of."""
_DIGITS, _ROUNDING = 12, 1e-10


class WhatIfSums:
    """What is added up over images: moments of foretold and real changes, step by step.

    Images in which nothing changed keep no promise and break none: they are left out of direction,
    slope, correlation and kept promises, and stay in the flips.
    """

    def __init__(self, table: pa.Table, settings: EvaluationSettings) -> None:
        words = [table[name].to_pylist() for name in ("map", "fill")]
        self.keys: tuple[WhatIfKey, ...] = tuple(dict.fromkeys(zip(*words, strict=True)))
        self.confidence = settings.confidence
        self.shape = (len(self.keys), len(WHAT_IF_STEPS))
        values = len(_MOMENTS) * self.shape[0] * self.shape[1]
        self.sums = BootstrapMeans(values, settings.resamples, settings.seed)

    def add(self, table: pa.Table) -> None:
        """Count a batch in: every image has the same maps and fills in the same order."""
        images = len(table) // len(self.keys)

        def lists(name: str) -> Floats:
            flat = table[name].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            return np.asarray(flat, np.float64).reshape(images, *self.shape)

        def single(name: str) -> Floats:
            return np.asarray(table[name].to_numpy(), np.float64).reshape(images, -1, 1)

        told = single("foretold") * np.array(WHAT_IF_STEPS)
        real = lists("real")
        counted = np.broadcast_to((single("changed") > 0).astype(float), told.shape)
        moments = {
            "counted": counted,
            "direction": counted * (told * real > 0),
            "kept": counted * lists("kept"),
            "told": counted * told,
            "real": counted * real,
            "told2": counted * told**2,
            "real2": counted * real**2,
            "both": counted * told * real,
            "flipped": lists("flipped"),
            "flip_foretold": lists("flip_foretold"),
        }
        rows = np.stack([moments[name] for name in _MOMENTS], axis=1)
        self.sums.add(rows.reshape(images, -1))

    def figures(self) -> list[dict[str, Any]]:
        """Every figure with its interval, by map, fill and step; None where it has no value."""
        means = self._by_name(self.sums.mean[None])
        whole, resampled = _statistics(means), _statistics(self._by_name(self.sums.resampled))
        rows = []
        for j, (name, fill) in enumerate(self.keys):
            for s, step in enumerate(WHAT_IF_STEPS):
                counted = round(float(means["counted"][0, j, s]) * self.sums.images)
                about = {"map": name, "fill": fill, "step": step, "control": name == RANDOM}
                found = {
                    figure: _interval(values[0, j, s], resampled[figure][:, j, s], self.confidence)
                    for figure, values in whole.items()
                }
                rows.append({**about, "images": counted, **found})
        return rows

    def _by_name(self, means: Floats) -> dict[str, Floats]:
        parts = means.reshape(len(means), len(_MOMENTS), *self.shape)
        return {name: parts[:, i] for i, name in enumerate(_MOMENTS)}


def _statistics(means: Mapping[str, Floats]) -> dict[str, Floats]:
    """Figures of mean moments: NaN where they have no value.

    slope = sum(p r) / sum(p^2), through the origin, since no change is promised to do nothing: 1
    where first order holds. correlation is Pearson's.
    """
    count = means["counted"]
    told, real = (_ratio(means[name], count) for name in ("told", "real"))
    spread = _variance(means["told2"], told, count) * _variance(means["real2"], real, count)
    covariance = _ratio(means["both"], count) - told * real
    return {
        "direction": _ratio(means["direction"], count),
        "kept": _ratio(means["kept"], count),
        "slope": _ratio(means["both"], means["told2"]),
        "correlation": _ratio(covariance, np.sqrt(spread)),
        "foretold": told,
        "real": real,
        "flipped": means["flipped"],
        "flip_foretold": means["flip_foretold"],
    }


def _variance(squares: Floats, mean: Floats, count: Floats) -> Floats:
    """The variance; one that rounding alone may have left is none."""
    square = _ratio(squares, count)
    found = square - mean**2
    return np.where(found > _ROUNDING * square, found, 0)


def _ratio(above: Floats, below: Floats) -> Floats:
    found: Floats = np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)
    return found


def _interval(value: float, resampled: Floats, confidence: float) -> dict[str, float] | None:
    known = resampled[np.isfinite(resampled)]
    if not np.isfinite(value) or not known.size:
        return None
    outside = (1 - confidence) / 2
    low, high = np.quantile(known, [outside, 1 - outside])
    ends = {"value": value, "low": low, "high": high}
    return {end: round(float(found), _DIGITS) for end, found in ends.items()}
