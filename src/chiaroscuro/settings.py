"""Everything that decides the numbers of a result, as one frozen object a command.

Each field says once what it means, may be, and is called in a shell; the check of its value, the
library's signatures, the command line and its reference are made from that. The network and the
device are no settings: they are read off the classifier.
"""

import inspect
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from typing import Any, TypeVar, get_args

from chiaroscuro import choices as known
from chiaroscuro.catalog import ARCHITECTURES, BASIC, class_names
from chiaroscuro.choices import MAPS, METHODS, RANKING_MAPS, Fit, MethodOptions, RivalRule, Score
from chiaroscuro.errors import ChoiceError
from chiaroscuro.regions import Region, parse_region

PANELS = (
    "Network", "Classes from text", "Images", "Question", "Gradient method", "Measure", "Training",
    "Statistics", "Machine", "Output",
)  # fmt: skip
"""The headings that options stand under, in order."""
IMAGES, QUESTION, METHOD, MEASURE, TRAINING, STATISTICS, MACHINE = PANELS[2:9]
COUNT, SEED, BATCH, SHARE = "[1, inf)", "[0, 4294967295]", "[1, 65536]", "(0, 1)"
"""What a count, a seed, a batch size and a share may be."""
_TUNING = ("points", "sigma", "baseline", "background", "precision")
_UNCHECKED: ContextVar[bool] = ContextVar("unchecked", default=False)


@dataclass(slots=True)
class Option:
    """What a field means and may be.

    `names`: the table that its names are from. `within`: an interval of numbers, such as "[0, 1)".
    `panel`: the heading that it stands under, by default its class's. `read`: what checks a value
    (of a tuple, each) and brings it to one form, in place of what the field's type asks. `flag`:
    the name in a shell where that is not the field's own, "" for a place without a name; a tuple's
    is the singular. `offers`: words that a shell completes to, in place of `names`; a function gets
    the model's spec.
    """

    help: str
    names: Collection[str] = ()
    within: str = ""
    panel: str = ""
    read: Callable[[Any], Any] | None = None
    flag: str | None = None
    offers: Iterable[str] | Callable[[str], Iterable[str]] | None = None


def option(help: str, default: Any = MISSING, allowed: Collection[str] = (), **more: Any) -> Any:
    """A dataclass field with its `Option`; required without a default.

    `allowed`: names or, as text, an interval. Help that ends in ":" is followed by the names.
    """
    names, within = ((), allowed) if isinstance(allowed, str) else (allowed, "")
    words = f"{help} {', '.join(names)}." if help.endswith(":") else help
    return field(default=default, metadata={"option": Option(words, names, within, **more)})


def like(cls: "type[Settings]", name: str, *default: Any) -> Any:
    """A field of another class, with another default where one is given."""
    declared = cls.__dataclass_fields__[name]
    return field(default=[*default, declared.default][0], metadata=declared.metadata)


def option_of(described: "Field[Any]") -> Option:
    """The `Option` of a field."""
    about: Option = described.metadata["option"]
    return about


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The base: values are brought to one form and checked when an object is constructed.

    All wrong fields are reported by one `ChoiceError`. Numbers of NumPy and PyTorch, paths and
    lists become int, float, str and tuples. `panel` is the heading of the fields of a class.
    """

    def __init_subclass__(cls, panel: str = "Output") -> None:
        for described in vars(cls).values():
            if isinstance(described, Field):
                option_of(described).panel = option_of(described).panel or panel

    def __post_init__(self) -> None:
        if _UNCHECKED.get():
            return
        wrong = []
        for f in fields(self):
            try:
                value = _read(f.name, getattr(self, f.name), f.type, option_of(f))
                object.__setattr__(self, f.name, value)
            except ChoiceError as error:
                wrong.append(str(error))
        raise_together(wrong or self._contradictions())

    def _contradictions(self) -> Iterator[str]:
        """What is wrong about fields together, checked once each is right; may set defaults."""
        return iter(())

    def plain(self) -> dict[str, Any]:
        """Every field as JSON keeps it: lists for tuples, a name for a method that is an object."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}


def raise_together(wrong: Iterable[str]) -> None:
    """Raise one `ChoiceError` for all that is wrong, if anything is."""
    if all_wrong := "; ".join(wrong):
        raise ChoiceError(all_wrong)


@contextmanager
def unchecked() -> Iterator[None]:
    """Take settings as they were saved, which may name objects that are not at hand."""
    before = _UNCHECKED.set(True)
    try:
        yield
    finally:
        _UNCHECKED.reset(before)


S = TypeVar("S", bound=Settings)
F = TypeVar("F", bound=Callable[..., Any])


def settings_from(cls: type[S], settings: S | None, options: Mapping[str, Any]) -> S:
    """The settings of a call: an object, keyword arguments, or an object with some replaced.

    Raises `ChoiceError` for an unknown name, with near ones.
    """
    known.check_names("option", options, [f.name for f in fields(cls)])
    return cls(**options) if settings is None else replace(settings, **options)


def takes(cls: type[Settings]) -> Callable[[F], F]:
    """Let a function that takes `**options` show the fields of `cls` in its place.

    `inspect.signature` and the docstring then list every field with its type, default and meaning.
    """

    def decorate(function: F) -> F:
        signature, listed = inspect.signature(function), inspect.signature(cls).parameters
        own = {n: p for n, p in signature.parameters.items() if p.kind is not p.VAR_KEYWORD}
        words = f"{inspect.cleandoc(function.__doc__ or '')}\n\nOptions:\n"
        for name, parameter in listed.items():
            if name not in own:
                own[name], default = parameter, parameter.default
                said = "" if default is parameter.empty else f" (default {default!r})"
                words += f"    {name}: {option_of(cls.__dataclass_fields__[name]).help}{said}\n"
        function.__signature__ = signature.replace(parameters=[*own.values()])  # type: ignore[attr-defined]
        function.__doc__ = words
        return function

    return decorate


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Region):
        return str(value)
    return value if isinstance(value, str | int | float | None) else known.method_name(value)


def _read(name: str, value: Any, kind: Any, about: Option) -> Any:
    """A value in the form of its type; raises `ChoiceError` for another, or one out of bounds."""
    if type(None) in get_args(kind):
        if value is None:
            return None
        kind = get_args(kind)[0]
    if Ellipsis not in get_args(kind):
        return _read_one(name, value, kind, about)
    kind = get_args(kind)[0]
    values = [value] if isinstance(value, str) or not isinstance(value, Iterable) else value
    values = tuple(_read_one(name, each, kind, about) for each in values)
    if not values:
        raise ChoiceError(f"no {name} are given: give at least one")
    return tuple(dict.fromkeys(values)) if kind is str else values


def _read_one(name: str, value: Any, kind: Any, about: Option) -> Any:
    if about.read:
        return about.read(value)
    if kind in (int, float):
        value = known.as_int(name, value) if kind is int else known.as_float(name, value)
        _check_within(name, value, about.within or "(-inf, inf)")
    elif kind is bool:
        value = value.item() if getattr(value, "ndim", None) == 0 else value
        if not isinstance(value, bool):
            raise ChoiceError(f"{name} is {value!r}: expected True or False")
    elif kind is str:
        value = os.fspath(value) if isinstance(value, os.PathLike) else value
        if not isinstance(value, str):
            raise ChoiceError(f"{name} is {value!r}: expected a text")
    if about.names and (kind is not Any or isinstance(value, str)):
        known.check_names(name.removesuffix("s"), [value], about.names)
    return value


def _check_within(name: str, value: float, within: str) -> None:
    low, high = within[1:-1].split(", ")
    above = value >= float(low) if within[0] == "[" else value > float(low)
    if above and (value <= float(high) if within[-1] == "]" else value < float(high)):
        return
    least = f"at least {low}" if within[0] == "[" else f"a number above {low}"
    expected = least if high == "inf" else f"a number in {within}"
    raise ChoiceError(f"{name} is {value}: expected {expected}")


def _target(value: Any) -> int | str | None:
    if isinstance(value, str):
        return None if value == "predicted" else value
    return known.as_int("target", value)


def _size(value: Any) -> tuple[int, int]:
    """Height and width of one number or of two."""
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    height, width = (known.as_int("size", side) for side in pair) if len(pair) == 2 else (0, 0)
    if min(height, width) < 2:
        raise ChoiceError(f"size is {value!r}: expected a side, or height and width, from 2 pixels")
    return height, width


def _epochs(value: Any) -> str:
    """Epochs as "all" or numbers with commas."""
    words = str(value).replace(" ", "").strip("()[],")
    if words != "all" and not re.fullmatch("[0-9]+(,[0-9]+)*", words):
        raise ChoiceError(f"epochs are {value!r}: expected all, or numbers such as 1,2,5,10")
    return words


def _fill_option(words: str, default: str | tuple[str, ...] | None) -> Any:
    help = f"{words}: {', '.join(known.FILLS)} (blur:0.1; brighter:0.1 or +0.1)."
    offers = [f"{n}:0.1" if f.amount and f.default is None else n for n, f in known.FILLS.items()]
    return option(help, default, read=lambda fill: str(known.parse_fill(fill)), offers=offers)


def _method_option(default: str | tuple[str, ...]) -> Any:
    help = "How class gradients are computed:"
    return option(help, default, METHODS, panel=METHOD, read=known.check_method)


@dataclass(frozen=True, kw_only=True)
class Seeded(Settings, panel=MACHINE):
    """What is drawn at random."""

    seed: int = option("Decides all that is random: images, ties, noise, orders.", 0, SEED)


@dataclass(frozen=True, kw_only=True)
class ImageSetSettings(Seeded, panel=IMAGES):
    """Which images, as `load_images` takes them."""

    data: str = option("A folder, a Parquet file, cifar10, imagenette, or OWNER/NAME.", flag="")
    split: str | None = option("A part of the data; default: test, validation or train.", None)
    limit: int | None = option("So many images, drawn with the seed.", None, COUNT)
    rgb_only: bool = option("Leave files out that are not RGB.", False)
    image_column: str | None = option("The column of a table that holds images.", None)
    label_column: str | None = option("The column of a table that holds classes.", None)

    @property
    def source(self) -> dict[str, Any]:
        """The keyword arguments of `load_images`."""
        names = ("split", "limit", "seed", "image_column", "label_column")
        return {"source": self.data} | {name: getattr(self, name) for name in names}


@dataclass(frozen=True, kw_only=True)
class PassSettings(ImageSetSettings, panel=MACHINE):
    """How images are gone through."""

    batch: int | None = option("Images at a time; default: by their size.", None, BATCH)
    threads: int | None = option("CPU threads of a worker; default: its share.", None, COUNT)


@dataclass(frozen=True, kw_only=True)
class RunSettings(PassSettings, panel=STATISTICS):
    """How certain a figure is."""

    resamples: int = option("Random sets behind each interval.", 1000, COUNT)
    confidence: float = option("The coverage of each interval.", 0.95, SHARE)


@dataclass(frozen=True, kw_only=True)
class QuestionSettings(Seeded, panel=METHOD):
    """The competing classes, what is differentiated, and what tunes a method (None: its own)."""

    rivals: str = option(
        f"Competing classes: {known.RIVAL_WORDS}; or classes by index or name (3,cat), or "
        "weights (3=0.7,cat=0.3). Separate with ; where names have commas.",
        "all",
        read=lambda rivals: str(known.parse_rivals(rivals)),
        panel=QUESTION,
        offers=lambda model: ("all", "top:10", "runner-up", "mean", "softmax", *class_names(model)),
    )
    score: Score = option("What is differentiated:", "logit", known.SCORES, panel=QUESTION)
    points: int | None = option("Sample points; default: the method's own.", None, COUNT)
    sigma: float | None = option("Width of smoothgrad's noise: 0.15.", None, "[0, inf)")
    baseline: str | None = option("Where integrated-gradients begins:", None, known.BASELINES)
    background: str | None = option(
        "Photos that expected-gradients begins from: a folder, a photo or a glob.", None
    )
    precision: str | None = option(
        "Number format of products in the backward pass; bfloat16 rounds more, and is faster:",
        None,
        known.PRODUCT_FORMATS,
    )

    def _tuned(self, method: Any, names: Iterable[str] = _TUNING) -> MethodOptions | Any:
        """A method by name with its settings, noise drawn from the seed; objects as they are."""
        if not isinstance(method, str):
            return method
        return known.parse_method(method, **{n: getattr(self, n) for n in names}, seed=self.seed)

    def _given(self) -> list[str]:
        return [name for name in _TUNING if getattr(self, name) is not None]


@dataclass(frozen=True, kw_only=True)
class GradientSettings(QuestionSettings):
    """How class gradients are computed: a method by name, or what `class_gradients` takes."""

    method: Any = _method_option("gradient")

    @property
    def method_options(self) -> MethodOptions | Any:
        """The method with its settings, noise drawn from the seed; an object stays as it is."""
        return self._tuned(self.method)

    def plain(self) -> dict[str, Any]:
        """Every field as JSON keeps it, with the method's own settings where none are given."""
        options = self.method_options
        return super().plain() | {name: getattr(options, name, None) for name in _TUNING}

    def _contradictions(self) -> Iterator[str]:
        if isinstance(self.method, str):
            _ = self.method_options  # for its errors
        elif self._given():
            yield f"method {known.method_name(self.method)} is an object: give it its settings"


@dataclass(frozen=True, kw_only=True)
class PhotoSettings(GradientSettings, panel=QUESTION):
    """One photo's question."""

    target: int | str | None = option(
        "The class to explain: predicted, an index, or a name.",
        None,
        read=_target,
        offers=lambda model: ("predicted", *class_names(model)),
    )
    fit: Fit | None = option("How a photo is sized; default: the model's own:", None, known.FITS)
    region: Region | None = option(
        "The part of the photo whose classes compete: left,top,right,bottom in its pixels; or "
        "predicted, predicted:CLASS: where the network sees that class.",
        None,
        read=parse_region,
        offers=("predicted",),
    )
    mask: str | None = option(
        "The same as a picture of the photo's size, not 0 inside; or a folder of PNG files.", None
    )
    box: int | None = option(
        "The same for a detector: its box of this number; a wrong one lists them.", None, "[0, inf)"
    )

    @property
    def part(self) -> Region | None:
        """The chosen part of the photo, however it is given."""
        return _part(self)

    def _contradictions(self) -> Iterator[str]:
        yield from super()._contradictions()
        yield from _several_parts(self)


def _part(settings: Any) -> Region | None:
    if settings.mask is not None:
        return Region.mask(settings.mask)
    region: Region | None = settings.region
    return region if settings.box is None else Region.detected(settings.box)


def _several_parts(settings: Any) -> Iterator[str]:
    given = [n for n in ("region", "mask", "box") if getattr(settings, n) is not None]
    if len(given) > 1:
        yield f"{' and '.join(given)} are given: choose the part of the photo by one of them"


@dataclass(frozen=True, kw_only=True)
class SmallestEditSettings(Seeded, panel=QUESTION):
    """What decides a smallest edit; the part of the photo is chosen as for an explanation."""

    change: str = _fill_option("What the pixels become", "black")
    to: int | str | None = option(
        "The class that must win, by index or name; default: any other than the predicted one.",
        None,
        read=_target,
        offers=class_names,
    )
    keep: bool = option(
        "The fewest pixels that alone keep the prediction, everything else changed.", False
    )
    cells: str = option(
        "What changes together (a number is a side in pixels; superpixels:24):",
        known.CELLS[0],
        known.CELLS,
        read=known.parse_cells,
    )
    edits: int = option("So many edits that share no pixel.", 1, COUNT)
    budget: int = option("Gradient passes of each edit, at most.", 64, COUNT)
    fit: Fit | None = like(PhotoSettings, "fit")
    region: Region | None = like(PhotoSettings, "region")
    mask: str | None = like(PhotoSettings, "mask")
    box: int | None = like(PhotoSettings, "box")

    @property
    def part(self) -> Region | None:
        """The chosen part of the photo, however it is given."""
        return _part(self)

    def _contradictions(self) -> Iterator[str]:
        yield from _several_parts(self)
        if self.keep and self.to is not None:
            yield "keep and to are given: the prediction is kept, or becomes another class"


@dataclass(frozen=True, kw_only=True)
class ExplainSettings(PhotoSettings, panel=QUESTION):
    """What decides an explanation; with `contrast`, of the target against that class alone."""

    maps: tuple[str, ...] = option("A map to compute:", known.EXPLAIN_MAPS, MAPS)
    contrast: str | None = option(
        "Why not this class? It is the only rival.", None, offers=class_names
    )
    evidence: str = option("How the maps are tested:", "none", known.EVIDENCE, panel=MEASURE)

    def _contradictions(self) -> Iterator[str]:
        yield from super()._contradictions()
        if self.contrast is None:
            return
        only = str(RivalRule(classes=(self.contrast,)))
        if self.rivals not in ("all", only):
            yield f"rivals {self.rivals} and contrast {self.contrast}: give one of them"
        object.__setattr__(self, "rivals", only)
        if self.maps == known.EXPLAIN_MAPS:
            object.__setattr__(self, "maps", known.CONTRAST_MAPS)


@dataclass(frozen=True, kw_only=True)
class WhatIfSettings(PhotoSettings, panel=QUESTION):
    """What decides a what-if: the changed pixels, and what they become."""

    map: str = option("Whose highest pixels change:", "active", known.ORDERS)
    fraction: float = option("The share of pixels to change.", known.WHAT_IF_FRACTION, SHARE)
    fill: str = _fill_option("What they become", "black")
    tolerance: float = option(
        "The share by which actual and predicted change may differ and still agree.",
        known.WHAT_IF_TOLERANCE,
        "(0, inf)",
    )


@dataclass(frozen=True, kw_only=True)
class CompareSettings(PhotoSettings, panel=QUESTION):
    """What decides a comparison; the first classifier's prediction is the default target."""

    maps: tuple[str, ...] = option("A map to compare:", known.EXPLAIN_MAPS, RANKING_MAPS)
    fill: str | None = _fill_option("Also change each one's top pixels", None)
    fraction: float = like(WhatIfSettings, "fraction")
    by: str = option("The map whose top pixels --fill changes:", "active", known.ORDERS)


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings(GradientSettings, RunSettings, panel=MEASURE):
    """What decides an evaluation; the defaults are the paper's, in both protocols.

    `metrics` are names, or `Metric` objects of one's own.
    """

    metrics: tuple[Any, ...] = option("What is measured:", ("deletion",), known.METRICS)
    maps: tuple[str, ...] = option(
        f"A map to measure ({' and '.join(known.FITTED_MAPS)} are computed for each fill):",
        known.PAPER_MAPS,
        known.MEASURED_MAPS,
    )
    fills: tuple[str, ...] = _fill_option("What deleted pixels become", ("black", "white"))
    protocols: tuple[str, ...] = option(
        "As published, or the same count for every map:", known.PROTOCOLS, known.PROTOCOLS
    )
    fractions: tuple[float, ...] = option(
        "A share of pixels to delete; rising.", known.PAPER_FRACTIONS, "[0, 1)"
    )
    what_if: float | None = option(
        "Also compare predicted with actual change when this share of pixels changes.", None, SHARE
    )
    flips: int = option("Sign choices behind each p-value.", 9999, COUNT, panel=STATISTICS)

    @property
    def saliency_maps(self) -> tuple[str, ...]:
        """The maps that are the same for every fill."""
        return tuple(name for name in self.maps if name not in known.EDIT_MAPS)

    @property
    def edit_maps(self) -> tuple[str, ...]:
        """The maps that are computed for each fill."""
        return tuple(name for name in self.maps if name in known.EDIT_MAPS)

    def _contradictions(self) -> Iterator[str]:
        yield from super()._contradictions()
        if list(self.fractions) != sorted(set(self.fractions)):
            yield f"fractions are {list(self.fractions)}: expected rising numbers in [0, 1)"


@dataclass(frozen=True, kw_only=True)
class CheckSettings(QuestionSettings, RunSettings, panel=MEASURE):
    """What decides a sanity check; each network chooses its own rivals."""

    limit: int | None = like(ImageSetSettings, "limit", 64)
    rivals: str = like(QuestionSettings, "rivals", "top:10")
    maps: tuple[str, ...] = option("A map to check:", tuple(RANKING_MAPS), RANKING_MAPS)
    methods: tuple[Any, ...] = _method_option(("gradient",))
    depths: int = option(
        "Steps from output to input, neighboring layers together; 0: one a layer.", 12, "[0, inf)"
    )
    draws: int = option("Random weights of each step.", 2, COUNT)
    noise: float = option("Width of the input noise; pixels are in [0, 1].", 0.02, SHARE)
    orders: int = option("Random orders that an image is compared with.", 20, COUNT)
    share: float = option("The share of pixels that are a map's highest.", 0.1, SHARE)
    reference: bool = option("Also check a method that is known to fail.", True)

    @property
    def method_options(self) -> tuple[MethodOptions | Any, ...]:
        """The methods, each with the settings that it takes; objects stay as they are."""
        return tuple(
            self._tuned(method, [name for name in _TUNING if _takes(method, name)])
            for method in self.methods
        )

    def _contradictions(self) -> Iterator[str]:
        names = [known.method_name(method) for method in self.methods]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield f"two methods are called {name!r}: check them one after the other"
        for name in self._given():
            if not any(_takes(method, name) for method in self.methods):
                yield f"no method of {', '.join(names)} takes {name}"
        _ = self.method_options  # for its errors


def _takes(method: Any, name: str) -> bool:
    return isinstance(method, str) and METHODS[method].takes(name)


@dataclass(frozen=True, kw_only=True)
class LocalizationSettings(GradientSettings, RunSettings, panel=MEASURE):
    """What decides a localization; see `load_regions` for `regions`."""

    regions: str = option("Boxes as .csv, .json or .parquet, or a folder of PNG masks.")
    rivals: str = like(CheckSettings, "rivals")
    maps: tuple[str, ...] = option("A map to measure:", tuple(RANKING_MAPS), RANKING_MAPS)
    target: str = option(
        "The class to explain; label, index: the data's:", "predicted", known.TARGETS
    )
    tolerance: int = option("Pixels that a hit may be off the region.", 0, "[0, inf)")
    smoothing: float = option("A Gaussian over each map, in sides.", 0.0, "[0, 1)")
    flips: int = like(EvaluationSettings, "flips")


@dataclass(frozen=True, kw_only=True)
class ConfusionSettings(GradientSettings, RunSettings, panel=MEASURE):
    """What decides which class takes pixels from which."""

    target: str | None = option(
        "The class that loses pixels; default: label where the model has the data's classes, else "
        "predicted; one of:",
        None,
        known.TARGETS,
    )
    regions: str | None = option("Where the objects are, as for localize.", None)
    strongest: int = option("Rivals kept of each image, those that take most.", 30, COUNT)
    pairs: int = option("Pairs that the page shows with photos.", 12, "[0, 1000]")
    photos: int = option("Photos of such a pair, those in which the rival takes most.", 2, COUNT)
    mends: int = option(
        "Wrong predictions that the smallest edit is searched for, one of each of the pairs that "
        "are confused most often.",
        6,
        "[0, 1000]",
    )
    fill: str = _fill_option("What the pixels of such an edit become", "black")

    def _contradictions(self) -> Iterator[str]:
        yield from super()._contradictions()
        if known.parse_rivals(self.rivals).is_weighted:
            yield f"rivals {self.rivals} is one mean: give rivals that compete one by one"


@dataclass(frozen=True, kw_only=True)
class MapExportSettings(GradientSettings, PassSettings, panel=MEASURE):
    """What decides which maps of an image set are kept, and how."""

    maps: tuple[str, ...] = option("A map to keep:", known.PAPER_MAPS, MAPS)
    target: str = like(LocalizationSettings, "target")
    dtype: str = option(
        "How values are stored; int8 with a scale of each image and map:",
        known.MAP_DTYPES[0],
        known.MAP_DTYPES,
    )
    strongest: int | None = option(
        "Also keep what so many rivals take of each image, for confusions; 30 is its default.",
        None,
        COUNT,
    )

    def _contradictions(self) -> Iterator[str]:
        yield from super()._contradictions()
        if self.strongest and known.parse_rivals(self.rivals).is_weighted:
            yield f"rivals {self.rivals} is one mean, of which strongest {self.strongest} are none"
        classes = [name for name in self.maps if MAPS[name].kind == "class"]
        if classes and self.dtype == "int8":
            yield f"map {classes[0]} holds numbers of classes, which int8 does not: store float32"


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(ImageSetSettings, panel=TRAINING):
    """What decides a training; the defaults are the paper's.

    AdamW, no schedule, no augmentation, the last epoch kept. `size`: height and width that images
    are stretched to. `freeze`: only the last layer learns; the body stays in train mode, so that
    BatchNorm statistics adapt, as in the paper.
    """

    architecture: str = option(
        f"{', '.join(ARCHITECTURES)}, timm:NAME, torchvision:NAME.",
        "basic-cnn",
        offers=ARCHITECTURES,
    )
    split: str | None = option("Images to learn from; default: train.", None, panel=IMAGES)
    test_split: str | None = option(
        "Images to test on after each epoch; default: the data's own.", None, panel=IMAGES
    )
    size: tuple[int, int] | None = option(
        "Side of the stretched images; default: the network's own.", None, panel=IMAGES, read=_size
    )
    epochs: int = option("Times that every image is seen.", 50, COUNT)
    batch: int = option("Images per step.", 128, BATCH)
    learning_rate: float = option("AdamW's step size.", 0.001, "(0, inf)")
    weight_decay: float = option("AdamW's weight decay.", 0.01, "[0, inf)")
    seed: int = like(Seeded, "seed", 42)
    pretrained: bool = option("Start with the library's weights.", False)
    freeze: bool = option("Only the new last layer learns.", False)
    cache_features: bool = option("Run the frozen body once per image, in eval mode.", False)
    normalize: bool = option("Use the body's own mean and std; the paper does not.", False)
    precision: str = option("Number format; bf16 and 16 are mixed:", "32", known.PRECISIONS)
    probe: str | None = option(
        "Also keep maps and scores of a few images after these epochs: all, or 1,2,5,10.",
        None,
        read=_epochs,
    )

    def _contradictions(self) -> Iterator[str]:
        if self.cache_features and not self.freeze:
            yield "features can be computed once for a frozen body only: add --freeze"
        if self.cache_features and self.probe:
            yield "a probe needs the whole network in every epoch: leave --cache-features out"
        if (self.freeze or self.normalize) and self.architecture in BASIC:
            yield f"{self.architecture} has no body to freeze and no normalization of its own"


@dataclass(frozen=True, kw_only=True)
class ProbeSettings(GradientSettings, panel=TRAINING):
    """What decides which maps are kept while a network learns, and how they are scored."""

    epochs: str = option(
        "After which epochs: all, or 1,2,5,10; begin and end always are.", "all", read=_epochs
    )
    maps: tuple[str, ...] = option(
        "A map to follow:", ("original", "positive", "active"), RANKING_MAPS
    )
    fill: str = _fill_option("What deleted pixels become", "black")
    fractions: tuple[float, ...] = like(EvaluationSettings, "fractions")

    def is_chosen(self, epoch: int) -> bool:
        """Whether the network is looked at after so many epochs."""
        return self.epochs == "all" or str(epoch) in self.epochs.split(",")
