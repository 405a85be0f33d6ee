"""What-if as a metric: how far the linear prediction of pixel changes is right, over images."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from chiaroscuro.choices import RANDOM, WHAT_IF_STEPS
from chiaroscuro.edits import filled, pixel_order, tie_priority, top_edit
from chiaroscuro.evaluation.classes import ClassNames
from chiaroscuro.evaluation.columns import WORD, Floats, image_rows, read_keys, read_values
from chiaroscuro.evaluation.figures import resampled_interval
from chiaroscuro.evaluation.stacks import Stack
from chiaroscuro.metrics import Linearity, linearity
from chiaroscuro.metrics.intervals import BootstrapMeans
from chiaroscuro.results.measurements import Figures, WhatIfRow
from chiaroscuro.settings import EvaluationSettings

WHAT_IF_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("target", pa.int32()),
        ("map", WORD),
        ("fill", WORD),
        ("predicted", pa.float32()),
        ("actual", pa.list_(pa.float32())),
        ("tolerated", pa.list_(pa.bool_())),
        ("predicted_flips", pa.list_(pa.bool_())),
        ("flips", pa.list_(pa.bool_())),
        ("changed", pa.int32()),
    ]
)
"""One row per image, map and fill; the lists have one entry per step of `WHAT_IF_STEPS`.

`predicted` is the target logit's first-order change at step 1 (t times it at step t), `actual` its
change; `tolerated`: within tolerance; flips are of the predicted class; `changed` pixels.
"""
_MOMENTS = (
    "counted",
    "direction",
    "tolerated",
    "predicted",
    "actual",
    "predicted2",
    "actual2",
    "both",
    "flips",
    "predicted_flips",
)
"""Means over images that every figure is computed from."""
_ROUNDING = 1e-10


def what_if_rows(stack: Stack) -> pa.Table:
    """What changing the top pixels of every map, and of a random order, does."""
    changes = _changes(stack)
    names, fills = zip(*changes, strict=True)
    target = stack.target.cpu()
    images = torch.arange(len(target))
    values = {
        "predicted": [one.predicted_change.cpu()[images, target] for one in changes.values()],
        "actual": [one.actual_change.cpu()[images, :, target] for one in changes.values()],
        "tolerated": [one.within_tolerance(target) for one in changes.values()],
        "predicted_flips": [one.predicted_flips() for one in changes.values()],
        "flips": [one.flips() for one in changes.values()],
        "changed": [one.changed for one in changes.values()],
    }
    return image_rows(
        WHAT_IF_SCHEMA,
        {"id": stack.ids, "target": target.tolist()},
        {"map": names, "fill": fills},
        {n: torch.stack(several, dim=1).cpu().numpy() for n, several in values.items()},
    )


def _changes(stack: Stack) -> dict[tuple[str, str], Linearity]:
    """Predicted and actual changes by map and fill."""
    settings, pixels = stack.settings, stack.pixels
    assert settings.what_if is not None
    priority = tie_priority(pixels, settings.seed)
    results = {}
    for fill in settings.fills:
        changed = filled(pixels, fill, settings.seed)
        maps = stack.maps[fill].items()
        orders = {name: pixel_order(values.detach(), priority) for name, values in maps}
        for name, order in {**orders, RANDOM: priority}.items():
            edited = top_edit(pixels, changed, order, settings.what_if)
            results[name, fill] = linearity(stack.classifier, pixels, edited)
    return results


class WhatIfSums:
    """Moments of predicted and actual changes, step by step.

    Images in which nothing changes are left out of direction, slope, correlation and tolerance, and
    stay in the flips.
    """

    def __init__(self, table: pa.Table, settings: EvaluationSettings, _: ClassNames) -> None:
        self.keys = read_keys(table, ("map", "fill"))
        self.confidence = settings.confidence
        self.shape = (len(self.keys), len(WHAT_IF_STEPS))
        values = len(_MOMENTS) * self.shape[0] * self.shape[1]
        self.sums = BootstrapMeans(values, settings.resamples, settings.seed)

    def add(self, table: pa.Table) -> None:
        """Count a batch in: every image has the same maps and fills in the same order."""

        def column(name: str) -> Floats:
            return read_values(table, name, len(self.keys))

        predicted = column("predicted")[..., None] * np.array(WHAT_IF_STEPS)
        actual = column("actual")
        counted = np.broadcast_to((column("changed")[..., None] > 0).astype(float), predicted.shape)
        moments = {
            "counted": counted,
            "direction": counted * (predicted * actual > 0),
            "tolerated": counted * column("tolerated"),
            "predicted": counted * predicted,
            "actual": counted * actual,
            "predicted2": counted * predicted**2,
            "actual2": counted * actual**2,
            "both": counted * predicted * actual,
            "flips": column("flips"),
            "predicted_flips": column("predicted_flips"),
        }
        rows = np.stack([moments[name] for name in _MOMENTS], axis=1)
        self.sums.add(rows.reshape(len(rows), -1))

    def figures(self) -> Figures:
        """Every figure with its interval, by map, fill and step; None where it has no value."""
        means = self._by_name(self.sums.mean[None])
        whole, resampled = _statistics(means), _statistics(self._by_name(self.sums.resampled))
        rows = []
        for j, (name, fill) in enumerate(self.keys):
            for s, step in enumerate(WHAT_IF_STEPS):
                intervals = {
                    figure: resampled_interval(
                        float(values[0, j, s]), resampled[figure][:, j, s], self.confidence
                    )
                    for figure, values in whole.items()
                }
                counted = round(float(means["counted"][0, j, s]) * self.sums.images)
                rows.append(
                    WhatIfRow(name, fill, step, name == RANDOM, images=counted, **intervals)
                )
        return Figures(what_if=tuple(rows))

    def _by_name(self, means: NDArray[np.float64]) -> dict[str, Floats]:
        parts = means.reshape(len(means), len(_MOMENTS), *self.shape)
        return {name: parts[:, i] for i, name in enumerate(_MOMENTS)}


def _statistics(means: Mapping[str, Floats]) -> dict[str, Floats]:
    """Figures of mean moments: NaN where they have no value.

    slope = sum(p a) / sum(p^2), through the origin, since no change is predicted to do nothing: 1
    where the network is linear. correlation is Pearson's.
    """
    count = means["counted"]
    predicted, actual = (_ratio(means[name], count) for name in ("predicted", "actual"))
    spread = _variance(means["predicted2"], predicted, count) * _variance(
        means["actual2"], actual, count
    )
    covariance = _ratio(means["both"], count) - predicted * actual
    return {
        "direction": _ratio(means["direction"], count),
        "tolerated": _ratio(means["tolerated"], count),
        "slope": _ratio(means["both"], means["predicted2"]),
        "correlation": _ratio(covariance, np.sqrt(spread)),
        "predicted": predicted,
        "actual": actual,
        "flips": means["flips"],
        "predicted_flips": means["predicted_flips"],
    }


def _variance(squares: Floats, mean: Floats, count: Floats) -> Floats:
    """The variance; one that rounding alone may have left is none."""
    square = _ratio(squares, count)
    variance = square - mean**2
    return np.where(variance > _ROUNDING * square, variance, 0)


def _ratio(above: Floats, below: Floats) -> Floats:
    ratio: Floats = np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)
    return ratio
