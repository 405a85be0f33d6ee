"""Everything that decides the numbers of a result, as one frozen object a command.

The network and the device are no settings: they are read off the classifier.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from chiaroscuro.choices.fills import FILLS, parse_fill
from chiaroscuro.choices.maps import (
    EDIT_MAPS,
    EXPLAIN_MAPS,
    MAPS,
    MEASURED_MAPS,
    ORDERS,
    PAPER_MAPS,
    RANKING_MAPS,
)
from chiaroscuro.choices.methods import (
    BASELINES,
    METHODS,
    SCORES,
    MethodOptions,
    Score,
    parse_method,
)
from chiaroscuro.choices.names import as_int
from chiaroscuro.choices.options import Settings, method_name, option
from chiaroscuro.choices.pictures import FITS, Fit
from chiaroscuro.choices.protocols import (
    PAPER_FRACTIONS,
    PROTOCOLS,
    WHAT_IF_FRACTION,
    WHAT_IF_TOLERANCE,
)
from chiaroscuro.choices.rivals import RIVAL_WORDS, RivalRule, parse_rivals
from chiaroscuro.errors import ChoiceError

IMAGES, QUESTION, METHOD, MEASURE = "Images", "Question", "Gradient method", "Measure"
STATISTICS, MACHINE, TRAINING = "Statistics", "Machine", "Training"
"""The headings that options stand under."""

TARGETS = ("predicted", "label", "index")
"""The class that a localization explains."""
CHECKPOINT = "last.ckpt"
"""The file of a training's work folder that it resumes from."""
PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}
"""Number formats by our name, as Lightning calls them."""
_COUNT = "[1, inf)"
_SEED = "[0, 4294967295]"


def _rivals(value: Any) -> str:
    return str(parse_rivals(value))


def _fill(value: Any) -> str:
    return str(parse_fill(value))


def _fills(value: Any) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(map(_fill, [value] if isinstance(value, str) else value)))
    if not found:
        raise ChoiceError("no fills are given: give at least one")
    return found


def _target(value: Any) -> int | str | None:
    if value is None or value == "predicted":
        return None
    if isinstance(value, str):
        return value
    return as_int("target", value)


def _fill_help(before: str) -> str:
    return f"{before}: {', '.join(FILLS)} (blur:0.1; brighter:0.1 or +0.1)."


@dataclass(frozen=True, kw_only=True)
class Seeded(Settings):
    """What is drawn at random."""

    seed: int = option(
        "Decides all that is random: images, ties, noise, random orders, intervals.",
        0,
        panel=MEASURE,
        within=_SEED,
    )


@dataclass(frozen=True, kw_only=True)
class ImageSetSettings(Seeded):
    """Which images, as `load_images` takes them."""

    data: str = option(
        "A folder, a Parquet file, cifar10, imagenette, or OWNER/NAME.", panel=IMAGES
    )
    split: str | None = option(
        "The part of the data. Default: test, then validation, then train.", None, panel=IMAGES
    )
    limit: int | None = option(
        "So many images, drawn with the seed.", None, panel=IMAGES, within=_COUNT
    )
    rgb_only: bool = option("Leave files out that are not RGB.", False, panel=IMAGES)


@dataclass(frozen=True, kw_only=True)
class TuningSettings(Seeded):
    """What gradient methods are tuned with; None for a method's own."""

    points: int | None = option(
        "Sample points of the method. Default: its own.", None, panel=METHOD, within=_COUNT
    )
    sigma: float | None = option(
        "Standard deviation of smoothgrad's noise; pixels are in [0, 1]. Default: 0.15.",
        None,
        panel=METHOD,
        within="[0, inf)",
    )
    baseline: str | None = option(
        f"Where integrated-gradients begins: {', '.join(BASELINES)}.",
        None,
        panel=METHOD,
        names=BASELINES,
    )
    background: str | None = option(
        "Photos that expected-gradients begins from: a folder, a photo or a glob.",
        None,
        panel=METHOD,
    )

    def _tuning(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("points", "sigma", "baseline", "background")}


@dataclass(frozen=True, kw_only=True)
class QuestionSettings(Settings):
    """What the target competes with, and what is differentiated."""

    rivals: str = option(
        f"Competing classes: {RIVAL_WORDS}; or classes by index or name (3,cat), or weights "
        "(3=0.7,cat=0.3). Separate with ; where names have commas.",
        "all",
        panel=QUESTION,
        read=_rivals,
    )
    score: Score = option(
        f"What is differentiated: {', '.join(SCORES)}.", "logit", panel=QUESTION, names=SCORES
    )

    @property
    def rival_rule(self) -> RivalRule:
        """The rivals as a rule, classes as they were given."""
        return parse_rivals(self.rivals)


@dataclass(frozen=True, kw_only=True)
class GradientSettings(QuestionSettings, TuningSettings):
    """How class gradients are computed.

    `method` is a name, or whatever else `class_gradients(method=...)` takes.
    """

    method: Any = option(
        f"How class gradients are computed: {', '.join(METHODS)}.",
        "gradient",
        panel=METHOD,
        names=METHODS,
    )

    @property
    def method_options(self) -> MethodOptions | Any:
        """The method with its settings, noise drawn from the seed; an object stays as it is."""
        if not isinstance(self.method, str):
            return self.method
        return parse_method(self.method, **self._tuning(), seed=self.seed)

    def _contradictions(self) -> Iterator[str]:
        yield from super()._contradictions()
        if not isinstance(self.method, str):
            if any(value is not None for value in self._tuning().values()):
                yield f"method {method_name(self.method)} is an object: give it its settings"
            return
        try:
            self.method_options  # noqa: B018  # for its errors
        except ChoiceError as error:
            yield str(error)

    def plain(self) -> dict[str, Any]:
        """Every field as JSON keeps it, with the method's own settings where none are given."""
        made = self.method_options
        own = {name: getattr(made, name, None) for name in self._tuning()}
        return {**super().plain(), **own}


@dataclass(frozen=True, kw_only=True)
class PhotoSettings(GradientSettings):
    """One photo's question."""

    target: int | str | None = option(
        "The class to explain: predicted, an index, or one of its names.",
        None,
        panel=QUESTION,
        read=_target,
    )
    fit: Fit | None = option(
        f"How a photo is brought to the model's size: {', '.join(FITS)}. Default: the model's own.",
        None,
        panel=IMAGES,
        names=FITS,
    )


@dataclass(frozen=True, kw_only=True)
class MachineSettings(Settings):
    """What decides rounding."""

    batch: int | None = option(
        "Images at a time. Default: by their size.", None, panel=MACHINE, within="[1, 65536]"
    )
    threads: int | None = option(
        "CPU threads of one worker. Default: PyTorch's own.", None, panel=MACHINE, within=_COUNT
    )


@dataclass(frozen=True, kw_only=True)
class IntervalSettings(Settings):
    """How certain a figure is."""

    resamples: int = option(
        "Random sets behind each interval.", 1000, panel=STATISTICS, within=_COUNT
    )
    confidence: float = option(
        "The coverage of each interval.", 0.95, panel=STATISTICS, within="(0, 1)"
    )


@dataclass(frozen=True, kw_only=True)
class ExplainSettings(PhotoSettings):
    """What decides an explanation."""

    maps: tuple[str, ...] = option(
        f"A map to compute: {', '.join(MAPS)}.",
        EXPLAIN_MAPS,
        panel=QUESTION,
        names=MAPS,
        flag="map",
    )


@dataclass(frozen=True, kw_only=True)
class WhatIfSettings(PhotoSettings):
    """What decides a what-if: the changed pixels, and what they become."""

    map: str = option(
        f"Whose highest pixels change: {', '.join(ORDERS)}.", "active", panel=QUESTION, names=ORDERS
    )
    fraction: float = option(
        "The share of pixels that change.", WHAT_IF_FRACTION, panel=QUESTION, within="(0, 1)"
    )
    fill: str = option(_fill_help("What they become"), "black", panel=QUESTION, read=_fill)
    tolerance: float = option(
        "The share by which actual and predicted change may differ and still agree.",
        WHAT_IF_TOLERANCE,
        panel=MEASURE,
        within="(0, inf)",
    )


@dataclass(frozen=True, kw_only=True)
class CompareSettings(PhotoSettings):
    """What decides a comparison; the first classifier's prediction is the default target."""

    maps: tuple[str, ...] = option(
        f"A map to compare: {', '.join(RANKING_MAPS)}.",
        EXPLAIN_MAPS,
        panel=QUESTION,
        names=RANKING_MAPS,
        flag="map",
    )
    fill: str | None = option(
        _fill_help("Also change each one's top pixels"), None, panel=QUESTION, read=_fill
    )
    fraction: float = option(
        "The share of pixels that --fill changes.",
        WHAT_IF_FRACTION,
        panel=QUESTION,
        within="(0, 1)",
    )
    by: str = option(
        f"The map whose top pixels --fill changes: {', '.join(ORDERS)}.",
        "active",
        panel=QUESTION,
        names=ORDERS,
    )


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings(MachineSettings, IntervalSettings, GradientSettings, ImageSetSettings):
    """What decides an evaluation; the defaults are the paper's, in both protocols."""

    maps: tuple[str, ...] = option(
        f"A map to measure: {', '.join(RANKING_MAPS)}; or, computed for each fill, "
        f"{', '.join(EDIT_MAPS)}.",
        PAPER_MAPS,
        panel=QUESTION,
        names=MEASURED_MAPS,
        flag="map",
    )
    fills: tuple[str, ...] = option(
        _fill_help("What deleted pixels become"),
        ("black", "white"),
        panel=MEASURE,
        read=_fills,
        flag="fill",
    )
    protocols: tuple[str, ...] = option(
        "paper (as published) or matched (the same count for every map).",
        PROTOCOLS,
        panel=MEASURE,
        names=PROTOCOLS,
        flag="protocol",
    )
    fractions: tuple[float, ...] = option(
        "A share of pixels to delete; rising.",
        PAPER_FRACTIONS,
        panel=MEASURE,
        within="[0, 1)",
        flag="fraction",
    )
    what_if: float | None = option(
        "Also compare the predicted with the actual change when every map and fill changes this "
        "share of the pixels, such as 0.05.",
        None,
        panel=MEASURE,
        within="(0, 1)",
    )
    flips: int = option("Sign choices behind each p-value.", 9999, panel=STATISTICS, within=_COUNT)

    @property
    def saliency_maps(self) -> tuple[str, ...]:
        """The maps that are the same for every fill."""
        return tuple(name for name in self.maps if name not in EDIT_MAPS)

    @property
    def edit_maps(self) -> tuple[str, ...]:
        """The maps that are computed for each fill."""
        return tuple(name for name in self.maps if name in EDIT_MAPS)

    def _contradictions(self) -> Iterator[str]:
        yield from super()._contradictions()
        if list(self.fractions) != sorted(set(self.fractions)):
            yield f"fractions are {list(self.fractions)}: expected rising numbers in [0, 1)"


@dataclass(frozen=True, kw_only=True)
class CheckSettings(
    MachineSettings, IntervalSettings, QuestionSettings, TuningSettings, ImageSetSettings
):
    """What decides a sanity check; rivals are chosen anew by each network that is asked."""

    limit: int | None = option(
        "So many images, drawn with the seed.", 64, panel=IMAGES, within=_COUNT
    )
    rivals: str = option(
        f"Competing classes, chosen by each network: {RIVAL_WORDS}, or classes (3,cat).",
        "top:10",
        panel=QUESTION,
        read=_rivals,
    )
    maps: tuple[str, ...] = option(
        f"A map to check: {', '.join(RANKING_MAPS)}.",
        RANKING_MAPS,
        panel=QUESTION,
        names=RANKING_MAPS,
        flag="map",
    )
    methods: tuple[Any, ...] = option(
        f"How class gradients are computed: {', '.join(METHODS)}.",
        ("gradient",),
        panel=METHOD,
        names=METHODS,
        flag="method",
    )
    depths: int | None = option(
        "Steps from the output to the input, neighboring layers together; None for every layer.",
        12,
        panel=MEASURE,
        within=_COUNT,
    )
    draws: int = option("Random weights of each step.", 2, panel=MEASURE, within=_COUNT)
    noise: float = option(
        "Standard deviation of the input noise; pixels are in [0, 1].",
        0.02,
        panel=MEASURE,
        within="(0, 1)",
    )
    orders: int = option(
        "Random orders that an image is compared with.", 20, panel=MEASURE, within=_COUNT
    )
    share: float = option(
        "The share of pixels that count as a map's highest.", 0.1, panel=MEASURE, within="(0, 1)"
    )
    reference: bool = option("Also check a method that is known to fail.", True, panel=MEASURE)

    @property
    def method_options(self) -> tuple[MethodOptions | Any, ...]:
        """The methods, each with the settings that it takes; objects stay as they are."""
        return tuple(
            parse_method(
                method,
                **{k: v for k, v in self._tuning().items() if METHODS[method].takes(k)},
                seed=self.seed,
            )
            if isinstance(method, str)
            else method
            for method in self.methods
        )

    def _contradictions(self) -> Iterator[str]:
        yield from super()._contradictions()
        names = [method_name(method) for method in self.methods]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield f"two methods are called {name!r}: check them one after the other"
        rows = [METHODS[method] for method in self.methods if isinstance(method, str)]
        for name, value in self._tuning().items():
            if value is not None and not any(row.takes(name) for row in rows):
                yield f"no method of {', '.join(names)} takes {name}"
        try:
            self.method_options  # noqa: B018  # for its errors
        except ChoiceError as error:
            yield str(error)


@dataclass(frozen=True, kw_only=True)
class LocalizationSettings(MachineSettings, IntervalSettings, GradientSettings, ImageSetSettings):
    """What decides a localization; see `load_regions` for `regions`."""

    regions: str = option(
        "Boxes as .csv, .json or .parquet, or a folder of PNG masks.", panel=IMAGES
    )
    rivals: str = option(
        f"Competing classes: {RIVAL_WORDS}, or classes (3,cat).",
        "top:10",
        panel=QUESTION,
        read=_rivals,
    )
    maps: tuple[str, ...] = option(
        f"A map to measure: {', '.join(RANKING_MAPS)}.",
        RANKING_MAPS,
        panel=QUESTION,
        names=RANKING_MAPS,
        flag="map",
    )
    target: str = option(
        "The class to explain: predicted, or the data's, by name (label) or number (index).",
        "predicted",
        panel=QUESTION,
        names=TARGETS,
    )
    tolerance: int = option(
        "Pixels that a hit may be away from the region.", 0, panel=MEASURE, within="[0, inf)"
    )
    smoothing: float = option(
        "A Gaussian over each map: its width as a share of the shorter side.",
        0.0,
        panel=MEASURE,
        within="[0, 1)",
    )
    flips: int = option("Sign choices behind each p-value.", 9999, panel=STATISTICS, within=_COUNT)


def _size(value: Any) -> tuple[int, int]:
    """Height and width of one number or of two."""
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    height, width = (as_int("size", side) for side in pair) if len(pair) == 2 else (0, 0)
    if min(height, width) < 2:
        raise ChoiceError(f"size is {value!r}: expected a side, or height and width, from 2 pixels")
    return height, width


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(Settings):
    """What decides a training; the defaults are the paper's.

    AdamW, no schedule, no augmentation, the last epoch kept. `size`: height and width that images
    are stretched to. `freeze`: only the last layer learns; the body stays in train mode, so that
    BatchNorm statistics adapt, as in the paper.
    """

    architecture: str = option(
        "basic-cnn, resnet18, convnext-tiny, efficientnet-lite0, timm:NAME or torchvision:NAME.",
        "basic-cnn",
        panel=TRAINING,
    )
    data: str = option(
        "A folder, a Parquet file, cifar10, imagenette, or OWNER/NAME.", panel=IMAGES
    )
    split: str | None = option("Images to learn from. Default: train.", None, panel=IMAGES)
    test_split: str | None = option(
        "Images to test on after each epoch. Default: the data set's own.", None, panel=IMAGES
    )
    limit: int | None = option(
        "Learn from so many images, drawn with the seed.", None, panel=IMAGES, within=_COUNT
    )
    rgb_only: bool = option("Leave files out that are not RGB.", False, panel=IMAGES)
    epochs: int = option("Times that every image is seen.", 50, panel=TRAINING, within=_COUNT)
    batch: int = option("Images per step.", 128, panel=TRAINING, within="[1, 65536]")
    learning_rate: float = option("AdamW's step size.", 0.001, panel=TRAINING, within="(0, inf)")
    weight_decay: float = option("AdamW's weight decay.", 0.01, panel=TRAINING, within="[0, inf)")
    seed: int = option("Decides weights and order of images.", 42, panel=TRAINING, within=_SEED)
    size: tuple[int, int] | None = option(
        "Side that images are stretched to. Default: the network's own.",
        None,
        panel=IMAGES,
        read=_size,
    )
    pretrained: bool = option("Start with the library's weights.", False, panel=TRAINING)
    freeze: bool = option("Only the new last layer learns.", False, panel=TRAINING)
    cache_features: bool = option(
        "Run the frozen body once per image, in eval mode.", False, panel=TRAINING
    )
    normalize: bool = option(
        "Use the body's own mean and std; the paper does not.", False, panel=TRAINING
    )
    precision: str = option("32, or mixed: bf16, 16.", "32", panel=TRAINING, names=PRECISIONS)

    def _contradictions(self) -> Iterator[str]:
        if self.cache_features and not self.freeze:
            yield "features can be computed once for a frozen body only: add --freeze"
        if (self.freeze or self.normalize) and self.architecture == "basic-cnn":
            yield "basic-cnn has no body to freeze and no normalization of its own"
