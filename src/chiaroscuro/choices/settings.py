"""Everything that decides the numbers of a result, as one frozen object a command.

The network and the device are no settings: they are read off the classifier.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from chiaroscuro.catalog import ARCHITECTURES
from chiaroscuro.choices import maps as known
from chiaroscuro.choices.fills import FILLS, parse_fill
from chiaroscuro.choices.maps import EDIT_MAPS, MAPS, MEASURED_MAPS, ORDERS, RANKING_MAPS
from chiaroscuro.choices.methods import (
    BASELINES,
    METHODS,
    SCORES,
    MethodOptions,
    Score,
    check_method,
    parse_method,
)
from chiaroscuro.choices.names import as_int
from chiaroscuro.choices.options import Settings, like, method_name, option
from chiaroscuro.choices.pictures import FITS, Fit
from chiaroscuro.choices.protocols import (
    METRICS,
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
COUNT, SEED, BATCH, SHARE = "[1, inf)", "[0, 4294967295]", "[1, 65536]", "(0, 1)"
"""What a count, a seed, a batch size and a share may be."""


def _rivals(value: Any) -> str:
    return str(parse_rivals(value))


def _fill(value: Any) -> str:
    return str(parse_fill(value))


def _target(value: Any) -> int | str | None:
    if isinstance(value, str):
        return None if value == "predicted" else value
    return as_int("target", value)


def _size(value: Any) -> tuple[int, int]:
    """Height and width of one number or of two."""
    pair = tuple(value) if isinstance(value, tuple | list) else (value, value)
    height, width = (as_int("size", side) for side in pair) if len(pair) == 2 else (0, 0)
    if min(height, width) < 2:
        raise ChoiceError(f"size is {value!r}: expected a side, or height and width, from 2 pixels")
    return height, width


def _fill_option(words: str, default: str | tuple[str, ...] | None) -> Any:
    help = f"{words}: {', '.join(FILLS)} (blur:0.1; brighter:0.1 or +0.1)."
    return option(help, default, read=_fill, flag="fill")


@dataclass(frozen=True, kw_only=True)
class Seeded(Settings):
    """What is drawn at random."""

    panel = MACHINE
    seed: int = option("Decides all that is random: images, ties, noise, orders.", 0, within=SEED)


@dataclass(frozen=True, kw_only=True)
class ImageSetSettings(Seeded):
    """Which images, as `load_images` takes them."""

    panel = IMAGES
    data: str = option("A folder, a Parquet file, cifar10, imagenette, or OWNER/NAME.", flag="")
    split: str | None = option("A part of the data; default: test, validation or train.", None)
    limit: int | None = option("So many images, drawn with the seed.", None, within=COUNT)
    rgb_only: bool = option("Leave files out that are not RGB.", False)
    image_column: str | None = option("The column of a table that holds images.", None)
    label_column: str | None = option("The column of a table that holds classes.", None)

    @property
    def source(self) -> dict[str, Any]:
        """The keyword arguments of `load_images`."""
        names = ("split", "limit", "seed", "image_column", "label_column")
        return {"source": self.data, **{name: getattr(self, name) for name in names}}


@dataclass(frozen=True, kw_only=True)
class TuningSettings(Seeded):
    """What gradient methods are tuned with; None for a method's own."""

    panel = METHOD
    points: int | None = option("Sample points; default: the method's own.", None, within=COUNT)
    sigma: float | None = option("Width of smoothgrad's noise: 0.15.", None, within="[0, inf)")
    baseline: str | None = option("Where integrated-gradients begins:", None, BASELINES)
    background: str | None = option(
        "Photos that expected-gradients begins from: a folder, a photo or a glob.", None
    )

    def _tuning(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("points", "sigma", "baseline", "background")}

    def _tuned(self, method: Any, tuning: dict[str, Any]) -> MethodOptions | Any:
        """A method by name with its settings, noise drawn from the seed; objects as they are."""
        if not isinstance(method, str):
            return method
        return parse_method(method, **tuning, seed=self.seed)


@dataclass(frozen=True, kw_only=True)
class QuestionSettings(Settings):
    """What the target competes with, and what is differentiated."""

    panel = QUESTION
    rivals: str = option(
        f"Competing classes: {RIVAL_WORDS}; or classes by index or name (3,cat), or weights "
        "(3=0.7,cat=0.3). Separate with ; where names have commas.",
        "all",
        read=_rivals,
    )
    score: Score = option("What is differentiated:", "logit", SCORES)

    @property
    def rival_rule(self) -> RivalRule:
        """The rivals as a rule, classes by index or name."""
        return parse_rivals(self.rivals)


@dataclass(frozen=True, kw_only=True)
class GradientSettings(QuestionSettings, TuningSettings):
    """How class gradients are computed: a method by name, or what `class_gradients` takes."""

    panel = METHOD
    method: Any = option(
        "How class gradients are computed:", "gradient", METHODS, read=check_method
    )

    @property
    def method_options(self) -> MethodOptions | Any:
        """The method with its settings, noise drawn from the seed; an object stays as it is."""
        return self._tuned(self.method, self._tuning())

    def plain(self) -> dict[str, Any]:
        """Every field as JSON keeps it, with the method's own settings where none are given."""
        options = self.method_options
        own = {name: getattr(options, name, None) for name in self._tuning()}
        return {**super().plain(), **own}

    def _contradictions(self) -> Iterator[str]:
        yield from super()._contradictions()
        if isinstance(self.method, str):
            self.method_options  # noqa: B018  # for its errors
        elif any(value is not None for value in self._tuning().values()):
            yield f"method {method_name(self.method)} is an object: give it its settings"


@dataclass(frozen=True, kw_only=True)
class PhotoSettings(GradientSettings):
    """One photo's question."""

    panel = QUESTION
    target: int | str | None = option(
        "The class to explain: predicted, an index, or a name.", None, read=_target
    )
    fit: Fit | None = option("How a photo is sized; default: the model's own:", None, FITS)


@dataclass(frozen=True, kw_only=True)
class MachineSettings(Settings):
    """What decides rounding."""

    panel = MACHINE
    batch: int | None = option("Images at a time; default: by their size.", None, within=BATCH)
    threads: int | None = option("CPU threads of a worker; default: its share.", None, within=COUNT)


@dataclass(frozen=True, kw_only=True)
class IntervalSettings(Settings):
    """How certain a figure is."""

    panel = STATISTICS
    resamples: int = option("Random sets behind each interval.", 1000, within=COUNT)
    confidence: float = option("The coverage of each interval.", 0.95, within=SHARE)


@dataclass(frozen=True, kw_only=True)
class ExplainSettings(PhotoSettings):
    """What decides an explanation; with `contrast`, of the target against that class alone."""

    panel = QUESTION
    maps: tuple[str, ...] = option("A map to compute:", known.EXPLAIN_MAPS, MAPS, flag="map")
    contrast: str | None = option("Why not this class? It is the only rival.", None)

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
class WhatIfSettings(PhotoSettings):
    """What decides a what-if: the changed pixels, and what they become."""

    panel = QUESTION
    map: str = option("Whose highest pixels change:", "active", ORDERS)
    fraction: float = option("The share of pixels to change.", WHAT_IF_FRACTION, within=SHARE)
    fill: str = _fill_option("What they become", "black")
    tolerance: float = option(
        "The share by which actual and predicted change may differ and still agree.",
        WHAT_IF_TOLERANCE,
        within="(0, inf)",
    )


@dataclass(frozen=True, kw_only=True)
class CompareSettings(PhotoSettings):
    """What decides a comparison; the first classifier's prediction is the default target."""

    panel = QUESTION
    maps: tuple[str, ...] = option(
        "A map to compare:", known.EXPLAIN_MAPS, RANKING_MAPS, flag="map"
    )
    fill: str | None = _fill_option("Also change each one's top pixels", None)
    fraction: float = like(WhatIfSettings, "fraction", WHAT_IF_FRACTION)
    by: str = option("The map whose top pixels --fill changes:", "active", ORDERS)


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings(MachineSettings, IntervalSettings, GradientSettings, ImageSetSettings):
    """What decides an evaluation; the defaults are the paper's, in both protocols.

    `metrics` are names, or `Metric` objects of one's own.
    """

    panel = MEASURE
    metrics: tuple[Any, ...] = option("What is measured:", ("deletion",), METRICS, flag="metric")
    maps: tuple[str, ...] = option(
        f"A map to measure ({' and '.join(EDIT_MAPS)} are computed for each fill):",
        known.PAPER_MAPS,
        MEASURED_MAPS,
        flag="map",
    )
    fills: tuple[str, ...] = _fill_option("What deleted pixels become", ("black", "white"))
    protocols: tuple[str, ...] = option(
        "As published, or the same count for every map:", PROTOCOLS, PROTOCOLS, flag="protocol"
    )
    fractions: tuple[float, ...] = option(
        "A share of pixels to delete; rising.", PAPER_FRACTIONS, within="[0, 1)", flag="fraction"
    )
    what_if: float | None = option(
        "Also compare predicted with actual change when this share of pixels changes.",
        None,
        within=SHARE,
    )
    flips: int = option("Sign choices behind each p-value.", 9999, panel=STATISTICS, within=COUNT)

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
    """What decides a sanity check; each network chooses its own rivals."""

    panel = MEASURE
    limit: int | None = like(ImageSetSettings, "limit", 64)
    rivals: str = like(QuestionSettings, "rivals", "top:10")
    maps: tuple[str, ...] = option("A map to check:", tuple(RANKING_MAPS), RANKING_MAPS, flag="map")
    methods: tuple[Any, ...] = option(
        "How class gradients are computed:",
        ("gradient",),
        METHODS,
        read=check_method,
        flag="method",
        panel=METHOD,
    )
    depths: int = option(
        "Steps from output to input, neighboring layers together; 0: one a layer.",
        12,
        within="[0, inf)",
    )
    draws: int = option("Random weights of each step.", 2, within=COUNT)
    noise: float = option("Width of the input noise; pixels are in [0, 1].", 0.02, within=SHARE)
    orders: int = option("Random orders that an image is compared with.", 20, within=COUNT)
    share: float = option("The share of pixels that are a map's highest.", 0.1, within=SHARE)
    reference: bool = option("Also check a method that is known to fail.", True)

    @property
    def method_options(self) -> tuple[MethodOptions | Any, ...]:
        """The methods, each with the settings that it takes; objects stay as they are."""
        return tuple(
            self._tuned(method, {k: v for k, v in self._tuning().items() if _takes(method, k)})
            for method in self.methods
        )

    def _contradictions(self) -> Iterator[str]:
        yield from super()._contradictions()
        names = [method_name(method) for method in self.methods]
        for name in sorted({name for name in names if names.count(name) > 1}):
            yield f"two methods are called {name!r}: check them one after the other"
        for name, value in self._tuning().items():
            if value is not None and not any(_takes(method, name) for method in self.methods):
                yield f"no method of {', '.join(names)} takes {name}"
        self.method_options  # noqa: B018  # for its errors


def _takes(method: Any, name: str) -> bool:
    return isinstance(method, str) and METHODS[method].takes(name)


@dataclass(frozen=True, kw_only=True)
class LocalizationSettings(MachineSettings, IntervalSettings, GradientSettings, ImageSetSettings):
    """What decides a localization; see `load_regions` for `regions`."""

    panel = MEASURE
    regions: str = option("Boxes as .csv, .json or .parquet, or a folder of PNG masks.")
    rivals: str = like(QuestionSettings, "rivals", "top:10")
    maps: tuple[str, ...] = option(
        "A map to measure:", tuple(RANKING_MAPS), RANKING_MAPS, flag="map"
    )
    target: str = option("The class to explain; label, index: the data's:", "predicted", TARGETS)
    tolerance: int = option("Pixels that a hit may be off the region.", 0, within="[0, inf)")
    smoothing: float = option("A Gaussian over each map, in sides.", 0.0, within="[0, 1)")
    flips: int = like(EvaluationSettings, "flips", 9999)


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(ImageSetSettings):
    """What decides a training; the defaults are the paper's.

    AdamW, no schedule, no augmentation, the last epoch kept. `size`: height and width that images
    are stretched to. `freeze`: only the last layer learns; the body stays in train mode, so that
    BatchNorm statistics adapt, as in the paper.
    """

    panel = TRAINING
    architecture: str = option(
        f"{', '.join(ARCHITECTURES)}, timm:NAME, torchvision:NAME.", "basic-cnn"
    )
    split: str | None = option("Images to learn from; default: train.", None, panel=IMAGES)
    test_split: str | None = option(
        "Images to test on after each epoch; default: the data's own.", None, panel=IMAGES
    )
    size: tuple[int, int] | None = option(
        "Side of the stretched images; default: the network's own.", None, panel=IMAGES, read=_size
    )
    epochs: int = option("Times that every image is seen.", 50, within=COUNT)
    batch: int = option("Images per step.", 128, within=BATCH)
    learning_rate: float = option("AdamW's step size.", 0.001, within="(0, inf)")
    weight_decay: float = option("AdamW's weight decay.", 0.01, within="[0, inf)")
    seed: int = like(Seeded, "seed", 42)
    pretrained: bool = option("Start with the library's weights.", False)
    freeze: bool = option("Only the new last layer learns.", False)
    cache_features: bool = option("Run the frozen body once per image, in eval mode.", False)
    normalize: bool = option("Use the body's own mean and std; the paper does not.", False)
    precision: str = option("Number format; bf16 and 16 are mixed:", "32", PRECISIONS)

    def _contradictions(self) -> Iterator[str]:
        yield from super()._contradictions()
        if self.cache_features and not self.freeze:
            yield "features can be computed once for a frozen body only: add --freeze"
        if (self.freeze or self.normalize) and self.architecture == "basic-cnn":
            yield "basic-cnn has no body to freeze and no normalization of its own"
