"""Rivals: which classes the target class competes with, and the one grammar that names them."""

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from chiaroscuro.choices.names import as_int
from chiaroscuro.errors import ChoiceError

Weighting = Literal["none", "mean", "softmax"]
Class = int | str
"""A class by its index, or by one of its names."""

RIVAL_WORDS = "all, top:N, runner-up, mean[:N], softmax[:N]"
"""The words of the grammar, for messages and help."""
_GRAMMAR = f"give {RIVAL_WORDS}, classes such as 3,cat, or weights such as 3=0.7,cat=0.3"


@dataclass(frozen=True, slots=True)
class RivalRule:
    """Which classes the target class competes with, and how.

    `count` is None for all classes; N for the N highest logits other than the target, per image, on
    the untouched image; `classes`, by index or name, are a list instead. A *rival* is any class but
    the target; indices are sorted, and come before names.

    `weighting` "none": the class must beat every rival. "mean" and "softmax" (of the rivals' own
    logits on the untouched image): it must beat that one mean of their gradients. `weights` gives
    the weights of `classes` themselves; they count relative to their sum, and 0 leaves a class out.

    `str` gives the text that `parse_rivals` reads back as an equal rule. Raises `ChoiceError` for
    N < 1, no class, and weights that are negative, infinite or all 0.
    """

    count: int | None = None
    classes: tuple[Class, ...] | None = None
    weighting: Weighting = "none"
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.count is not None:
            object.__setattr__(self, "count", as_int("the number of rivals", self.count))
            if self.count < 1:
                raise ChoiceError(f"rivals are the {self.count} best: give at least 1, as top:10")
        if self.classes is None:
            return
        weights = self.weights or (1.0,) * len(self.classes)
        if len(weights) != len(self.classes):
            raise ChoiceError(f"rivals have {len(weights)} weights for {len(self.classes)} classes")
        pairs = dict(zip(self.classes, weights, strict=True))
        if not all(0 <= weight < math.inf for weight in pairs.values()) or not sum(pairs.values()):
            listed = ", ".join(f"{name}={weight:g}" for name, weight in pairs.items())
            raise ChoiceError(
                f"rivals have weights {listed or 'for no class'}: expected numbers >= 0, "
                "one above 0"
            )
        chosen = sorted((k for k in pairs if pairs[k]), key=lambda k: (isinstance(k, str), k))
        object.__setattr__(self, "classes", tuple(chosen))
        if self.weights is not None:
            object.__setattr__(self, "weights", tuple(float(pairs[name]) for name in chosen))

    @property
    def is_weighted(self) -> bool:
        """Whether the rivals are one weighted mean."""
        return self.weighting != "none" or self.weights is not None

    @property
    def indices(self) -> tuple[int, ...] | None:
        """The classes by index, None without a list; raises `ChoiceError` while one has a name."""
        if self.classes is None:
            return None
        indices = tuple(index for index in self.classes if isinstance(index, int))
        if len(indices) < len(self.classes):
            raise ChoiceError(f"rivals {self}: class names need a classifier that has them")
        return indices

    def resolve(self, class_index: Callable[[Class], int]) -> "RivalRule":
        """The rule with every class by its index, as `Classifier.class_index` finds it.

        Raises `ChoiceError` for an unknown class, or for two weights of one class.
        """
        if self.classes is None:
            return self
        try:
            indices = tuple(class_index(name) for name in self.classes)
        except ChoiceError as error:
            raise ChoiceError(f"{error} (rivals are classes, or {RIVAL_WORDS})") from error
        if self.weights is not None and len(set(indices)) < len(indices):
            raise ChoiceError(f"rivals {self}: one class has two weights")
        return replace(self, classes=indices)

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
            return ",".join(f"{_quoted(name)}={weight!r}" for name, weight in pairs)
        if self.classes is not None:
            return ",".join(map(_quoted, self.classes))
        if self.weighting != "none":
            return self.weighting if self.count is None else f"{self.weighting}:{self.count}"
        return "all" if self.count is None else f"top:{self.count}"


Rivals = str | Iterable[Class] | Mapping[Class, float] | RivalRule


def parse_rivals(rivals: Rivals) -> RivalRule:
    """Read a `RivalRule` from text, classes, or weights by class; classes by index or name.

    Text: "all"; "top:N", the N best; "runner-up", the best one; "mean" or "softmax", one weighted
    mean of all rivals ("mean:N", "softmax:N": of the N best); classes or class=weight pairs
    separated by "," or, where names have commas, by ";". "#3" is the class of index 3, "3" the one
    called so or else of that index. A name is quoted where it has a mark of this grammar or is one
    of its words ('""' is a quote in quotes). Raises `ChoiceError` for another form, or what no
    `RivalRule` may be.

    >>> str(parse_rivals("top:10")), parse_rivals([3, 1, 3]).classes
    ('top:10', (1, 3))
    >>> str(parse_rivals({3: 0.5, "cat": 1.5}))
    '#3=0.5,cat=1.5'
    >>> parse_rivals("tabby, tabby cat; #7").classes
    (7, 'tabby, tabby cat')
    """
    if isinstance(rivals, RivalRule):
        return rivals
    if isinstance(rivals, str):
        return _parse_text(rivals.strip())
    try:
        classes = tuple(map(_class, rivals))
        weights = tuple(map(float, rivals.values())) if isinstance(rivals, Mapping) else None
    except (TypeError, ValueError):
        raise ChoiceError(f"rivals is {rivals!r}: {_GRAMMAR}") from None
    if not classes and weights is None:
        raise ChoiceError("rivals is empty: give at least one class other than the target")
    return RivalRule(classes=classes, weights=weights)


_WORDS: dict[str, tuple[RivalRule, str]] = {
    "all": (RivalRule(), ""),
    "top": (RivalRule(), ":"),
    "runner-up": (RivalRule(count=1), ""),
    "mean": (RivalRule(weighting="mean"), ":?"),
    "softmax": (RivalRule(weighting="softmax"), ":?"),
}
"""Each word's rule, and whether it must or may have ":N"."""


def _parse_text(text: str) -> RivalRule:
    head, colon, count = text.partition(":")
    rule, needs = _WORDS.get(head, (None, ""))
    if rule is None:
        rule = _parse_classes(text)
    elif colon:
        counted = needs and count.isdecimal() and int(count) >= 1
        rule = replace(rule, count=int(count)) if counted else None
    elif needs == ":":
        rule = None
    if rule is None:
        raise ChoiceError(f"rivals is {text!r}: {_GRAMMAR}")
    return rule


def _parse_classes(text: str) -> RivalRule | None:
    """Classes, or weights by class; None for text that is neither."""
    parts = _split(text, ";")
    parts = parts if len(parts) > 1 else _split(text, ",")
    pairs = [_split(part, "=") for part in parts if part.strip()]
    classes = [_class_of_text(pair[0].strip()) for pair in pairs]
    weighted = {len(pair) for pair in pairs}
    if None in classes or weighted not in ({1}, {2}):
        return None
    known = tuple(name for name in classes if name is not None)
    try:
        weights = tuple(float(pair[1]) for pair in pairs) if weighted == {2} else None
    except ValueError:
        return None
    if weights is not None and len(set(known)) < len(known):
        return None
    return RivalRule(classes=known, weights=weights)


def _split(text: str, mark: str) -> Sequence[str]:
    """The parts of a text between marks outside quotes."""
    parts = [""]
    for number, piece in enumerate(text.split('"')):
        first, *more = [piece] if number % 2 else piece.split(mark)
        parts[-1] += f'"{first}' if number else first
        parts += more
    return parts


def _class_of_text(text: str) -> Class | None:
    if quoted := re.fullmatch(r'"((?:[^"]|"")+)"', text, re.DOTALL):
        return quoted[1].replace('""', '"')
    if '"' in text or not text:
        return None
    return int(text[1:]) if _is_index(text) else text


def _class(name: object) -> Class:
    """A class from Python: a name, or any integer."""
    if isinstance(name, bool):
        raise TypeError
    return name if isinstance(name, str) else operator.index(name)  # type: ignore[arg-type]


def _quoted(name: Class) -> str:
    """A class as the grammar reads it back."""
    if isinstance(name, int):
        return f"#{name}"
    marks = re.search('[,;="]', name) or name.partition(":")[0] in _WORDS or _is_index(name)
    plain = not marks and name == name.strip() != ""
    return name if plain else '"' + name.replace('"', '""') + '"'


def _is_index(text: str) -> bool:
    return re.fullmatch(r"#[0-9]+", text) is not None
