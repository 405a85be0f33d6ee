"""Deletion as a metric: curves of every image, their means, paired differences and classes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from chiaroscuro.choices import CURVES, RANDOM
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ChoiceError, InputError
from chiaroscuro.evaluation import rows
from chiaroscuro.evaluation.comparisons import Areas, chance_notes
from chiaroscuro.evaluation.stacks import Stack
from chiaroscuro.metrics.deletion import INVERTED
from chiaroscuro.metrics.intervals import SignFlips, share_interval
from chiaroscuro.results.facts import Interval
from chiaroscuro.results.measurements import ClassRow, Curve, Figures, Line
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
    """Also sign flips of whole images, from which every pair is tested, and counts by class."""

    columns = ("protocol", "map", "fill")

    def __init__(self, table: pa.Table, settings: EvaluationSettings, classes: ClassNames) -> None:
        super().__init__(table, settings, classes)
        self.flips = SignFlips(len(CURVES) * len(self.keys), settings.flips, settings.seed)
        # Of each class: images, those that are right, and the sum of each curve's areas.
        self.by_class = np.zeros((len(classes.names), 2 + len(self.keys)))

    def values(self, table: pa.Table) -> rows.Floats:
        """Of every curve: allegiance, probability, changed share by fraction, and three areas."""
        *curves, changed, pixels = self.read(table, *CURVES, "changed", "pixels")
        areas = np.trapezoid(np.stack(curves, -1), np.array(self.settings.fractions), axis=2)
        return np.concatenate([*curves[:2], changed / pixels[..., None], areas], axis=2)

    def add_others(self, values: rows.Floats, table: pa.Table) -> None:
        """Count areas and classes in."""
        self.flips.add(values[..., -len(CURVES) :].reshape(len(values), -1))
        areas = values[..., -len(CURVES)]
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
        """Accuracy, curves, gains, differences and classes."""
        count = len(self.keys)
        mean, resampled = (
            values.reshape(len(values), count, values.shape[1] // count)[..., -len(CURVES) :]
            for values in (self.means.mean[None], self.means.resampled)
        )
        areas = Areas(self.keys, mean[0], resampled, self.flips, self.settings.confidence)
        differences, gains = tuple(areas.differences()), tuple(areas.gains())
        return Figures(
            accuracy=self._accuracy(),
            curves=tuple(self._curves()),
            differences=differences,
            gains=gains,
            notes=tuple(chance_notes(differences, gains)),
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
        first = -len(CURVES)
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
                changed=tuple(rows.rounded(ends[0, j, 2 * count : first])),
                area=rows.interval_at(ends, j, first),
                area_by_range=rows.interval_at(ends / span, j, first),
                probability_area=rows.interval_at(ends, j, first + 1),
                logit_area=rows.interval_at(ends, j, first + 2),
            )

    def _classes(self) -> Iterator[ClassRow]:
        """Every class that has images."""
        for k in np.flatnonzero(self.by_class[:, 0]).tolist():
            right, *areas = rows.rounded(self.by_class[k, 1:] / self.by_class[k, 0])
            accuracy = None if self.classes.target is None else right
            yield ClassRow(self.classes.names[k], int(self.by_class[k, 0]), accuracy, tuple(areas))
