"""What is chosen by name, with its defaults, without torch: `--help` and saved results read it.

What a name *does* lives in the table of the module that each names; tests hold both together.
"""

import math
import operator
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, cast, get_args

from chiaroscuro.errors import ChoiceError, unknown

Kind = Literal["magnitude", "signed", "class", "printed"]
Helps = Literal["either", "brighter", "darker", "supports", "opposes"]
Normalize = Literal["none", "minmax"]
Reduce = Literal["max", "none"]
Score = Literal["logit", "log-probability"]
OwnScore = Literal["logit", "log-probability", "log-odds"]
Fit = Literal["crop", "pad", "stretch"]
Scale = Literal["image", "shared"]
Protocol = Literal["paper", "matched"]
Weighting = Literal["none", "mean", "softmax"]
Class = int | str
"""A class by its index, or by one of its names."""
NORMALIZATIONS, REDUCTIONS, SCORES = map(get_args, (Normalize, Reduce, Score))
FITS, SCALES, PROTOCOLS = map(get_args, (Fit, Scale, Protocol))
BASELINES = ("black", "white", "mean", "blur")
TARGETS = ("predicted", "label", "index")
"""The class that a localization explains."""
PRODUCT_FORMATS = ("float32", "bfloat16")
"""What products of a backward pass are computed in."""
MAP_DTYPES = ("float32", "float16", "int8")
"""What values of stored maps may be."""
MAP_FORMS = ("virelay", "fiftyone", "overlays")
"""What stored maps are written as for other programs."""
PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}
"""Number formats by our name, as Lightning calls them."""
LEVELS = ("debug", "info", "warning", "error")
"""What a log can hold, the most of it first."""
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
METRICS: dict[str, str] = {
    "deletion": "whether predictions hold when a map's highest pixels change",
    "sharpness": "how unequally a map's mass lies on its pixels, and how smooth it is",
}
"""What an evaluation can measure, with its meaning; `chiaroscuro.evaluation.METRICS` says how."""

EVIDENCE: dict[str, str] = {
    "none": "nothing is tested",
    "quick": "one noisy copy, three random orders; against many rivals, the 50 best of them",
    "full": "five noisy copies, twenty random orders, the same rivals",
}
"""How thoroughly an explanation's maps are tested; `chiaroscuro.explanations.evidence` does it."""

DEFAULT_MODEL, DEFAULT_OUT = "efficientnet-lite0", "chiaroscuro-out"
CHECKPOINT = "last.ckpt"
"""The file of a training's work folder that it resumes from."""
MAX_PIXELS = 89_478_485
"""Larger files are refused as decompression bombs (Pillow's own warning level)."""
SMOOTHING = 0.02
"""Standard deviation of the smoothed view's Gaussian, as a share of the picture's shorter side."""
CURVES = ("allegiance", "probability", "logit")
"""What a deletion curve follows: whether the predicted class stays, the target class's values."""
SURE = 0.05
"""p-values below this count as a difference."""
PAPER_FRACTIONS: tuple[float, ...] = (
    0, 0.03, 0.05, 0.07, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9,
)  # fmt: skip
"""The shares of pixels that the paper deletes."""
ENGINES = ("local", "ray")
"""What makes the parts of a run: processes of this machine, or actors of Ray."""
REPLAY_TOLERANCE = 1e-3
"""Rounding on another machine may move a few ReLUs: so much logits and maps may differ."""
WHAT_IF_FRACTION, WHAT_IF_TOLERANCE = 0.05, 0.25
"""The share of pixels that a what-if changes, and that of its prediction that it may be off."""
WHAT_IF_STEPS: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0)
"""The steps towards the changed image at which a what-if over many images compares changes."""


def check_names(kind: str, names: str | Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """One name or several as a tuple without repeats; raises `ChoiceError` for an unknown one."""
    table = tuple(known)
    chosen = tuple(dict.fromkeys([names] if isinstance(names, str) else names))
    for name in chosen:
        if name not in table:
            raise unknown(kind, name, table)
    return chosen


def as_float(name: str, value: Any) -> float:
    """A number of any library (NumPy scalar, array or tensor of no axes) as a Python float.

    Raises `ChoiceError` for text, truth values, complex numbers and anything with axes.
    """
    is_bool = "bool" in str(getattr(value, "dtype", ""))
    try:
        if is_bool or isinstance(value, bool | str | bytes) or getattr(value, "ndim", None):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise ChoiceError(f"{name} is {value!r}: expected a number") from None


def as_int(name: str, value: Any) -> int:
    """`as_float` for whole numbers; 224.0 is one."""
    if not as_float(name, value).is_integer():
        raise ChoiceError(f"{name} is {value!r}: expected a whole number")
    return int(value)


@dataclass(frozen=True, slots=True)
class MapChoice:
    """One saliency map by name: how a pixel reads, and what its values are.

    `kind`: "magnitude" is >= 0, "signed" has a meaningful zero, "class" holds class indices,
    "printed" is an equation of the paper as printed, kept for comparison and never ranked by.
    `helps`: which change of a bright pixel of the map helps the class; it decides the map's hue.
    """

    name: str
    reads: str
    kind: Kind = "magnitude"
    helps: Helps = "either"

    @property
    def form(self) -> str:
        """Which of the paper's two forms this is: its code's ("computed") or "printed"."""
        return "printed" if self.kind == "printed" else "computed"


@dataclass(frozen=True, slots=True)
class MethodChoice:
    """One gradient method by name: what it averages, and its defaults where they mean something.

    `points`: sample points of the gradient; `sigma`: standard deviation of the noise in units
    of pixel value; `baseline`: where the line begins, one of `BASELINES`; None: not taken.
    `background`: images to begin lines from are needed. `balanced`: its backward pass is the
    balanced one. `captum`: it changes the backward pass, and runs through Captum (extra
    `adapters`), one class at a time.
    """

    name: str
    reads: str
    points: int | None = None
    sigma: float | None = None
    baseline: str | None = None
    background: bool = False
    balanced: bool = False
    captum: bool = False

    def takes(self, option: str) -> bool:
        """Whether it is tuned by "points", "sigma", "baseline", "background" or "precision"."""
        if option == "precision":
            return not (self.captum or self.balanced)
        return getattr(self, option) not in (None, False)


Row = TypeVar("Row", MapChoice, MethodChoice)


def _by_name(*rows: Row) -> dict[str, Row]:
    return {row.name: row for row in rows}


_ACTIVE = "brightening the pixel raises the class over every rival"
_INACTIVE = "darkening the pixel raises the class over every rival"
MAPS = _by_name(
    MapChoice("original", "how strongly the pixel moves the class, either way"),
    MapChoice("positive", "brightening the pixel helps the class", helps="brighter"),
    MapChoice("negative", "darkening the pixel helps the class", helps="darker"),
    MapChoice("active", _ACTIVE, helps="brighter"),
    MapChoice("inactive", _INACTIVE, helps="darker"),
    MapChoice("signed", "active minus inactive: > 0 brighter helps, < 0 darker helps", "signed"),
    MapChoice("margin", "the lead over the best rival, signed like 'signed'", "signed"),
    MapChoice("competition", "its value if > 0 and above every rival, or < 0 and below", "signed"),
    MapChoice("winner", "the class that gains most from brightening; -1 on a tie", "class"),
    MapChoice("active-printed", f"{_ACTIVE}; ties stay, no absolute value", "printed"),
    MapChoice("inactive-printed", f"{_INACTIVE}; as printed, degenerate", "printed"),
)
"""Every saliency map by name; the functions are in `chiaroscuro.maps.MAPS`."""
EDIT_MAPS = _by_name(
    MapChoice("expected-effect", "the class's first-order loss by this pixel alone", "signed"),
    MapChoice("partial-edit", "the class's loss by this pixel along with others", "signed"),
    MapChoice("any-change", "the class's loss over several changes of many pixels", "signed"),
)
"""Every map computed for one edit of pixels; functions are in `chiaroscuro.maps.EDIT_MAPS`."""


class LiveNames(Collection[str]):
    """Names read from their tables at each use, so that rows added at run time are included."""

    def __init__(self, read: Callable[[], Iterable[str]]) -> None:
        self._read = read

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return any(name == known for known in self)


RANDOM = "random"
"""A random order of pixels: the control for every map."""
RANKING_MAPS = LiveNames(lambda: [n for n, m in MAPS.items() if m.kind in ("magnitude", "signed")])
"""The maps that order pixels: neither classes nor the degenerate printed forms."""
FITTED_MAPS = LiveNames(lambda: [n for n in EDIT_MAPS if n != "any-change"])
"""The edit maps that are computed for one fill, and another for each."""
MEASURED_MAPS = LiveNames(lambda: (*RANKING_MAPS, *EDIT_MAPS))
"""Every map that deletion can order pixels by."""
ORDERS = LiveNames(lambda: (*MEASURED_MAPS, RANDOM))
"""Every order in which pixels can be taken."""
PAPER_MAPS: tuple[str, ...] = ("original", "positive", "negative", "active", "inactive")
EXPLAIN_MAPS: tuple[str, ...] = (*PAPER_MAPS, "signed")
CONTRAST_MAPS: tuple[str, ...] = (*PAPER_MAPS, "margin")
"""What answers "why this and not that": with one rival the margin is the difference."""

METHODS = _by_name(
    MethodChoice("gradient", "the gradient at the image"),
    MethodChoice("input-x-gradient", "the gradient at the image, times the pixel"),
    MethodChoice("balanced", "the gradient with gates and attention held constant", balanced=True),
    MethodChoice("input-x-balanced", "the balanced gradient, times the pixel", balanced=True),
    MethodChoice("smoothgrad", "its mean over noisy copies of the image", 32, 0.15),
    MethodChoice(
        "integrated-gradients", "its mean from a baseline on, times the way", 32, baseline="black"
    ),
    MethodChoice("expected-gradients", "the same from many backgrounds", 64, background=True),
    MethodChoice("guided-backprop", "no negative gradient passes a ReLU", captum=True),
    MethodChoice("deeplift", "differences from black in place of slopes", captum=True),
    MethodChoice("lrp", "relevance handed down layer by layer (epsilon rule)", captum=True),
)
"""Every gradient method by name; their sample points are in `chiaroscuro.gradients.METHODS`."""
_UNSIGNED = {"smoothgrad-squared": "mean of squared gradients", "vargrad": "variance of gradients"}


@dataclass(frozen=True, slots=True)
class MethodOptions:
    """A method's name with what was chosen for it, in plain values that JSON keeps.

    `background`: a folder, photo or glob with the images that expected gradients begin from.
    `precision`: the number format of products in the backward pass; None: float32.
    """

    name: str
    points: int | None = None
    sigma: float | None = None
    baseline: str | None = None
    background: str | None = None
    seed: int = 0
    precision: str | None = None


def check_method(method: Any) -> Any:
    """The method; raises `ChoiceError` for an unknown name, or a form that has no sign."""
    if isinstance(method, str) and method in _UNSIGNED:
        raise ChoiceError(
            f"{method!r} is refused: the {_UNSIGNED[method]} has no sign; use smoothgrad"
        )
    if isinstance(method, str):
        check_names("method", [method], METHODS)
    return method


def method_name(method: Any) -> str:
    """What a method is called in rows and figures: its name, or its type's."""
    return method if isinstance(method, str) else getattr(method, "name", type(method).__name__)


def parse_method(
    name: str,
    points: int | None = None,
    sigma: float | None = None,
    baseline: str | None = None,
    background: str | None = None,
    seed: int = 0,
    precision: str | None = None,
) -> MethodOptions:
    """A method with its defaults filled in.

    Raises `ChoiceError` for an unknown name, a form that has no sign, an option that the method
    does not take, or a value outside its range.

    >>> chosen = parse_method("smoothgrad", sigma=0.1)
    >>> chosen.points, chosen.sigma
    (32, 0.1)
    """
    row = METHODS[check_method(name)]
    if precision is not None:
        check_names("precision", [precision], PRODUCT_FORMATS)
    precision = None if precision == PRODUCT_FORMATS[0] else precision
    options = {"points": points, "sigma": sigma, "baseline": baseline, "background": background,
               "precision": precision}  # fmt: skip
    for option, value in options.items():
        if value is not None and not row.takes(option):
            takers = [other.name for other in METHODS.values() if other.takes(option)]
            raise ChoiceError(f"method {name!r} takes no {option}: it is for {', '.join(takers)}")
    if background is None and row.background:
        raise ChoiceError(f"method {name!r} needs background images: give some (--background)")
    points = row.points if points is None else as_int("points", points)
    if points is not None and points < 1:
        raise ChoiceError(f"points is {points}: expected at least 1")
    sigma = row.sigma if sigma is None else as_float("sigma", sigma)
    if sigma is not None and not 0 <= sigma < math.inf:
        raise ChoiceError(f"sigma is {sigma}: expected a number >= 0, in units of pixel value")
    baseline = (
        row.baseline if baseline is None else check_names("baseline", [baseline], BASELINES)[0]
    )
    return MethodOptions(name, points, sigma, baseline, background, seed, precision)


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
    "blur": FillChoice("the image under a Gaussian", "its width in shorter sides", 0.05),
    "noise": FillChoice("uniform noise in [0, 1], seeded"),
    "brighter": FillChoice("the pixel plus the amount, at most 1", "a number in (0, 1]"),
    "darker": FillChoice("the pixel minus the amount, at least 0", "a number in (0, 1]"),
}
"""Every fill by name; the functions are in `chiaroscuro.edits.FILLS`."""


@dataclass(frozen=True, slots=True)
class Fill:
    """What edited pixels become: a name of `FILLS`, with its amount where it has one.

    An amount that has a default may be left out. Raises `ChoiceError` for an unknown name, or an
    amount that is missing, needless or outside (0, 1].
    """

    name: str
    amount: float | None = None

    def __post_init__(self) -> None:
        check_names("fill", [self.name], FILLS)
        choice = FILLS[self.name]
        if self.amount is not None and not choice.amount:
            raise ChoiceError(f"fill {self.name!r} takes no amount: it is {self.amount}")
        amount = choice.default if self.amount is None else as_float("amount", self.amount)
        if choice.amount and (amount is None or not 0 < amount <= 1):
            raise ChoiceError(f"fill {self.name!r} has amount {amount}: give one in (0, 1]")
        object.__setattr__(self, "amount", amount)

    def __str__(self) -> str:
        if self.amount == FILLS[self.name].default:
            return self.name
        return f"{self.name}:{self.amount!r}".removesuffix(".0")


def parse_fill(fill: str | Fill) -> Fill:
    """Read `"black"`, `"blur:0.1"`, `"brighter:0.1"` or in short `"+0.1"`, `"-0.1"`.

    Raises `ChoiceError` as `Fill` does.

    >>> str(parse_fill("-0.1")), parse_fill("black")
    ('darker:0.1', Fill(name='black', amount=None))
    """
    if isinstance(fill, Fill):
        return fill
    word = str(fill).strip()
    if word[:1] in ("+", "-"):
        word = f"{'brighter' if word[0] == '+' else 'darker'}:{word[1:]}"
    if re.fullmatch(r"0?\.\d+|1(\.0*)?", word):
        raise ChoiceError(f"fill {fill!r}: give +{word} (brighter) or -{word} (darker)")
    name, colon, number = word.partition(":")
    try:
        amount = float(number) if colon else None
    except ValueError:
        raise ChoiceError(f"fill {fill!r}: the amount {number!r} is no number") from None
    return Fill(name, amount)


CELLS = ("pixels", "4", "8", "16", "superpixels")
"""What changes together: single pixels, square cells of so many a side, or superpixels."""


def parse_cells(cells: int | str) -> str:
    """Read "pixels", a side in pixels such as 8, "superpixels", or with a side "superpixels:16".

    Raises `ChoiceError` for anything else.

    >>> parse_cells(8), parse_cells("1"), parse_cells("superpixels:24")
    ('8', 'pixels', 'superpixels:24')
    """
    word = str(cells).strip()
    name, colon, side = word.partition(":")
    number = side if colon else name
    is_side = number in CELLS or re.fullmatch(r"[1-9]\d*", number)
    if not is_side or (colon and name != "superpixels"):
        raise ChoiceError(
            f"cells is {cells!r}: expected pixels, a side in pixels such as 8, superpixels, or "
            "superpixels:16"
        )
    return "pixels" if word == "1" else word


@dataclass(frozen=True, slots=True)
class Framing:
    """How a photo becomes pixels of a network's size.

    `size` (H, W) in pixels; None takes photos as they are. `fit`: "crop" scales the photo until it
    covers `canvas` (H, W) and cuts `size` out of the middle, "stretch" scales both sides to
    `canvas` and cuts too, "pad" scales it into `size` and fills the rest with mid-gray. `canvas` is
    `size` unless given. With a canvas and no size photos are scaled to it, nothing cut or filled.
    """

    size: tuple[int, int] | None = None
    canvas: tuple[int, int] | None = None
    fit: Fit = "crop"
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        check_names("fit", [self.fit], FITS)
        check_names("interpolation", [self.interpolation], INTERPOLATIONS)
        for name in ("size", "canvas"):
            object.__setattr__(self, name, _sides(name, getattr(self, name)))
        if self.size and self.canvas and any(map(operator.lt, self.canvas, self.size)):
            raise ChoiceError(f"canvas {self.canvas} is smaller than size {self.size}")

    def with_fit(self, fit: Fit | None) -> "Framing":
        """The same framing with another fit; None keeps this one."""
        return self if fit is None else replace(self, fit=fit)


def _sides(name: str, given: Any) -> tuple[int, int] | None:
    """Height and width as Python's own integers."""
    if given is None:
        return None
    try:
        height, width = (as_int(name, side) for side in given)
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1:
        raise ChoiceError(f"{name} is {given}: expected (height, width) in pixels")
    if height * width > MAX_PIXELS:
        raise ChoiceError(f"{name} is {height} x {width}: expected at most {MAX_PIXELS:,} pixels")
    return height, width


RIVAL_WORDS = "all, top:N, runner-up, mean[:N], softmax[:N]"
"""The words of the grammar, for messages and help."""
_GRAMMAR = f"give {RIVAL_WORDS}, classes such as 3,cat, or weights such as 3=0.7,cat=0.3"


@dataclass(frozen=True, slots=True)
class RivalRule:
    """Which classes the target class competes with; its `str` is what `parse_rivals` reads back.

    A *rival* is any class but the target: all without a `count`, or the `count` highest logits of
    the untouched image, or the listed `classes`, indices before names. The class must beat every
    rival, or by `weighting` and `weights` (relative to their sum) the one mean of their gradients;
    "softmax" weighs by the rivals' own logits on the untouched image.
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
        pairs = dict(zip(self.classes, weights, strict=True))
        if not all(0 <= weight < math.inf for weight in pairs.values()) or not sum(pairs.values()):
            listed = ", ".join(f"{k}={weight:g}" for k, weight in pairs.items()) or "for no class"
            raise ChoiceError(f"rivals have weights {listed}: expected numbers >= 0, one above 0")
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
        if any(isinstance(index, str) for index in self.classes or ()):
            raise ChoiceError(f"rivals {self}: class names need a classifier that has them")
        return cast("tuple[int, ...] | None", self.classes)

    def resolve(self, class_index: Callable[[Class], int]) -> "RivalRule":
        """The rule with every class by its index, as `Classifier.class_index` finds it.

        Raises `ChoiceError` for an unknown class, or for two weights of one class.
        """
        try:
            indices = None if self.classes is None else tuple(map(class_index, self.classes))
        except ChoiceError as error:
            raise ChoiceError(f"{error} (rivals are classes, or {RIVAL_WORDS})") from error
        if indices and self.weights is not None and len(set(indices)) < len(indices):
            raise ChoiceError(f"rivals {self}: one class has two weights")
        return replace(self, classes=indices)

    def most_classes(self, classes: int) -> int:
        """The most gradients taken for an image of `classes`: the target's and its rivals'."""
        if self.is_weighted:
            return 2
        rivals = self.count if self.classes is None else len(self.classes)
        return classes if rivals is None else min(rivals + 1, classes)

    def __str__(self) -> str:
        if self.classes is not None:
            names = map(_quoted, self.classes)
            if self.weights is None:
                return ",".join(names)
            return ",".join(f"{n}={w!r}" for n, w in zip(names, self.weights, strict=True))
        if self.weighting == "none":
            return "all" if self.count is None else f"top:{self.count}"
        return self.weighting if self.count is None else f"{self.weighting}:{self.count}"


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


_WORDS = {
    "all": RivalRule(),
    "top": RivalRule(),
    "runner-up": RivalRule(count=1),
    "mean": RivalRule(weighting="mean"),
    "softmax": RivalRule(weighting="softmax"),
}
_WORD = re.compile(r"all|runner-up|mean|softmax|(top|mean|softmax):0*[1-9]\d*")


def _parse_text(text: str) -> RivalRule:
    word, _, count = text.partition(":")
    if word in _WORDS and _WORD.fullmatch(text):
        return replace(_WORDS[word], count=int(count)) if count else _WORDS[word]
    rule = None if word in _WORDS else _parse_classes(text)
    if rule is None:
        raise ChoiceError(f"rivals is {text!r}: {_GRAMMAR}")
    return rule


def _parse_classes(text: str) -> RivalRule | None:
    """Classes, or weights by class; None for text that is neither."""
    parts = _split(text, ";" if len(_split(text, ";")) > 1 else ",")
    pairs = [_split(part, "=") for part in parts if part.strip()]
    named = [_class_of_text(pair[0].strip()) for pair in pairs]
    classes = tuple(name for name in named if name is not None)
    lengths = {len(pair) for pair in pairs}
    if lengths not in ({1}, {2}) or len(classes) < len(named):
        return None
    if lengths == {1}:
        return RivalRule(classes=classes)
    try:
        weights = tuple(float(weight) for _, weight in pairs)
    except ValueError:
        return None
    return RivalRule(classes=classes, weights=weights) if len({*classes}) == len(pairs) else None


def _split(text: str, mark: str) -> list[str]:
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


def _class(name: Any) -> Class:
    """A class from Python: a name, or any integer."""
    if isinstance(name, bool):
        raise TypeError
    return name if isinstance(name, str) else operator.index(name)


def _quoted(name: Class) -> str:
    """A class as the grammar reads it back."""
    if isinstance(name, int):
        return f"#{name}"
    marks = re.search('[,;="]', name) or name.partition(":")[0] in _WORDS or _is_index(name)
    plain = not marks and name == name.strip() != ""
    return name if plain else '"' + name.replace('"', '""') + '"'


def _is_index(text: str) -> bool:
    return re.fullmatch("#[0-9]+", text) is not None
