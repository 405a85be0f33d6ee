"""Names, defaults and frozen configurations, without torch.

`--help`, pages and saved results read these, so they load in milliseconds. What a name *does* lives
in the table of the module named beside it; tests hold both to the same names.
"""

import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from chiaroscuro.errors import ChoiceError, unknown

Kind = Literal["magnitude", "signed", "class", "printed"]
Helps = Literal["either", "brighter", "darker"]
Normalize = Literal["none", "minmax"]
Reduce = Literal["max", "none"]
Score = Literal["logit", "log-probability"]
Fit = Literal["crop", "pad", "stretch"]
Scale = Literal["image", "shared"]
Protocol = Literal["paper", "matched"]

SCORES: tuple[str, ...] = ("logit", "log-probability")
METHODS: tuple[str, ...] = ("gradient",)
NORMALIZATIONS: tuple[str, ...] = ("none", "minmax")
REDUCTIONS: tuple[str, ...] = ("max", "none")
FITS: tuple[str, ...] = ("crop", "pad", "stretch")
SCALES: tuple[str, ...] = ("image", "shared")
PROTOCOLS: tuple[str, ...] = ("paper", "matched")
PAPER_FRACTIONS: tuple[float, ...] = (
    0, 0.03, 0.05, 0.07, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9,
)  # fmt: skip
"""The shares of pixels that the article deletes."""
INTERPOLATIONS: tuple[str, ...] = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")

DEFAULT_MODEL = "efficientnet-lite0"
DEFAULT_OUT = "chiaroscuro-out"
EXPLANATION_FILE = "explanation.json"
"""The file that marks a folder as a saved explanation."""
SMOOTHING = 0.02
"""Standard deviation of the smoothed view's Gaussian, as a share of the picture's shorter side."""


@dataclass(frozen=True, slots=True)
class MapChoice:
    """One saliency map by name: how a pixel reads, and what its values are.

    `kind`: "magnitude" is >= 0, "signed" has a meaningful zero, "class" holds class indices,
    "printed" is an equation of the article as printed, kept for comparison and never ranked by.
    `helps`: which change of a bright pixel of the map helps the class; it decides the map's hue.
    """

    name: str
    reads: str
    kind: Kind = "magnitude"
    helps: Helps = "either"

    @property
    def form(self) -> str:
        """Which of the article's two forms this is: its code's ("computed") or "printed"."""
        return "printed" if self.kind == "printed" else "computed"


_ACTIVE = "brightening the pixel raises the class over every rival"
_INACTIVE = "darkening the pixel raises the class over every rival"

MAPS: dict[str, MapChoice] = {
    choice.name: choice
    for choice in (
        MapChoice("original", "how strongly the pixel moves the class, either way"),
        MapChoice("positive", "brightening the pixel helps the class", helps="brighter"),
        MapChoice("negative", "darkening the pixel helps the class", helps="darker"),
        MapChoice("active", _ACTIVE, helps="brighter"),
        MapChoice("inactive", _INACTIVE, helps="darker"),
        MapChoice(
            "signed", "active minus inactive: > 0 brighter helps, < 0 darker helps", "signed"
        ),
        MapChoice("margin", "the lead over the best rival, signed like 'signed'", "signed"),
        MapChoice("winner", "the class that gains most from brightening; -1 on a tie", "class"),
        MapChoice("active-printed", f"{_ACTIVE}; ties stay, no absolute value", "printed"),
        MapChoice("inactive-printed", f"{_INACTIVE}; as printed, degenerate", "printed"),
    )
}
"""Every saliency map by name; the functions are in `chiaroscuro.maps.MAPS`."""

RANKING_MAPS: tuple[str, ...] = tuple(
    choice.name for choice in MAPS.values() if choice.kind in ("magnitude", "signed")
)
"""The maps that order pixels: neither classes nor the degenerate printed forms."""
PAPER_MAPS: tuple[str, ...] = ("original", "positive", "negative", "active", "inactive")
EXPLAIN_MAPS: tuple[str, ...] = (*PAPER_MAPS, "signed")


@dataclass(frozen=True, slots=True)
class FillChoice:
    """One way to change a pixel: what it becomes, and what its amount means, if it has one."""

    reads: str
    amount: str = ""
    default: float | None = None


FILLS: dict[str, FillChoice] = {
    "black": FillChoice("0 in every channel"),
    "white": FillChoice("1 in every channel"),
    "mean": FillChoice("the image's mean of each channel"),
    "blur": FillChoice(
        "the image under a Gaussian", "its width as a share of the shorter side", 0.05
    ),
    "noise": FillChoice("uniform noise in [0, 1], seeded"),
    "brighter": FillChoice("the pixel plus the amount, at most 1", "a number in (0, 1]"),
    "darker": FillChoice("the pixel minus the amount, at least 0", "a number in (0, 1]"),
}
"""Every fill by name; the functions are in `chiaroscuro.fills.FILLS`."""


@dataclass(frozen=True, slots=True)
class Fill:
    """What edited pixels become: a name of `FILLS`, with its amount where it has one."""

    name: str
    amount: float | None = None

    def __str__(self) -> str:
        if self.amount is None or self.amount == FILLS[self.name].default:
            return self.name
        return f"{self.name}:{self.amount:g}"


def parse_fill(fill: "str | Fill") -> Fill:
    """Read `"black"`, `"blur:0.1"`, `"brighter:0.1"` or in short `"+0.1"`, `"-0.1"`.

    Raises `ChoiceError` for an unknown name, or an amount that is missing, needless or outside
    (0, 1].

    >>> str(parse_fill("-0.1")), parse_fill("black")
    ('darker:0.1', Fill(name='black', amount=None))
    """
    if isinstance(fill, Fill):
        return fill
    word = fill.strip()
    if word[:1] in ("+", "-"):
        word = f"{'brighter' if word[0] == '+' else 'darker'}:{word[1:]}"
    name, colon, number = word.partition(":")
    if name not in FILLS:
        raise unknown("fill", fill, FILLS)
    choice = FILLS[name]
    if not colon and (choice.default is not None or not choice.amount):
        return Fill(name, choice.default)
    if not choice.amount:
        raise ChoiceError(f"fill {fill!r}: {name} takes no amount")
    try:
        amount = float(number)
    except ValueError:
        amount = math.nan
    if not 0 < amount <= 1:
        raise ChoiceError(f"fill {fill!r}: give {name} an amount in (0, 1], such as {name}:0.1")
    return Fill(name, amount)


@dataclass(frozen=True, slots=True)
class RivalRule:
    """Which classes the explained class competes with.

    `count` is None for all classes; N for the N highest logits other than the target, per image, on
    the untouched image; `classes` is a list instead. A *rival* is any class but the target.
    """

    count: int | None = None
    classes: tuple[int, ...] | None = None

    def most_slots(self, classes: int) -> int:
        """The most classes that are run for an image of `classes`: the target and its rivals."""
        if self.classes is not None:
            return len(self.classes) + 1
        return classes if self.count is None else min(self.count + 1, classes)

    def __str__(self) -> str:
        if self.classes is not None:
            return ",".join(map(str, self.classes))
        return "all" if self.count is None else f"top:{self.count}"


def parse_rivals(rivals: "str | Iterable[int] | RivalRule") -> RivalRule:
    """Read `"all"`, `"top:N"` or class indices as a `RivalRule`.

    Raises `ChoiceError` for another word, N < 1, an empty list, or what is no list of integers.

    >>> str(parse_rivals("top:10")), parse_rivals([3, 1, 3]).classes
    ('top:10', (1, 3))
    """
    if isinstance(rivals, RivalRule):
        return rivals
    if isinstance(rivals, str):
        return _parse_rival_word(rivals)
    try:
        classes = tuple(sorted({operator.index(index) for index in rivals}))
    except TypeError:
        raise ChoiceError(
            f"rivals is {rivals!r}: give all, top:N, or a list of class indices"
        ) from None
    if not classes:
        raise ChoiceError("rivals is empty: give at least one class other than the target")
    return RivalRule(classes=classes)


def _parse_rival_word(word: str) -> RivalRule:
    if word == "all":
        return RivalRule()
    head, _, count = word.partition(":")
    if head == "top" and count.isdecimal() and int(count) >= 1:
        return RivalRule(count=int(count))
    raise ChoiceError(
        f"rivals is {word!r}: give all, top:N with N >= 1 (such as top:10), or a list of classes"
    )


def check_names(kind: str, names: str | Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """One name or several as a tuple without repeats; raises `ChoiceError` for an unknown one."""
    table = tuple(known)
    chosen = tuple(dict.fromkeys([names] if isinstance(names, str) else names))
    for name in chosen:
        if name not in table:
            raise unknown(kind, name, table)
    return chosen
