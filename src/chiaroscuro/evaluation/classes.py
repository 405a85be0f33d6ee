"""Whether a data set's classes are the model's, and which is which."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ChoiceError


@dataclass(frozen=True, eq=False)
class ClassNames:
    """The classes that results are listed by, and the model's class for each of the data's.

    `by_label`: listed by the data's own classes, else by the predicted ones, where they have names.
    `target` is None where the names do not map; `note` then says why.
    """

    classes: Sequence[str]
    by_label: bool
    target: NDArray[np.int64] | None
    note: str


def match_classes(classifier: Classifier, labels: Sequence[str] | None) -> ClassNames:
    """Find each class of the data among the model's by name; accuracy needs all of them."""
    if labels is None:
        return ClassNames(classifier.labels or (), False, None, "the images have no classes")
    if classifier.labels is None:
        return ClassNames(labels, True, None, f"{classifier.name} has no class names")
    if tuple(labels) == classifier.labels:
        return ClassNames(labels, True, np.arange(len(labels)), "")
    try:
        target = [_index(classifier, label) for label in labels]
    except ChoiceError as error:
        return ClassNames(labels, True, None, f"class names do not map: {error}")
    if len(set(target)) < len(target):
        return ClassNames(labels, True, None, "class names do not map: two are one of the model's")
    return ClassNames(labels, True, np.array(target), "")


def _index(classifier: Classifier, label: str) -> int:
    """The model's class of that name; a name that is a number is no index here."""
    if not label.lstrip("-").isdigit():
        return classifier.class_index(label)
    if label not in (classifier.labels or ()):
        raise ChoiceError(f"class {label!r} is none of {classifier.name}")
    return (classifier.labels or ()).index(label)
