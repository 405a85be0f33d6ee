"""Rivals: which classes the target class competes with."""

import math
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from chiaroscuro.errors import ChoiceError

Weighting = Literal["none", "mean", "softmax"]


@dataclass(frozen=True, slots=True)
class RivalRule:
    """Which classes the target class competes with, and how.

    `count` is None for all classes; N for the N highest logits other than the target, per image, on
    the untouched image; `classes` is a list instead. A *rival* is any class but the target.

    `weighting` "none": the class must beat every rival. "mean" and "softmax" (of the rivals' own
    logits on the untouched image): it must beat that one mean of their gradients. `weights` gives
    the weights of `classes` themselves; they count relative to their sum.
    """

    count: int | None = None
    classes: tuple[int, ...] | None = None
    weighting: Weighting = "none"
    weights: tuple[float, ...] | None = None

    @property
    def is_weighted(self) -> bool:
        """Whether the rivals are one weighted mean."""
        return self.weighting != "none" or self.weights is not None

    def most_classes(self, classes: int) -> int:
        """The most gradients taken for an image of `classes`: the target's and its rivals'."""
        if self.is_weighted:
            return 2
        if self.classes is not None:
            return len(self.classes) + 1
        return classes if self.count is None else min(self.count + 1, classes)

    def __str__(self) -> str:
        if self.classes is not None and self.weights is not None:
            pairs = zip(self.classes, self.weights, strict=True)
            return ",".join(f"{index}={weight!r}" for index, weight in pairs)
        if self.classes is not None:
            return ",".join(map(str, self.classes))
        if self.weighting != "none":
            return self.weighting if self.count is None else f"{self.weighting}:{self.count}"
        return "all" if self.count is None else f"top:{self.count}"


Rivals = str | Iterable[int] | Mapping[int, float] | RivalRule


def parse_rivals(rivals: Rivals) -> RivalRule:
    """Read a `RivalRule` from a word, class indices, or weights by class index.

    Words: "all"; "top:N", the N best; "runner-up", the best one; "mean" or "softmax", one weighted
    mean of all rivals ("mean:N", "softmax:N": of the N best); and what `str` makes of a rule.
    Raises `ChoiceError` for another word, N < 1, an empty list, what is no list of integers, or
    weights that are negative or all 0.

    >>> str(parse_rivals("top:10")), parse_rivals([3, 1, 3]).classes
    ('top:10', (1, 3))
    >>> str(parse_rivals({3: 0.5, 1: 1.5}))
    '1=1.5,3=0.5'
    """
    if isinstance(rivals, RivalRule):
        return rivals
    if isinstance(rivals, str):
        return _parse_rival_word(rivals.strip())
    if isinstance(rivals, Mapping):
        return _weighted({int(index): float(weight) for index, weight in rivals.items()})
    try:
        classes = tuple(sorted({operator.index(index) for index in rivals}))
    except TypeError:
        raise ChoiceError(
            f"rivals is {rivals!r}: give all, top:N, or a list of class indices"
        ) from None
    if not classes:
        raise ChoiceError("rivals is empty: give at least one class other than the target")
    return RivalRule(classes=classes)


def _weighted(weights: Mapping[int, float]) -> RivalRule:
    """The rule of weights by class; a weight of 0 leaves its class out."""
    wrong = [weight for weight in weights.values() if not 0 <= weight < math.inf]
    if wrong or not sum(weights.values()):
        given = ", ".join(f"{index}={weight:g}" for index, weight in weights.items())
        raise ChoiceError(
            f"rivals have weights {given or 'for no class'}: expected numbers >= 0, one above 0"
        )
    classes = tuple(sorted(index for index, weight in weights.items() if weight))
    return RivalRule(classes=classes, weights=tuple(weights[index] for index in classes))


def is_rival_word(word: str) -> bool:
    """Whether `parse_rivals` reads this word as it is, without the classes' names."""
    return word.partition(":")[0] in _RIVAL_WORDS


_RIVAL_WORDS: dict[str, tuple[RivalRule, bool]] = {
    "all": (RivalRule(), False),
    "top": (RivalRule(), True),
    "runner-up": (RivalRule(count=1), False),
    "mean": (RivalRule(weighting="mean"), True),
    "softmax": (RivalRule(weighting="softmax"), True),
}
"""Each word's rule, and whether it takes ":N"."""


def _parse_rival_word(word: str) -> RivalRule:
    head, colon, count = word.partition(":")
    rule, takes_count = _RIVAL_WORDS.get(head, (RivalRule(), False))
    if head in _RIVAL_WORDS and not colon and head != "top":
        return rule
    if takes_count and count.isdecimal() and int(count) >= 1:
        return replace(rule, count=int(count))
    try:
        if "=" in word:
            pairs = [pair.split("=") for pair in word.split(",")]
            return _weighted({int(index): float(weight) for index, weight in pairs})
        return parse_rivals([int(index) for index in word.split(",")])
    except ValueError:
        raise ChoiceError(
            f"rivals is {word!r}: give all, top:N with N >= 1 (such as top:10), runner-up, mean, "
            "softmax, or a list of classes"
        ) from None
