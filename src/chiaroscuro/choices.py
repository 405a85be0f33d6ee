"""Names, defaults and frozen configurations, without torch.

`--help`, pages and saved results read these, so they load in milliseconds. What a name *does* lives
in the table of the module named beside it; tests hold both to the same names.
"""

import math
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from chiaroscuro.errors import ChoiceError, unknown

Kind = Literal["magnitude", "signed", "class", "printed"]
Helps = Literal["either", "brighter", "darker"]
Normalize = Literal["none", "minmax"]
Reduce = Literal["max", "none"]
Score = Literal["logit", "log-probability"]
OwnScore = Literal["logit", "log-probability", "log-odds"]
EditMethod = Literal["expected-effect", "partial-edit"]
Fit = Literal["crop", "pad", "stretch"]
Scale = Literal["image", "shared"]
Protocol = Literal["paper", "matched"]
Weighting = Literal["none", "mean", "softmax"]

SCORES: tuple[str, ...] = ("logit", "log-probability")
NORMALIZATIONS: tuple[str, ...] = ("none", "minmax")
REDUCTIONS: tuple[str, ...] = ("max", "none")
FITS: tuple[str, ...] = ("crop", "pad", "stretch")
SCALES: tuple[str, ...] = ("image", "shared")
PROTOCOLS: tuple[str, ...] = ("paper", "matched")
PAPER_FRACTIONS: tuple[float, ...] = (
    0, 0.03, 0.05, 0.07, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9,
)  # fmt: skip
"""The shares of pixels that the article deletes."""
WHAT_IF_FRACTION = 0.05
"""The share of pixels that a what-if changes."""
WHAT_IF_STEPS: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0)
"""How far of the way to the changed image a what-if over many images looks."""
WHAT_IF_TOLERANCE = 0.25
"""A promise is kept while the real change differs from it by at most this share of it."""
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
        MapChoice(
            "competition",
            "the class's own value where it is > 0 and above every rival, or < 0 and below",
            "signed",
        ),
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
RANDOM = "random"
"""The order of pixels that knows nothing: the control beside every map."""
WHAT_IF_FILE = "what-if.json"
"""The file that marks a folder as a saved what-if."""

EDIT_MAPS: dict[str, MapChoice] = {
    choice.name: choice
    for choice in (
        MapChoice(
            "expected-effect",
            "what the class loses, to first order, when this pixel alone is changed so",
            "signed",
        ),
        MapChoice(
            "partial-edit",
            "what the class loses when this pixel is changed so among others that are",
            "signed",
        ),
    )
}
"""Every map made for a given change of pixels; functions are in `edit_maps.EDIT_MAPS`."""
MEASURED_MAPS: tuple[str, ...] = (*RANKING_MAPS, *EDIT_MAPS)
"""Every map that deletion can order pixels by."""
ORDERS: tuple[str, ...] = (*MEASURED_MAPS, RANDOM)
"""Every order in which pixels can be taken."""
PAPER_MAPS: tuple[str, ...] = ("original", "positive", "negative", "active", "inactive")
EXPLAIN_MAPS: tuple[str, ...] = (*PAPER_MAPS, "signed")
CONTRAST_MAPS: tuple[str, ...] = (*PAPER_MAPS, "margin")
"""What answers "why this and not that": with one rival the margin is the difference."""


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
class MethodChoice:
    """One gradient method by name: what it averages, and its defaults where they mean something.

    `points`: places where the gradient is asked; `sigma`: standard deviation of the noise in units
    of pixel value; `baseline`: where the line begins, one of `BASELINES`; None: not taken.
    `background`: images to begin lines from are needed. `captum`: it changes the backward pass,
    and runs through Captum (extra `adapters`), one class at a time.
    """

    name: str
    reads: str
    points: int | None = None
    sigma: float | None = None
    baseline: str | None = None
    background: bool = False
    captum: bool = False


BASELINES: tuple[str, ...] = ("black", "white", "mean", "blur")
METHODS: dict[str, MethodChoice] = {
    choice.name: choice
    for choice in (
        MethodChoice("gradient", "the gradient at the image"),
        MethodChoice("input-x-gradient", "the gradient at the image, times the pixel"),
        MethodChoice("smoothgrad", "its mean over noisy copies of the image", 32, 0.15),
        MethodChoice(
            "integrated-gradients",
            "its mean on the line from a baseline, times the way from there",
            32,
            baseline="black",
        ),
        MethodChoice(
            "expected-gradients",
            "the same from many background images",
            64,
            background=True,
        ),
        MethodChoice("guided-backprop", "no negative gradient passes a ReLU", captum=True),
        MethodChoice("deeplift", "differences from black in place of slopes", captum=True),
        MethodChoice("lrp", "relevance handed down layer by layer (epsilon rule)", captum=True),
    )
}
"""Every gradient method by name; what makes their points is in `chiaroscuro.gradients.METHODS`."""

_UNSIGNED = {
    "smoothgrad-squared": "the mean of squared gradients",
    "vargrad": "the variance of gradients",
}


@dataclass(frozen=True, slots=True)
class MethodOptions:
    """A method's name with what was chosen for it, in plain values that JSON keeps.

    `background`: a folder, photo or glob with the images that expected gradients begin from.
    """

    name: str
    points: int | None = None
    sigma: float | None = None
    baseline: str | None = None
    background: str | None = None
    seed: int = 0


def parse_method(
    name: str,
    points: int | None = None,
    sigma: float | None = None,
    baseline: str | None = None,
    background: str | None = None,
    seed: int = 0,
) -> MethodOptions:
    """A method with its defaults filled in.

    Raises `ChoiceError` for an unknown name, a form that has no sign, an option that the method
    does not take, or a value outside its range.

    >>> parse_method("smoothgrad", sigma=0.1)
    MethodOptions(name='smoothgrad', points=32, sigma=0.1, baseline=None, background=None, seed=0)
    """
    if name in _UNSIGNED:
        raise ChoiceError(
            f"method {name!r} is refused: {_UNSIGNED[name]} has no sign, and every map here reads "
            "the sign; smoothgrad keeps it"
        )
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    row = METHODS[name]
    for option, value in (("points", points), ("sigma", sigma), ("baseline", baseline)):
        if value is not None and getattr(row, option) is None:
            takers = [other.name for other in METHODS.values() if getattr(other, option)]
            raise ChoiceError(f"method {name!r} takes no {option}: {', '.join(takers)} do")
    if background is not None and not row.background:
        raise ChoiceError(f"method {name!r} takes no background: expected-gradients does")
    if background is None and row.background:
        raise ChoiceError(f"method {name!r} needs background images: give some (--background)")
    if points is not None and points < 1:
        raise ChoiceError(f"points is {points}: expected at least 1")
    if sigma is not None and not 0 <= sigma < math.inf:
        raise ChoiceError(f"sigma is {sigma}: expected a number >= 0, in units of pixel value")
    if baseline is not None:
        check_names("baseline", [baseline], BASELINES)
    return MethodOptions(
        name,
        row.points if points is None else points,
        row.sigma if sigma is None else sigma,
        row.baseline if baseline is None else baseline,
        background,
        seed,
    )


@dataclass(frozen=True, slots=True)
class RivalRule:
    """Which classes the explained class competes with, and how.

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

    def most_slots(self, classes: int) -> int:
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


def check_names(kind: str, names: str | Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """One name or several as a tuple without repeats; raises `ChoiceError` for an unknown one."""
    table = tuple(known)
    chosen = tuple(dict.fromkeys([names] if isinstance(names, str) else names))
    for name in chosen:
        if name not in table:
            raise unknown(kind, name, table)
    return chosen
