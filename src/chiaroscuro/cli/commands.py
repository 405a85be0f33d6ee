"""The commands, each a row: what it takes, and what runs it."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer

from chiaroscuro import catalog, settings
from chiaroscuro.catalog import SOURCES, TextClasses, check_spec, offered_specs
from chiaroscuro.choices import (
    DEFAULT_MODEL,
    DEFAULT_OUT,
    ENGINES,
    LEVELS,
    MAP_FORMS,
    REPLAY_TOLERANCE,
    SCALES,
)
from chiaroscuro.cli.options import Command
from chiaroscuro.errors import ChoiceError
from chiaroscuro.settings import COUNT, IMAGES, MACHINE, MEASURE, Seeded, Settings, like, option


def _model(spec: str) -> str:
    try:
        return check_spec(spec)
    except ChoiceError:
        from chiaroscuro.results import kind_in  # slow to import, and rarely asked

        if kind_in(spec) is None:  # puts back what a killed process left next to its place
            raise
        return spec


@dataclass(frozen=True, kw_only=True)
class ListOptions(Settings):
    as_json: bool = option("One JSON object a line.", False, flag="json")


@dataclass(frozen=True, kw_only=True)
class OutputOptions(Settings):
    device: str = option(
        "auto (a GPU where there is one), cpu, cuda, cuda:N, mps.", "auto", panel=MACHINE
    )
    passive: bool = option(
        "Threads sleep while they wait (OMP_WAIT_POLICY=passive), for a machine that others use.",
        False,
        panel=MACHINE,
    )
    deterministic: bool = option(
        "Only kernels that give the same bits each time, also on a GPU; an error where one is "
        "missing.",
        False,
        panel=MACHINE,
    )
    force: bool = option("Replace an existing result of the same kind.", False)
    as_json: bool = option("Print the result as JSON.", False, flag="json")
    quiet: bool = option("Print errors only.", False, flag="quiet,q")


def _time(text: str) -> str:
    """A time such as 90s, 30m, 2h or 1d; a plain number is one of seconds."""
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?[smhd]?", text) or not seconds(text):
        raise ChoiceError(f"max_time is {text!r}: expected a time such as 90s, 30m, 2h or 1d")
    return text


def seconds(time: str) -> float:
    """The seconds of a time that was checked."""
    return float(time.rstrip("smhd")) * {"m": 60, "h": 3600, "d": 86400}.get(time[-1], 1)


@dataclass(frozen=True, kw_only=True)
class LoggedOptions(Settings):
    """How long work is logged and counted."""

    log: Path | None = option("Add what happens to this file, one JSON object a line.", None)
    log_level: str = option("The least that the log holds:", "info", LEVELS)
    counts: Path | None = option(
        "Keep counts, rates and memory in this file, in the text format of Prometheus.", None
    )


@dataclass(frozen=True, kw_only=True)
class WatchedOptions(LoggedOptions):
    """Of work that can be stopped and resumed."""

    max_time: str | None = option(
        "Stop after this time, to be resumed: 90s, 30m, 2h, 1d. The exit status is 75.",
        None,
        read=_time,
        panel=MACHINE,
    )


@dataclass(frozen=True, kw_only=True)
class LongOptions(WatchedOptions, OutputOptions):
    """Of a command that may work for hours."""


@dataclass(frozen=True, kw_only=True)
class TextOptions(Settings, panel="Classes from text"):
    """Of a command with an option `model` or `models`."""

    classes: tuple[Any, ...] | None = option(  # one that is given twice is an error
        "Of a clip:NAME, two texts or more: 'a cat' 'a dog'; or a file with one a line.",
        None,
        flag="classes",
    )
    templates: tuple[str, ...] | None = option(
        "A class stands in place of {}, as in 'a photo of a {}'. Several are averaged.", None
    )

    def texts(self, model: str) -> TextClasses | None:
        """The classes of one of the models, None where it has its own."""
        given = self.classes[0] if self.classes and len(self.classes) == 1 else self.classes
        if not catalog.takes_classes(model):
            return None
        return catalog.text_classes(model, given, self.templates)

    def _contradictions(self) -> Iterator[str]:
        yield from super()._contradictions()
        models = getattr(self, "models", None) or (getattr(self, "model", DEFAULT_MODEL),)
        paths = [text for text in self.classes or () if {".", os.sep} & {*text}]
        paths = [path for path in paths if os.path.lexists(path)]  # also long texts
        if paths and len(self.classes or ()) > 1:
            yield f"class {paths[0]!r} is a file: give photos first, or a file of classes alone"
        try:
            if not any(self.texts(model) for model in models):
                catalog.text_classes(models[0], self.classes, self.templates)
        except ChoiceError as error:
            yield str(error)


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(TextOptions, OutputOptions):
    model: str = option(
        "What `chiaroscuro models` lists.",
        DEFAULT_MODEL,
        read=_model,
        panel="Network",
        offers=offered_specs(),
    )
    weights: str | None = option(
        "A file of weights that a training wrote, in place of --model.", None, panel="Network"
    )
    architecture: str | None = option(
        "The network of --weights, such as timm:resnet18.", None, panel="Network"
    )

    def _contradictions(self) -> Iterator[str]:
        if (self.weights is None) != (self.architecture is None):
            yield "--weights and --architecture belong together: give both"
        elif self.weights is not None and self.model != DEFAULT_MODEL:
            yield "--model and --weights both name a network: give one of them"
        elif self.weights is not None:
            object.__setattr__(self, "model", _model(f"{self.architecture}@{self.weights}"))
        yield from super()._contradictions()


@dataclass(frozen=True, kw_only=True)
class ExplainSettings(settings.ExplainSettings):
    """On the command line maps are tested; the library's call is as fast as it can be."""

    evidence: str = like(settings.ExplainSettings, "evidence", "quick")


@dataclass(frozen=True, kw_only=True)
class ExplainOptions(NetworkOptions, LongOptions):
    images: tuple[str, ...] | None = option(
        "Photos, folders or globs. Without any: two packaged photos.", None, flag=""
    )
    threads: int | None = option("CPU threads; default: PyTorch's own.", None, COUNT, panel=MACHINE)
    workers: int = option("Processes, each with its share of the threads.", 1, COUNT, panel=MACHINE)
    scale: str = option("Colors per image, or shared by all:", "image", SCALES)
    out: Path = option("Where the results go.", Path(DEFAULT_OUT))
    figure: bool = option("Also draw every map on one picture, figure.png.", False)
    replay: Path | None = option("Recompute the explanation in this folder and compare.", None)
    tolerance: float | None = option(
        f"With --replay: how far values may differ, relatively; default: {REPLAY_TOLERANCE}.",
        None,
        "[0, inf)",
    )
    profile: bool = option("Say where the time went, on standard error.", False)
    resume: bool = option("Keep explanations of the same photo, options and weights.", False)

    def _contradictions(self) -> Iterator[str]:
        yield from super()._contradictions()
        if self.replay is not None and self.images:
            yield "--replay recomputes a saved explanation: give it without photos"
        if self.replay is None and self.tolerance is not None:
            yield "--tolerance is for --replay: give both"


@dataclass(frozen=True, kw_only=True)
class PhotoOptions(TextOptions, OutputOptions):
    image: Path = option("The photo.", flag="")
    threads: int | None = like(ExplainOptions, "threads")

    def _contradictions(self) -> Iterator[str]:
        yield from super()._contradictions()
        if self.image.is_dir():
            yield f"{self.image} is a folder: give one photo"


@dataclass(frozen=True, kw_only=True)
class WhatIfOptions(PhotoOptions, NetworkOptions):
    out: Path = like(ExplainOptions, "out", Path("chiaroscuro-what-if"))


@dataclass(frozen=True, kw_only=True)
class FlipOptions(PhotoOptions, NetworkOptions):
    out: Path = like(ExplainOptions, "out", Path("chiaroscuro-flip"))


@dataclass(frozen=True, kw_only=True)
class CompareOptions(PhotoOptions):
    models: tuple[str, ...] = option(
        "What `chiaroscuro models` lists; two or more.",
        read=_model,
        panel="Network",
        offers=offered_specs(),
    )
    out: Path = option("The folder for figure and page.", Path("chiaroscuro-comparison"))

    def _contradictions(self) -> Iterator[str]:
        yield from super()._contradictions()
        if len(self.models) < 2:
            yield "one model to compare: give --model at least twice, with different models"


@dataclass(frozen=True, kw_only=True)
class RunOptions(NetworkOptions, LongOptions):
    workers: int = like(ExplainOptions, "workers")
    engine: str = option(
        "What --workers are, processes or actors of Ray:", "local", ENGINES, panel=MACHINE
    )
    ray_address: str | None = option(
        "Of a Ray cluster; default: RAY_ADDRESS, or a Ray of this machine alone.",
        None,
        panel=MACHINE,
    )
    data_root: Path | None = option(
        "A folder that holds a data set's folder; or the beginning of what a result names, a URL "
        "or a name of the hub.",
        None,
        panel=IMAGES,
    )
    out: Path = option("The folder for rows, figures and page.", Path("chiaroscuro-run"))
    resume: bool = option("Resume an interrupted run.", False)
    strict: bool = option(
        "End at the first image that cannot be used; else it is left out: exit status 3.",
        False,
        panel=IMAGES,
    )
    shard: str | None = option(
        "Of every n batches the i-th alone, from 0, such as 0/3; `chiaroscuro merge` joins them.",
        None,
        panel=IMAGES,
    )

    def _contradictions(self) -> Iterator[str]:
        yield from super()._contradictions()
        if self.ray_address is not None and self.engine != "ray":
            yield "--ray-address is for --engine ray: give both"


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(RunOptions):
    check: Path | None = option("The folder of a `chiaroscuro check`, for the report.", None)


@dataclass(frozen=True, kw_only=True)
class CheckOptions(RunOptions):
    out: Path = like(RunOptions, "out", Path("chiaroscuro-check"))


@dataclass(frozen=True, kw_only=True)
class LocalizeOptions(RunOptions):
    out: Path = like(RunOptions, "out", Path("chiaroscuro-localization"))


@dataclass(frozen=True, kw_only=True)
class ConfusionsOptions(RunOptions):
    out: Path = like(RunOptions, "out", Path("chiaroscuro-confusions"))


@dataclass(frozen=True, kw_only=True)
class MapsOptions(RunOptions):
    out: Path = option("The folder for maps, rows and failures.", Path("chiaroscuro-maps"))
    only_missing: bool = option("The same as --resume.", False)

    def _contradictions(self) -> Iterator[str]:
        yield from super()._contradictions()
        object.__setattr__(self, "resume", self.resume or self.only_missing)


@dataclass(frozen=True, kw_only=True)
class StoredOptions(Settings):
    as_json: bool = like(OutputOptions, "as_json")
    quiet: bool = like(OutputOptions, "quiet")


@dataclass(frozen=True, kw_only=True)
class ResumeOptions(StoredOptions):
    """Of a command that resumes a run; its configuration names what is not given."""

    model: str | None = option(
        "What is loaded; default: the run's own.", None, read=_model, panel="Network"
    )
    data_root: Path | None = like(RunOptions, "data_root")
    device: str | None = option("Default: the run's own.", None, panel=MACHINE)


@dataclass(frozen=True, kw_only=True)
class VerifyOptions(WatchedOptions, ResumeOptions):
    folder: Path = option("The folder of a result.", flag="")
    repair: bool = option("Compute what is damaged or missing of a run once more.", False)
    workers: int = like(RunOptions, "workers")
    engine: str = like(RunOptions, "engine")
    ray_address: str | None = like(RunOptions, "ray_address")

    def _contradictions(self) -> Iterator[str]:
        yield from super()._contradictions()
        for name in ("max_time", "log", "counts"):
            if not self.repair and getattr(self, name) is not None:
                yield f"--{name.replace('_', '-')} is for --repair: give both"


@dataclass(frozen=True, kw_only=True)
class MergeOptions(ResumeOptions):
    shards: tuple[Path, ...] = option("Folders of one command with --shard.", flag="")
    out: Path | None = option("The folder of the whole; default: the command's own.", None)
    check: Path | None = like(EvaluateOptions, "check")
    force: bool = like(OutputOptions, "force")


@dataclass(frozen=True, kw_only=True)
class ConvertOptions(LoggedOptions, StoredOptions):
    maps: Path = option("A folder of `chiaroscuro maps`.", flag="")
    to: str = option("What to write:", allowed=MAP_FORMS)
    data_root: Path | None = like(RunOptions, "data_root")
    out: Path = option("A new folder.", Path("chiaroscuro-converted"))


@dataclass(frozen=True, kw_only=True)
class CopyOptions(WatchedOptions, StoredOptions):
    source: str = option("A result: a folder, or a URL that fsspec reads.", flag="")
    target: str = option("Where it goes: a folder, or a URL.", flag="")
    force: bool = option("Replace another result there.", False)


@dataclass(frozen=True, kw_only=True)
class TrainOptions(LongOptions):
    threads: int | None = like(ExplainOptions, "threads")
    data_root: Path | None = like(RunOptions, "data_root")
    out: Path = option("The folder that the network is written to.")
    resume: bool = option("Resume an interrupted training.", False)


@dataclass(frozen=True, kw_only=True)
class ReproduceOptions(LongOptions, Seeded, panel=MEASURE):
    threads: int | None = like(ExplainOptions, "threads")
    workers: int = like(ExplainOptions, "workers")
    data_root: Path | None = like(RunOptions, "data_root")
    experiments: tuple[str, ...] | None = option(
        "One experiment, such as cifar10-cnn; default: all.", None
    )
    quick: bool = option("Few epochs on few images: to see it work.", False)
    epochs: int | None = option("Training epochs; default: the paper's 50.", None, COUNT)
    precision: str = like(settings.TrainingSettings, "precision")
    test_limit: int | None = option(
        "So many test images, drawn with the seed; default: all.", None, COUNT, flag="limit"
    )
    train_limit: int = option("So many training images for their curves.", 5000, COUNT)
    method_limit: int = option(
        "So many test images, 200 at most, for the two gradient methods of claim 6.", 200, COUNT
    )
    out: Path | None = option(
        "The folder of networks, runs and report; what is there is reused.", None, panel="Output"
    )


@dataclass(frozen=True, kw_only=True)
class ServeOptions(TextOptions):
    photos: tuple[Path, ...] | None = option(
        "Photos that the page offers besides the packaged ones.", None, flag=""
    )
    models: tuple[str, ...] = option(
        "What the page lets its visitors choose; the first is the default.",
        (DEFAULT_MODEL, "cifar10-cnn"),
        read=_model,
        panel="Network",
    )
    stored: tuple[Path, ...] | None = option(
        "A folder of `chiaroscuro maps`, whose maps are shown at once where they fit.",
        None,
        flag="maps",
        panel=IMAGES,
    )
    device: str = like(OutputOptions, "device")
    passive: bool = like(OutputOptions, "passive")
    threads: int | None = like(ExplainOptions, "threads")
    host: str = option(
        "Where to listen. Other than this machine alone: the address holds a token.", "127.0.0.1"
    )
    port: int = option("The port; 0: a free one.", 8347, "[0, 65535]")
    time_limit: float = option("Seconds that one answer may take.", 600.0, "(0, inf)")
    browse: bool = option("Open the page in a browser.", False)
    quiet: bool = like(OutputOptions, "quiet")


def models(run: ListOptions) -> None:
    """Print every kind of model."""
    width = max(map(len, SOURCES))
    for source in SOURCES.values():
        if run.as_json:
            typer.echo(json.dumps(asdict(source) | {"installed": source.installed}))
            continue
        state = f"{source.package} {source.installed}" if source.installed else "not installed"
        reach = "works offline" if source.offline else "weights are fetched once"
        typer.echo(f"{source.spec:<{width}}  {source.loads}")
        typer.echo(f"{'':<{width}}  [{state}; {reach}]")


_RESUME = "resume with the same command and --resume"
COMMANDS = (
    Command("explain", "actions:explain", (ExplainSettings, ExplainOptions),
        "Explain photos: what the network says, and which pixels speak for it, brighter or darker.",
        ("cat.jpg", "photos/ --model torchvision:resnet50 --rivals top:10",
         "cat.jpg --target tabby --contrast 'tiger cat'", "--replay chiaroscuro-out/cat",
         "cat.jpg --model clip:openai/clip-vit-base-patch32 --classes 'a cat' 'a dog'"), _RESUME),
    Command("what-if", "actions:what_if", (settings.WhatIfSettings, WhatIfOptions),
        "Change a map's highest pixels: predicted (first-order) and actual change of every class.",
        ("cat.jpg --fraction 0.05 --fill black", "cat.jpg --map inactive --fill -0.1")),
    Command("flip", "actions:flip", (settings.SmallestEditSettings, FlipOptions),
        "Find the fewest pixels, cells or superpixels whose change turns the prediction.",
        ("cat.jpg --change black", "cat.jpg --to 'Egyptian cat' --cells superpixels",
         "cat.jpg --keep --change blur --cells 8")),
    Command("compare", "actions:compare", (settings.CompareSettings, CompareOptions),
        "Compare checkpoints on one photo: what each says, its maps, and how they differ.",
        ("cat.jpg --model cifar10-cnn --model runs/mine --fill black",)),
    Command("evaluate", "actions:measure", (settings.EvaluationSettings, EvaluateOptions),
        "Measure maps by deletion: whether the prediction holds when a map's highest pixels go.",
        ("photos/ --model runs/mine --limit 500 --workers 2",
         "photos/ --batch 64 --threads 4 --shard 0/3 --out shard-0",
         "cifar10 --model cifar10-cnn --map active --map expected-effect --fill black"), _RESUME),
    Command("check", "actions:measure", (settings.CheckSettings, CheckOptions),
        "Check that maps change with the weights and the class, and not with a little noise.",
        ("photos/ --model runs/mine --method gradient --method smoothgrad",), _RESUME),
    Command("localize", "actions:measure", (settings.LocalizationSettings, LocalizeOptions),
        "Measure whether maps point at the object: the highest pixel, the energy in its region.",
        ("photos/ --regions boxes.csv --model torchvision:resnet50",), _RESUME),
    Command("confusions", "actions:measure", (settings.ConfusionSettings, ConfusionsOptions),
        "Show which class takes pixels from which over a set: how many, where, on which colors.",
        ("photos/ --model torchvision:resnet50 --limit 200",
         "chiaroscuro-maps --pairs 20"), _RESUME),
    Command("maps", "actions:measure", (settings.MapExportSettings, MapsOptions),
        "Keep the maps of every image of a set, as Zarr and Parquet, for any program.",
        ("photos/ --model torchvision:resnet50 --map active --dtype float16",
         "photos/ --batch 64 --threads 4 --shard 0/3 --out shard-0"), _RESUME),
    Command("merge", "actions:merge", (MergeOptions,),
        "Join the folders of one command with --shard: the same bytes as of one run.",
        ("shard-0 shard-1 shard-2 --out chiaroscuro-maps",), "merge once more"),
    Command("convert", "actions:convert", (ConvertOptions,),
        "Write kept maps for ViRelAy (HDF5), for FiftyOne, or as pictures over the photos.",
        ("chiaroscuro-maps --to fiftyone --out for-fiftyone",)),
    Command("copy", "actions:copy", (CopyOptions,),
        "Copy a result to or from an object store, part by part, each checked.",
        ("chiaroscuro-run s3://bucket/run", "s3://bucket/run chiaroscuro-run"),
        "go on with the same command"),
    Command("verify", "actions:verify", (VerifyOptions,),
        "Check every byte of a saved result; --repair computes damaged parts of a run once more.",
        ("chiaroscuro-run", "chiaroscuro-run --repair"), "repair with the same command"),
    Command("train", "actions:train", (settings.TrainingSettings, TrainOptions),
        "Train a network with the paper's settings: AdamW, no augmentation, the last epoch kept.",
        ("photos/ --out runs/mine --architecture resnet18 --pretrained --freeze",), _RESUME),
    Command("reproduce", "actions:reproduce", (ReproduceOptions,),
        "Recompute the paper's tables and figures, each number with the published one.",
        ("--quick",), "resume with the same command"),
    Command("serve", "actions:serve", (ServeOptions,),
        "Serve the live page: drop a photo, see its maps, and change it while a slider moves.",
        ("", "cat.jpg dog.jpg --model torchvision:resnet50 --browse"), "the page is closed"),
    Command("models", "commands:models", (ListOptions,),
        "List what --model takes, and which of it is installed here.", ("", "--json")),
)  # fmt: skip
