"""The paper's experiments: its numbers, what is trained on what, and the runs on each network."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from chiaroscuro.catalog import LITE
from chiaroscuro.choices import PAPER_MAPS, check_names
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ResultError
from chiaroscuro.evaluation import evaluate
from chiaroscuro.models import load_classifier
from chiaroscuro.results import KINDS, is_result, load
from chiaroscuro.results.measurements import Evaluation
from chiaroscuro.results.models import TrainingRecord, read_training
from chiaroscuro.settings import EvaluationSettings, TrainingSettings
from chiaroscuro.training import train
from chiaroscuro.training.files import SILENT, Watcher

EPOCHS = 50
"""The paper's number of epochs."""
COLUMNS = {
    "black": ("original", "positive", "active"),
    "white": ("original", "negative", "inactive"),
}
"""The maps of its two tables of areas."""
SPLITS = {"test": "test images", "train": "training images"}
TEST_SPLIT = {"cifar10": "test", "imagenette": "validation"}
"""What the paper calls the test set."""
_FREE = ("epochs", "limit", "precision")
"""What may differ from the paper's training; the tables say where it does."""
METHODS = ("smoothgrad", "integrated-gradients")
"""Gradient methods that the paper's last claim is measured with, next to the plain gradient."""


@dataclass(frozen=True)
class Experiment:
    """One network on one data set, and what the paper says of it, if anything.

    `accuracy` on test images; `areas` under the test curves by map and fill; `note`: how it differs
    from the paper.
    """

    name: str
    title: str
    training: TrainingSettings
    accuracy: float | None = None
    areas: Mapping[tuple[str, str], float] = field(default_factory=dict)
    note: str = ""


Areas = tuple[float, float, float]


def _paper(
    name: str, title: str, network: str, accuracy: float, black: Areas, white: Areas
) -> Experiment:
    """One of the paper's own, with its areas in the order of `COLUMNS`."""
    data, pretrained = name.partition("-")[0], name.endswith("-pretrained")
    settings = TrainingSettings(
        architecture=network, data=data, pretrained=pretrained, freeze=pretrained
    )
    if data == "imagenette":
        settings = replace(settings, size=(224, 224), rgb_only=True)
    areas = {
        (map_, fill): area
        for fill, listed in (("black", black), ("white", white))
        for map_, area in zip(COLUMNS[fill], listed, strict=True)
    }
    return Experiment(name, title, settings, accuracy, areas)


EXPERIMENTS: dict[str, Experiment] = {
    one.name: one
    for one in (
        _paper("cifar10-cnn", "CIFAR-10, basic CNN", "basic-cnn",
               0.6307, (0.23, 0.14, 0.15), (0.21, 0.14, 0.15)),
        _paper("cifar10-resnet18", "CIFAR-10, ResNet-18", "resnet18",
               0.7569, (0.23, 0.11, 0.11), (0.22, 0.12, 0.12)),
        _paper("imagenette-cnn", "Imagenette, basic CNN", "basic-cnn",
               0.6205, (0.24, 0.12, 0.16), (0.21, 0.11, 0.14)),
        _paper("imagenette-resnet18", "Imagenette, ResNet-18", "resnet18",
               0.8357, (0.26, 0.14, 0.14), (0.23, 0.18, 0.16)),
        _paper("imagenette-resnet18-pretrained", "Imagenette, ResNet-18, pre-trained", "resnet18",
               0.9733, (0.28, 0.21, 0.24), (0.26, 0.20, 0.23)),
        _paper("imagenette-convnext-tiny-pretrained", "Imagenette, ConvNeXt-Tiny, pre-trained",
               "convnext-tiny", 0.9932, (0.49, 0.37, 0.39), (0.46, 0.37, 0.42)),
        *(
            Experiment(
                f"imagenette-{name}",
                f"Imagenette, EfficientNet-Lite{name[-1]}, pre-trained",
                TrainingSettings(
                    architecture=name, data="imagenette", rgb_only=True,
                    pretrained=True, freeze=True, cache_features=True, normalize=True,
                ),
                note="not in the paper: its weights come in a package; the body's own "
                "normalization, and features computed once",
            )
            for name in LITE
        ),
    )
}  # fmt: skip
"""Every experiment by name. Source: arXiv:2309.12913, tables 1 to 3."""


@dataclass(frozen=True, slots=True)
class ReproductionSettings:
    """What of the paper is reproduced.

    `experiments`: names of `EXPERIMENTS`, () for all. `quick`: few epochs on few images, as a trial
    run; its numbers mean nothing. `epochs` and `test_limit`: None for the paper's own. `precision`
    of trainings: see `TrainingSettings`.
    `train_limit`: training images for their curves, None for all; the paper does not say how many.
    `method_limit`: test images for gradient methods, which take tens of gradients each.
    `data_root`: a folder that holds the data sets' folders, None for the hub.
    """

    experiments: tuple[str, ...] = ()
    data_root: Path | None = None
    quick: bool = False
    epochs: int | None = None
    precision: str = "32"
    test_limit: int | None = None
    train_limit: int | None = 5000
    method_limit: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        chosen = check_names("experiment", self.experiments or tuple(EXPERIMENTS), EXPERIMENTS)
        object.__setattr__(self, "experiments", chosen)  # frozen, and its values in one form


@dataclass(frozen=True)
class ReproductionWatcher:
    """What is called while the paper is reproduced."""

    training: Watcher = SILENT
    on_experiment: Callable[[Experiment], object] = lambda experiment: None
    on_images: Callable[[str, int, int | None, int], object] = lambda *counts: None
    on_missing: Callable[[Experiment, str], object] = lambda experiment, reason: None


@dataclass(frozen=True)
class ExperimentResult:
    """A finished experiment: its network, how that was trained, and the evaluations by run."""

    experiment: Experiment
    classifier: Classifier
    training: TrainingRecord
    runs: Mapping[str, Evaluation]


def work(
    experiment: Experiment,
    out: Path,
    settings: ReproductionSettings,
    watcher: ReproductionWatcher,
    *,
    workers: int,
    device: str,
) -> None:
    """Train the network unless it is there, then evaluate it on both splits, all resumed."""
    training = experiment.training
    epochs, train_images, test_limit, train_limit = (
        (4, 2000, 60, 30)
        if settings.quick
        else (settings.epochs, None, settings.test_limit, settings.train_limit)
    )
    some, resamples, flips = (20, 200, 999) if settings.quick else (200, 1000, 9999)
    tried = min(some, settings.method_limit, test_limit or some)
    options: dict[str, Any] = {"resume": True, "data_root": settings.data_root}
    folder = out / "models" / experiment.name
    if not is_result(folder):
        chosen = replace(
            training,
            epochs=epochs or training.epochs,
            limit=train_images,
            precision=settings.precision,
        )
        watched: dict[str, Any] = {"device": device, "watcher": watcher.training}
        train(chosen.data, folder, settings=chosen, **watched, **options)
    classifier, record = _network(experiment, out)
    theirs = record.settings.plain()
    for name, wanted in training.plain().items():
        if name not in _FREE and theirs[name] != wanted:
            raise ResultError(
                f"{folder} was trained with {name} {theirs[name]}, {experiment.name} needs "
                f"{wanted}: remove it to train it as the paper does"
            )
    classifier.to(device)
    base = EvaluationSettings(
        data=training.data,
        split=TEST_SPLIT[training.data],
        limit=test_limit,
        seed=settings.seed,
        maps=PAPER_MAPS,
        rgb_only=training.rgb_only,
        resamples=resamples,
        flips=flips,
    )
    few = replace(base, limit=min(some, test_limit or some), protocols=("matched",))
    runs = {
        "test": base,
        "train": replace(base, split="train", limit=train_limit),
        "sharpness": replace(few, metrics=("sharpness",)),
        **{f"test-{method}": replace(few, method=method, limit=tried) for method in METHODS},
    }
    for name, asked in runs.items():
        place = run_folder(experiment, out, name)
        progress = partial(watcher.on_images, f"{experiment.title}, {name}")
        watched = {"workers": workers, "progress": progress}
        evaluate(classifier, asked.data, place, settings=asked, **watched, **options)


def read(experiment: Experiment, out: Path) -> ExperimentResult | None:
    """What lies in `out` of an experiment; None unless its network and main runs are finished."""
    if not is_result(out / "models" / experiment.name):
        return None
    runs: dict[str, Evaluation] = {}
    for name in (*SPLITS, "sharpness", *(f"test-{method}" for method in METHODS)):
        with suppress(ResultError):
            runs[name] = load(run_folder(experiment, out, name), KINDS["evaluation"])
    if not runs.keys() >= {*SPLITS, "sharpness"}:
        return None
    return ExperimentResult(experiment, *_network(experiment, out), runs)


def run_folder(experiment: Experiment, out: Path, name: str) -> Path:
    """The folder of one evaluation."""
    return out / "runs" / f"{experiment.name}-{name}"


def _network(experiment: Experiment, out: Path) -> tuple[Classifier, TrainingRecord]:
    """The trained network under the experiment's name, and how it was trained."""
    classifier = load_classifier(out / "models" / experiment.name)
    classifier.name = experiment.name
    return classifier, read_training(classifier.origin)
