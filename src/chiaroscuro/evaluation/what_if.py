"""What-if as a metric: how far the linear prediction of pixel changes is right, over images."""

import numpy as np
import pyarrow as pa
import torch

from chiaroscuro.choices import RANDOM, WHAT_IF_STEPS
from chiaroscuro.edits import filled, pixel_order, tie_priority, top_edit
from chiaroscuro.evaluation import rows
from chiaroscuro.evaluation.rows import WORD, Floats, row_schema
from chiaroscuro.evaluation.stacks import Stack
from chiaroscuro.metrics import linearity
from chiaroscuro.metrics.intervals import interval
from chiaroscuro.results.facts import Interval
from chiaroscuro.results.measurements import Figures, WhatIfRow

WHAT_IF_SCHEMA = row_schema(
    (pa.string(), "id"),
    (pa.int32(), "target changed"),
    (WORD, "map fill"),
    (pa.float32(), "predicted"),
    (pa.list_(pa.float32()), "actual"),
    (pa.list_(pa.bool_()), "tolerated predicted_flips flips"),
)
"""One row per image, map and fill; the lists have one entry per step of `WHAT_IF_STEPS`.

`predicted` is the target logit's first-order change at step 1 (t times it at step t), `actual` its
change; `tolerated`: within tolerance; flips are of the predicted class; `changed` pixels.
"""
_ROUNDING = 1e-10
"""A variance that is a smaller part of the mean square is one of rounding, and none."""
_MOMENTS = 10


def what_if_rows(stack: Stack) -> pa.Table:
    """What changing the top pixels of every map, and of a random order, does."""
    settings, pixels = stack.settings, stack.pixels
    assert settings.what_if is not None
    priority = tie_priority(pixels, settings.seed)
    changes = {}
    for fill in settings.fills:
        changed = filled(pixels, fill, settings.seed)
        maps = stack.maps[fill].items()
        orders = {name: pixel_order(values.detach(), priority) for name, values in maps}
        for name, order in {**orders, RANDOM: priority}.items():
            edited = top_edit(pixels, changed, order, settings.what_if)
            changes[name, fill] = linearity(stack.classifier, pixels, edited)
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
    return rows.image_rows(
        WHAT_IF_SCHEMA,
        {"id": stack.ids, "target": target.tolist()},
        {"map": names, "fill": fills},
        {n: torch.stack(several, dim=1).cpu().numpy() for n, several in values.items()},
    )


class WhatIfSums(rows.Sums):
    """Images in which nothing changes count for flips alone."""

    columns = ("map", "fill")

    def values(self, table: pa.Table) -> Floats:
        """Moments by map, fill and step (B, moments, J, steps): every figure is of their means."""
        predicted, actual, changed, tolerated, flips, predicted_flips = self.read(
            table, "predicted", "actual", "changed", "tolerated", "flips", "predicted_flips"
        )
        p = predicted[..., None] * np.array(WHAT_IF_STEPS)
        counted = (changed[..., None] > 0) * np.ones_like(p)
        moments = [p * actual > 0, tolerated, p, actual, p**2, actual**2, p * actual]
        counts = [counted, *(counted * moment for moment in moments), flips, predicted_flips]
        return np.stack(counts, axis=1)

    def figures(self) -> Figures:
        """Every figure with its interval, by map, fill and step; None where it has no value."""
        shape = (-1, _MOMENTS, len(self.keys), len(WHAT_IF_STEPS))
        mean, resampled = (
            means.reshape(shape).swapaxes(0, 1) for means in (self.means.mean, self.means.resampled)
        )
        whole, others, found = _statistics(mean), _statistics(resampled), []
        for j, (name, fill) in enumerate(self.keys):
            for s, step in enumerate(WHAT_IF_STEPS):
                figures = (
                    _interval(value, drawn, self.settings.confidence)
                    for value, drawn in zip(whole[..., j, s], others[..., j, s], strict=True)
                )
                images = round(float(mean[0, 0, j, s]) * self.means.images)
                found.append(WhatIfRow(name, fill, step, name == RANDOM, images, *figures))
        return Figures(what_if=tuple(found))


def _interval(value: Floats, resampled: Floats, confidence: float) -> Interval | None:
    """A figure (1,) with the percentiles of its resampled values; None where it has no value."""
    known = resampled[np.isfinite(resampled)]
    if not np.isfinite(value[0]) or not known.size:
        return None
    return rows.interval_at(rows.stacked(interval(value, known[:, None], confidence), 1), 0)


def _statistics(means: Floats) -> Floats:
    """The figures of `WhatIfRow` of mean moments, not finite where they have no value.

    slope = sum(p a) / sum(p^2), through the origin, since no change is predicted to do nothing: 1
    where the network is linear. correlation is Pearson's.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        direction, tolerated, p, a, p2, a2, both = means[1:8] / means[0]
        correlation = (both - p * a) / np.sqrt(_variance(p, p2) * _variance(a, a2))
        return np.stack([direction, tolerated, both / p2, correlation, p, a, *means[8:]])


def _variance(mean: Floats, square: Floats) -> Floats:
    variance = square - mean**2
    return np.where(variance > _ROUNDING * square, variance, 0)
