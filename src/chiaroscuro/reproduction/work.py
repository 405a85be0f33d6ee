"""One experiment's work: a trained folder, and runs on test and training images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from chiaroscuro.choices import PAPER_MAPS
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ResultError
from chiaroscuro.evaluation import evaluate
from chiaroscuro.models import load_classifier
from chiaroscuro.reproduction.experiments import Experiment
from chiaroscuro.results import KINDS, is_result, load
from chiaroscuro.results.measurements import Evaluation
from chiaroscuro.results.models import TrainingRecord, read_training
from chiaroscuro.settings import EvaluationSettings
from chiaroscuro.training import train
from chiaroscuro.training.run import SILENT, Watcher

SPLITS = ("test", "train")
TEST_SPLIT = {"cifar10": "test", "imagenette": "validation"}
"""What the paper calls the test set."""
METHODS = ("smoothgrad", "integrated-gradients")
"""Gradient methods that the paper's last claim is measured with, next to the plain gradient."""
_FREE = ("epochs", "limit")
"""Settings that a kept network may differ in; what it was trained with is reported."""
_SHARPNESS, _SHARPNESS_IMAGES = "sharpness", 200

OnImages = Callable[[str, int, int | None, int], object]


@dataclass(frozen=True)
class Extent:
    """How far an experiment goes; None for all images, and for the paper's epochs."""

    epochs: int | None = None
    images: int | None = None
    test_limit: int | None = None
    train_limit: int | None = 5000
    method_limit: int = 200
    resamples: int = 1000
    flips: int = 9999


@dataclass(frozen=True)
class ExperimentResult:
    """A finished experiment: how its network was trained, and its evaluations by split.

    `sharpness`: of maps of some test images; `by_method`: with other gradient methods.
    """

    experiment: Experiment
    folder: Path
    training: TrainingRecord
    evaluations: Mapping[str, Evaluation]
    sharpness: Evaluation
    by_method: Mapping[str, Evaluation] = field(default_factory=dict)

    @property
    def classifier(self) -> Classifier:
        """The trained network, under the experiment's name."""
        return _load(self.experiment, self.folder)

    @property
    def test_run(self) -> Path:
        """The folder of the evaluation on test images."""
        return run_folder(self.experiment, self.folder.parent.parent, "test")


def work(
    experiment: Experiment,
    out: Path,
    extent: Extent,
    *,
    data_root: Path | None = None,
    seed: int = 0,
    workers: int = 1,
    device: str = "cpu",
    watcher: Watcher = SILENT,
    on_images: OnImages = lambda what, done, total, before: None,
) -> None:
    """Train the network unless it is there, then evaluate it on both splits, all resumed.

    Raises what `train` and `evaluate` raise.
    """
    folder = _model_folder(experiment, out)
    if is_result(folder):
        _check_training(experiment, folder)
    else:
        epochs = extent.epochs or experiment.training.epochs
        chosen = replace(experiment.training, epochs=epochs, limit=extent.images)
        train(
            chosen.data,
            folder,
            resume=True,
            data_root=data_root,
            device=device,
            watcher=watcher,
            settings=chosen,
        )
    classifier = _load(experiment, folder).to(device)
    base = EvaluationSettings(
        data=experiment.data,
        split=TEST_SPLIT[experiment.data],
        limit=extent.test_limit,
        seed=seed,
        maps=PAPER_MAPS,
        rgb_only=experiment.training.rgb_only,
        resamples=extent.resamples,
        flips=extent.flips,
    )
    some = min(extent.method_limit, extent.test_limit or extent.method_limit)
    few = min(_SHARPNESS_IMAGES, extent.test_limit or _SHARPNESS_IMAGES)
    runs = {
        "test": base,
        "train": replace(base, split="train", limit=extent.train_limit),
        _SHARPNESS: replace(base, limit=few, metrics=("sharpness",)),
        **{
            f"test-{method}": replace(base, limit=some, method=method, protocols=("matched",))
            for method in METHODS
        },
    }
    for name, settings in runs.items():
        evaluate(
            classifier,
            settings.data,
            run_folder(experiment, out, name),
            resume=True,
            workers=workers,
            data_root=data_root,
            settings=settings,
            progress=partial(on_images, f"{experiment.title}, {name}"),
        )


def read(experiment: Experiment, out: Path) -> ExperimentResult | None:
    """What lies in `out` of an experiment; None unless its network and runs are finished."""
    folder = _model_folder(experiment, out)
    if not is_result(folder):
        return None
    names = (*SPLITS, _SHARPNESS, *(f"test-{method}" for method in METHODS))
    finished: dict[str, Evaluation] = {}
    for name in names:
        try:
            finished[name] = load(run_folder(experiment, out, name), KINDS["evaluation"])
        except ResultError:
            continue
    if not {*SPLITS, _SHARPNESS} <= finished.keys():
        return None
    by_method = {m: finished[f"test-{m}"] for m in METHODS if f"test-{m}" in finished}
    splits = {split: finished[split] for split in SPLITS}
    training = _training(folder)
    return ExperimentResult(experiment, folder, training, splits, finished[_SHARPNESS], by_method)


def run_folder(experiment: Experiment, out: Path, name: str) -> Path:
    """The folder of one evaluation."""
    return out / "runs" / f"{experiment.name}-{name}"


def _model_folder(experiment: Experiment, out: Path) -> Path:
    return out / "models" / experiment.name


def _load(experiment: Experiment, folder: Path) -> Classifier:
    classifier = load_classifier(folder)
    classifier.name = experiment.name
    return classifier


def _training(folder: Path) -> TrainingRecord:
    try:
        return read_training(load_classifier(folder).origin)
    except ResultError as error:
        raise ResultError(f"{folder}: {error}; remove it to train it") from error


def _check_training(experiment: Experiment, folder: Path) -> None:
    """A kept network must be the experiment's own, but for epochs and images."""
    theirs, ours = _training(folder).settings.plain(), experiment.training.plain()
    for name, wanted in ours.items():
        if name not in _FREE and theirs[name] != wanted:
            raise ResultError(
                f"{folder} was trained with {name} {theirs[name]}, {experiment.name} needs "
                f"{wanted}: remove it to train it as the paper does"
            )
