"""One cell's work: a trained folder, a run on test images, one on training images."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from chiaroscuro.choices import PAPER_MAPS
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ResultError
from chiaroscuro.models import load_classifier
from chiaroscuro.models.folder import MODEL
from chiaroscuro.paper.cells import Cell
from chiaroscuro.runs import EvaluationSettings, evaluate
from chiaroscuro.runs.evaluation import SUMMARY
from chiaroscuro.runs.store import RunStore
from chiaroscuro.training import train
from chiaroscuro.training.run import SILENT, Watcher

SPLITS = ("test", "train")
TEST_SPLIT = {"cifar10": "test", "imagenette": "validation"}
"""What the paper calls the test set."""
METHODS = ("smoothgrad", "integrated-gradients")
"""Gradient methods that the paper's last claim is measured with, beside the plain gradient."""
_FREE = ("epochs", "limit")
"""Settings that a kept network may differ in; what it was trained with is reported."""

OnImages = Callable[[str, int, int | None, int], object]


@dataclass(frozen=True)
class Extent:
    """How far a cell goes; None for all images, and for the paper's epochs."""

    epochs: int | None = None
    images: int | None = None
    test_limit: int | None = None
    train_limit: int | None = 5000
    method_limit: int = 200
    resamples: int = 1000
    flips: int = 9999


@dataclass(frozen=True)
class CellResult:
    """A cell that was worked on: how its network was trained, its summaries by split, and those of
    other gradient methods on test images.
    """

    cell: Cell
    folder: Path
    training: Mapping[str, Any]
    summaries: Mapping[str, Mapping[str, Any]]
    by_method: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def classifier(self) -> Classifier:
        """The trained network, under the cell's name."""
        return _load(self.cell, self.folder)


def work_cell(
    cell: Cell,
    out: Path,
    extent: Extent,
    *,
    data_root: Path | None = None,
    seed: int = 0,
    watcher: Watcher = SILENT,
    on_images: OnImages = lambda what, done, total, before: None,
) -> None:
    """Train the cell's network unless it is there, then evaluate it on both splits.

    Whatever was begun is gone on with. Raises what `train` and `evaluate` raise.
    """
    folder = _model_folder(cell, out)
    if (folder / MODEL.marker).is_file():
        _check_training(cell, folder)
    else:
        settings = replace(
            cell.training, epochs=extent.epochs or cell.training.epochs, limit=extent.images
        )
        train(settings, folder, resume=True, data_root=data_root, watcher=watcher)
    classifier = _load(cell, folder)
    limits = {"test": extent.test_limit, "train": extent.train_limit}
    for split in SPLITS:
        wanted = EvaluationSettings(
            data=cell.data,
            split=TEST_SPLIT[cell.data] if split == "test" else "train",
            limit=limits[split],
            seed=seed,
            maps=PAPER_MAPS,
            rgb_only=cell.training.rgb_only,
            resamples=extent.resamples,
            flips=extent.flips,
        )

        def told(done: int, total: int | None, before: int, split: str = split) -> None:
            on_images(f"{cell.title}, {split} images", done, total, before)

        evaluate(
            classifier, wanted, _run_folder(cell, out, split), resume=True, data_root=data_root,
            on_images=told,
        )  # fmt: skip
    _try_methods(cell, out, extent, classifier, wanted, data_root, on_images)


def _try_methods(
    cell: Cell,
    out: Path,
    extent: Extent,
    classifier: Classifier,
    like: EvaluationSettings,
    data_root: Path | None,
    on_images: OnImages,
) -> None:
    """The paper's maps through other gradient methods, on some of the test images."""
    least = min(extent.method_limit, extent.test_limit or extent.method_limit)
    for method in METHODS:
        wanted = replace(
            like, split=TEST_SPLIT[cell.data], limit=least, method=method, protocols=("matched",)
        )

        def told(done: int, total: int | None, before: int, method: str = method) -> None:
            on_images(f"{cell.title}, {method}", done, total, before)

        evaluate(
            classifier, wanted, _run_folder(cell, out, f"test-{method}"), resume=True,
            data_root=data_root, on_images=told,
        )  # fmt: skip


def read_cell(cell: Cell, out: Path) -> CellResult | None:
    """What lies in `out` of a cell; None unless its network and both runs are whole."""
    folder = _model_folder(cell, out)
    stores = {split: RunStore(_run_folder(cell, out, split)) for split in SPLITS}
    if not (folder / MODEL.marker).is_file() or not all(s.is_finished for s in stores.values()):
        return None
    summaries = {split: store.read_json(SUMMARY) for split, store in stores.items()}
    methods = {method: RunStore(_run_folder(cell, out, f"test-{method}")) for method in METHODS}
    by_method = {
        method: store.read_json(SUMMARY) for method, store in methods.items() if store.is_finished
    }
    return CellResult(cell, folder, _training(folder), summaries, by_method)


def run_store(result: CellResult, split: str) -> RunStore:
    """The folder with a cell's rows."""
    return RunStore(_run_folder(result.cell, result.folder.parent.parent, split))


def _model_folder(cell: Cell, out: Path) -> Path:
    return out / "models" / cell.name


def _run_folder(cell: Cell, out: Path, split: str) -> Path:
    return out / "runs" / f"{cell.name}-{split}"


def _load(cell: Cell, folder: Path) -> Classifier:
    classifier = load_classifier(folder)
    classifier.name = cell.name
    return classifier


def _training(folder: Path) -> Mapping[str, Any]:
    found = load_classifier(folder).origin.get("training")
    if not isinstance(found, Mapping):
        raise ResultError(f"{folder}: says nothing of its training; remove it to train anew")
    return found


def _check_training(cell: Cell, folder: Path) -> None:
    """A kept network must be the cell's own, but for epochs and images."""
    found = _training(folder)
    for name, wanted in asdict(cell.training).items():
        theirs = found.get(name)
        ours = list(wanted) if isinstance(wanted, tuple) else wanted
        if name not in _FREE and theirs != ours:
            raise ResultError(
                f"{folder} was trained with {name} {theirs}, {cell.name} needs {ours}: "
                "remove it to train anew"
            )
