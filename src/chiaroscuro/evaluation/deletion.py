"""Deletion as a metric: curves of every image, their means, paired differences and classes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from chiaroscuro.choices import RANDOM
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ChoiceError, InputError
from chiaroscuro.evaluation import rows
from chiaroscuro.evaluation.stacks import Stack
from chiaroscuro.metrics.deletion import INVERTED
from chiaroscuro.metrics.intervals import SignFlips, holm, interval, share_interval
from chiaroscuro.results.facts import Interval
from chiaroscuro.results.measurements import ClassRow, Curve, Difference, Figures, Line
from chiaroscuro.settings import EvaluationSettings

DELETION_SCHEMA = rows.row_schema(
    (pa.string(), "id"),
    (pa.int32(), "label predicted target pixels"),
    (rows.WORD, "protocol map fill"),
    (pa.list_(pa.bool_()), "allegiance"),
    (pa.list_(pa.float32()), "probability logit"),
    (pa.list_(pa.int32()), "changed"),
)
"""One row per image, protocol, map and fill; the lists have one entry per fraction.

`label` is the data set's class or null, `predicted` and `target` are the model's; `changed` counts
pixels whose value differs, of `pixels` in all.
"""


@dataclass(frozen=True, eq=False)
class ClassNames:
    """The classes that results are listed by, the data's or the predicted ones.

    `target`: the model's class for each of the data's, None where the `note` says why.
    """

    names: Sequence[str]
    by_label: bool
    target: NDArray[np.int64] | None
    note: str


def match_classes(classifier: Classifier, labels: Sequence[str] | None) -> ClassNames:
    """Find each class of the data among the model's by name; accuracy needs all of them."""
    known = classifier.labels
    if labels is None:
        return ClassNames(known or (), False, None, "the images have no classes")
    if known is None:
        return ClassNames(labels, True, None, f"{classifier.name} has no class names")
    if tuple(labels) == known:
        return ClassNames(labels, True, np.arange(len(labels)), "")
    try:
        for label in labels:
            if label.lstrip("-").isdigit() and label not in known:  # a number is no index here
                raise ChoiceError(f"class {label!r} is none of {classifier.name}")
        target = np.array([classifier.class_index(label) for label in labels])
    except ChoiceError as error:
        return ClassNames(labels, True, None, f"class names do not map: {error}")
    if len(set(target)) < len(target):
        return ClassNames(labels, True, None, "class names do not map: two are one of the model's")
    return ClassNames(labels, True, target, "")


def target_classes(
    classifier: Classifier, labels: Sequence[str] | None, target: str | None
) -> tuple[NDArray[np.int64] | None, str]:
    """The model's class of each label where images' targets are their labels; else None, and why.

    `target`: one of `TARGETS`, or None for label where all of the data's classes are found.
    """
    if target == "predicted":
        return None, ""
    if target == "index":
        return np.arange(len(labels or ())), ""
    names = match_classes(classifier, labels)
    if names.target is None and target == "label":
        advice = "give --target index where the data's class numbers are the model's"
        raise InputError(f"target label: {names.note}; {advice}")
    return names.target, names.note


def deletion_rows(stack: Stack) -> pa.Table:
    """The curves of a stack's images."""
    protocols, names, fills = zip(*stack.curves, strict=True)
    return rows.image_rows(
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
            name: torch.stack([getattr(c, name) for c in stack.curves.values()], 1).cpu().numpy()
            for name in ("allegiance", "probability", "logit", "changed")
        },
    )


class DeletionSums(rows.Sums):
    """Also sign flips of pairs of maps, corrected over all of the run, and counts by class."""

    columns = ("protocol", "map", "fill")

    def __init__(self, table: pa.Table, settings: EvaluationSettings, classes: ClassNames) -> None:
        super().__init__(table, settings, classes)
        # Maps are compared with each other, and with a random order.
        compared = [j for j, key in enumerate(self.keys) if not key[1].startswith(INVERTED)]
        pairs = combinations(compared, 2)
        self.pairs = [(a, b) for a, b in pairs if self.keys[a][::2] == self.keys[b][::2]]
        self.flips = SignFlips(len(self.pairs), settings.flips, settings.seed)
        # Of each class: images, those that are right, and the sum of each curve's areas.
        self.by_class = np.zeros((len(classes.names), 2 + len(self.keys)))

    def values(self, table: pa.Table) -> rows.Floats:
        """Of every curve: allegiance, probability and changed share by fraction, and the area."""
        kept, probable, changed, pixels = self.read(
            table, "allegiance", "probability", "changed", "pixels"
        )
        areas = np.trapezoid(kept, np.array(self.settings.fractions), axis=2)[..., None]
        return np.concatenate([kept, probable, changed / pixels[..., None], areas], axis=2)

    def add_others(self, values: rows.Floats, table: pa.Table) -> None:
        """Count differences and classes in."""
        areas = values[..., -1]
        if self.pairs:
            first, second = np.array(self.pairs).T
            self.flips.add(areas[:, first] - areas[:, second])
        label, best = (
            np.nan_to_num(values[:, 0], nan=-1).astype(np.int64)
            for values in self.read(table, "label", "predicted")
        )
        right = np.zeros(len(best))
        if self.classes.target is not None:
            right = (self.classes.target[label] == best).astype(float)
        of = label if self.classes.by_label else best
        known = (of >= 0) & (of < len(self.by_class))
        counted = np.column_stack([np.ones(len(of)), right, areas])
        np.add.at(self.by_class, of[known], counted[known])

    def figures(self) -> Figures:
        """Accuracy, curves, differences and classes."""
        return Figures(
            accuracy=self._accuracy(),
            curves=tuple(self._curves()),
            differences=tuple(self._differences()),
            classes=tuple(self._classes()),
        )

    def _accuracy(self) -> Interval | None:
        count, right = (int(total) for total in self.by_class[:, :2].sum(axis=0))
        if self.classes.target is None or not count:
            return None
        ends = share_interval(right, count, self.settings.confidence)
        return Interval(*rows.rounded([right / count, *ends]))

    def _curves(self) -> Iterator[Curve]:
        fractions = self.settings.fractions
        count, span = len(fractions), fractions[-1] - fractions[0] or 1.0
        ends = self.ends(len(self.keys), -1)
        for j, (protocol, name, fill) in enumerate(self.keys):
            lines = (rows.rounded(ends[:, j, start : start + count]) for start in (0, count))
            allegiance, probability = (Line(*map(tuple, line)) for line in lines)
            yield Curve(
                protocol,
                name,
                fill,
                control=name == RANDOM or name.startswith(INVERTED),
                allegiance=allegiance,
                probability=probability,
                changed=tuple(rows.rounded(ends[0, j, 2 * count : -1])),
                area=rows.interval_at(ends, j, -1),
                area_by_range=rows.interval_at(ends / span, j, -1),
            )

    def _differences(self) -> Iterator[Difference]:
        """Every pair of maps under one protocol and fill: area of the first minus the second's."""
        if not self.pairs:
            return
        first, second = np.array(self.pairs).T
        size = 3 * len(self.settings.fractions) + 1
        mean, resampled = (
            values[..., size - 1 :: size] for values in (self.means.mean, self.means.resampled)
        )
        differences = mean[first] - mean[second], resampled[:, first] - resampled[:, second]
        ends = rows.stacked(interval(*differences, self.settings.confidence), len(self.pairs))
        p_values = self.flips.p_values()
        corrected = rows.rounded(holm(p_values))
        for i, (a, b) in enumerate(self.pairs):
            protocol, name, fill = self.keys[a]
            p = rows.rounded(p_values[i]), corrected[i]
            yield Difference(protocol, fill, name, self.keys[b][1], rows.interval_at(ends, i), *p)

    def _classes(self) -> Iterator[ClassRow]:
        """Every class that has images."""
        for k in np.flatnonzero(self.by_class[:, 0]).tolist():
            right, *areas = rows.rounded(self.by_class[k, 1:] / self.by_class[k, 0])
            accuracy = None if self.classes.target is None else right
            yield ClassRow(self.classes.names[k], int(self.by_class[k, 0]), accuracy, tuple(areas))
