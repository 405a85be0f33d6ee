"""Deletion as a metric: curves of every image, their means, paired differences and classes."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pyarrow as pa
import torch

from chiaroscuro.choices import RANDOM
from chiaroscuro.evaluation.classes import ClassNames
from chiaroscuro.evaluation.columns import WORD, image_rows, read_keys, read_values
from chiaroscuro.evaluation.figures import all_rounded, interval_at, reshaped, rounded
from chiaroscuro.evaluation.stacks import Key, Stack
from chiaroscuro.metrics.deletion import INVERTED
from chiaroscuro.metrics.intervals import BootstrapMeans, SignFlips, holm, interval, share_interval
from chiaroscuro.metrics.intervals import Interval as Ends
from chiaroscuro.results.facts import Interval
from chiaroscuro.results.measurements import ClassRow, Curve, Difference, Figures, Line
from chiaroscuro.settings import EvaluationSettings

DELETION_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("label", pa.int32()),
        ("predicted", pa.int32()),
        ("target", pa.int32()),
        ("protocol", WORD),
        ("map", WORD),
        ("fill", WORD),
        ("allegiance", pa.list_(pa.bool_())),
        ("probability", pa.list_(pa.float32())),
        ("logit", pa.list_(pa.float32())),
        ("changed", pa.list_(pa.int32())),
        ("pixels", pa.int32()),
    ]
)
"""One row per image, protocol, map and fill; the lists have one entry per fraction.

`label` is the data set's class or null, `predicted` and `target` are the model's; `changed` counts
pixels whose value differs, of `pixels` in all.
"""


def deletion_rows(stack: Stack) -> pa.Table:
    """The curves of a stack's images."""
    curves = stack.curves
    protocols, names, fills = zip(*curves, strict=True)
    return image_rows(
        DELETION_SCHEMA,
        {
            "id": stack.ids,
            "label": stack.labels,
            "predicted": stack.logits.argmax(dim=1).tolist(),
            "target": stack.target.tolist(),
            "pixels": [stack.pixels[0, 0].numel()] * len(stack.ids),
        },
        {"protocol": protocols, "map": names, "fill": fills},
        {
            name: torch.stack([getattr(c, name) for c in curves.values()], 1).cpu().numpy()
            for name in ("allegiance", "probability", "logit", "changed")
        },
    )


class DeletionSums:
    """Means over images with intervals of a Poisson bootstrap, and sign flips of pairs of maps.

    Accuracies have Wilson's intervals; p-values are corrected over all pairs of the run.
    """

    def __init__(self, table: pa.Table, settings: EvaluationSettings, names: ClassNames) -> None:
        self.keys: tuple[Key, ...] = read_keys(table, ("protocol", "map", "fill"))
        self.settings, self.names = settings, names
        self.fractions = np.array(settings.fractions)
        values = len(self.keys) * (2 * len(self.fractions) + 1)
        self.means = BootstrapMeans(values, settings.resamples, settings.seed)
        self.changed = np.zeros((len(self.keys), len(self.fractions)))
        self.pairs = _pairs(self.keys)
        self.flips = SignFlips(len(self.pairs), settings.flips, settings.seed)
        count = len(names.classes)
        self.class_images = np.zeros(count, np.int64)
        self.class_right = np.zeros(count, np.int64)
        self.class_areas = np.zeros((count, len(self.keys)))

    def add(self, table: pa.Table) -> None:
        """Count a batch in: arrays over images B, curves J and fractions F."""
        allegiance, probability, changed, pixels, labels, predicted = (
            read_values(table, name, len(self.keys))
            for name in ("allegiance", "probability", "changed", "pixels", "label", "predicted")
        )
        areas = np.trapezoid(allegiance, self.fractions, axis=2)
        flat = [values.reshape(len(values), -1) for values in (allegiance, probability)]
        self.means.add(np.concatenate([*flat, areas], axis=1))
        self.changed += (changed / pixels[..., None]).sum(axis=0)
        if self.pairs:
            first, second = np.array(self.pairs).T
            self.flips.add(areas[:, first] - areas[:, second])
        label, best = (values[:, 0].astype(np.int64) for values in (labels, predicted))
        of = label if self.names.by_label else best
        known = (of >= 0) & (of < len(self.class_images))
        np.add.at(self.class_images, of[known], 1)
        np.add.at(self.class_areas, of[known], areas[known])
        if self.names.target is not None:
            right = known & (self.names.target[label] == best)
            np.add.at(self.class_right, of[right], 1)

    def figures(self) -> Figures:
        """Accuracy, curves, differences and classes."""
        return Figures(
            accuracy=self._accuracy(),
            curves=tuple(self._curves()),
            differences=tuple(self._differences()),
            classes=tuple(self._classes()),
        )

    def _accuracy(self) -> Interval | None:
        count, right = int(self.class_images.sum()), int(self.class_right.sum())
        if self.names.target is None or not count:
            return None
        low, high = share_interval(right, count, self.settings.confidence)
        return Interval(rounded(right / count), rounded(low), rounded(high))

    def _curves(self) -> list[Curve]:
        ends = self.means.interval(self.settings.confidence)
        shape = (len(self.keys), len(self.fractions))
        size = shape[0] * shape[1]
        kept, probable = (
            reshaped(_slice(ends, start, start + size), *shape) for start in (0, size)
        )
        areas = _slice(ends, 2 * size, None)
        span = self.fractions[-1] - self.fractions[0] or 1.0
        by_range = Ends(areas.value / span, areas.low / span, areas.high / span)
        changed = self.changed / self.means.images
        return [
            Curve(
                *key,
                control=key[1] == RANDOM or key[1].startswith(INVERTED),
                allegiance=_line(kept, j),
                probability=_line(probable, j),
                changed=all_rounded(changed[j]),
                area=interval_at(areas, j),
                area_by_range=interval_at(by_range, j),
            )
            for j, key in enumerate(self.keys)
        ]

    def _differences(self) -> list[Difference]:
        """Every pair of maps under one protocol and fill: area of the first minus the second's."""
        if not self.pairs:
            return []
        first, second = np.array(self.pairs).T
        at = 2 * len(self.keys) * len(self.fractions)
        mean, resampled = self.means.mean[at:], self.means.resampled[:, at:]
        ends = interval(
            mean[first] - mean[second],
            resampled[:, first] - resampled[:, second],
            self.settings.confidence,
        )
        p_values = self.flips.p_values()
        corrected = holm(p_values)
        return [
            Difference(
                protocol=self.keys[a][0],
                fill=self.keys[a][2],
                map=self.keys[a][1],
                against=self.keys[b][1],
                difference=interval_at(ends, i),
                p=rounded(p_values[i]),
                p_holm=rounded(corrected[i]),
            )
            for i, (a, b) in enumerate(self.pairs)
        ]

    def _classes(self) -> list[ClassRow]:
        """Every class that has images."""
        rows = []
        for k in np.flatnonzero(self.class_images).tolist():
            count = int(self.class_images[k])
            has_accuracy = self.names.target is not None
            accuracy = rounded(self.class_right[k] / count) if has_accuracy else None
            areas = all_rounded(self.class_areas[k] / count)
            rows.append(ClassRow(self.names.classes[k], count, accuracy, areas))
        return rows


def _slice(ends: Ends, start: int, stop: int | None) -> Ends:
    return Ends(*(end[start:stop] for end in (ends.value, ends.low, ends.high)))


def _line(ends: Ends, j: int) -> Line:
    return Line(*(all_rounded(end[j]) for end in (ends.value, ends.low, ends.high)))


def _pairs(keys: Sequence[Key]) -> list[tuple[int, int]]:
    """Places of the curves that are compared: maps with each other, and with a random order."""
    compared = [j for j, (_, name, _) in enumerate(keys) if not name.startswith(INVERTED)]
    return [
        (a, b)
        for a, b in combinations(compared, 2)
        if (keys[a][0], keys[a][2]) == (keys[b][0], keys[b][2])
    ]
