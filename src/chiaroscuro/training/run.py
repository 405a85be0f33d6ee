"""A training from images to a folder that `load_classifier` reads."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from chiaroscuro.catalog import versions
from chiaroscuro.choices import CHECKPOINT
from chiaroscuro.classifier import Classifier
from chiaroscuro.data import ImageSet, load_images, read_batches
from chiaroscuro.errors import ChiaroscuroError, ChoiceError, InputError, ResultError, missing_extra
from chiaroscuro.images import Framing
from chiaroscuro.models.folder import MODEL, write_classifier
from chiaroscuro.render.training import TrainingCurve, draw_training
from chiaroscuro.results import KINDS, check_free, kind_in, staged
from chiaroscuro.results.models import TrainingRecord
from chiaroscuro.results.runs import open_run
from chiaroscuro.results.store import to_plain
from chiaroscuro.settings import TrainingSettings, settings_from, takes
from chiaroscuro.training.examples import PixelStore, compute_features, store_pixels
from chiaroscuro.training.log import LOG, EpochRow
from chiaroscuro.training.network import Network, build_network

_WORK = KINDS["training"]


@dataclass(frozen=True)
class Watcher:
    """What is called during a training: images read, batches learned, epochs ended."""

    on_image: Callable[[str, int, int | None], object] = lambda what, done, total: None
    on_batch: Callable[[int, int, int, int], object] = lambda epoch, epochs, batch, batches: None
    on_epoch: Callable[[EpochRow], object] = lambda row: None


SILENT = Watcher()


@takes(TrainingSettings)
def train(
    data: str | Path,
    out: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "cpu",
    data_root: str | Path | None = None,
    watcher: Watcher = SILENT,
    settings: TrainingSettings | None = None,
    **options: Any,
) -> Path:
    """Train a network and write it to the folder `out`, with its log and its curve.

    Work in progress lies in the folder OUT.training (checkpoint, log, decoded images) and is
    removed at the end. After an interruption `resume` continues from the last whole epoch, and ends
    with the same weights. The last epoch is kept, never the best on test images. `data_root`: see
    `load_images`.

    Raises `ChoiceError`, `InputError`, `ModelError`, `MissingExtraError` (extra `train`), or
    `ResultError` when `out` exists or OUT.training holds anything but this very training.
    Source of the defaults: arXiv:2309.12913, section 4.
    """
    chosen = settings_from(TrainingSettings, settings, {"data": data, **options})
    final = Path(out)
    check_free(final, MODEL, overwrite=overwrite)
    images = _training_images(chosen, data_root)
    tests = _test_images(chosen, images, data_root)
    config = _Config(chosen.plain(), images.fingerprint(), tests.fingerprint() if tests else None)
    with _work_folder(final.with_name(f"{final.name}.training"), config, resume=resume) as work:
        with torch.random.fork_rng():
            torch.manual_seed(chosen.seed)
            started = time.perf_counter()
            trained = _train(chosen, images, tests, work, device, watcher)
            seconds = round(time.perf_counter() - started, 1)
        with staged(final, MODEL, overwrite=overwrite) as stage:
            shutil.copy(work / LOG, stage / LOG)
            draw_training(_curve(chosen, trained.rows), stage / "curve.png")
            network = trained.network
            network.classifier.origin = _origin(chosen, trained, seconds)
            write_classifier(
                network.classifier,
                stage,
                architecture=network.architecture,
                arguments=network.arguments,
            )
        _remove(work)
    return final


@dataclass(frozen=True)
class _Config:
    """What decides a training: settings, and digests of the files of its images."""

    settings: dict[str, Any]
    images: str | None
    tests: str | None


@contextmanager
def _work_folder(work: Path, config: _Config, *, resume: bool) -> Iterator[Path]:
    """The folder of work in progress, locked; only the same training is resumed.

    An error before the first checkpoint leaves nothing behind.
    """
    if kind_in(work) == _WORK and not resume:
        raise ResultError(
            f"{work} holds an unfinished training: resume it (resume=True, --resume) or remove it"
        )
    with open_run(work, _WORK, config, resume=resume, overwrite=False):
        try:
            yield work
        except (ImportError, ChiaroscuroError) as error:
            if work.is_dir() and not (work / CHECKPOINT).is_file():
                _remove(work)
            if isinstance(error, ImportError) and not isinstance(error, ChiaroscuroError):
                raise missing_extra("training", "lightning", "train") from error
            raise


def _remove(work: Path) -> None:
    """Remove the files of a training, and its folder unless somebody else's files are there."""
    for pattern in (CHECKPOINT, LOG, "*.pixels", "*.json", "*.new", ".chiaroscuro-lock"):
        for file in work.glob(pattern):
            file.unlink()
    if not any(work.iterdir()):
        work.rmdir()


@dataclass(frozen=True, eq=False)
class _Trained:
    network: Network
    store: PixelStore
    tests: PixelStore | None
    rows: list[EpochRow]


def _train(
    settings: TrainingSettings,
    images: ImageSet,
    tests: ImageSet | None,
    work: Path,
    device: str,
    watcher: Watcher,
) -> _Trained:
    from chiaroscuro.training.loop import run_epochs

    assert images.labels is not None
    network = build_network(settings, images.labels, _first_size(images))
    framing = network.classifier.framing

    def decoded(chosen: ImageSet, what: str) -> PixelStore:
        return store_pixels(
            chosen,
            framing,
            work / f"{chosen.split}.pixels",
            rgb_only=settings.rgb_only,
            on_image=lambda done, total: watcher.on_image(what, done, total),
        )

    store = decoded(images, "training images")
    test = decoded(tests, "test images") if tests else None
    if settings.freeze:
        assert network.body is not None
        network.body.requires_grad_(False)
    learner, forward, examples, checks = _learner(network, settings, store, test, watcher)
    rows = run_epochs(
        learner,
        forward,
        examples,
        checks,
        settings,
        work,
        device=device,
        on_batch=watcher.on_batch,
        on_epoch=watcher.on_epoch,
    )
    network.classifier.module.cpu().requires_grad_(True)
    return _Trained(network, store, test, rows)


def _learner(
    network: Network,
    settings: TrainingSettings,
    store: PixelStore,
    test: PixelStore | None,
    watcher: Watcher,
) -> tuple[nn.Module, Callable[[Tensor], Tensor], Any, Any]:
    """What learns, its forward pass, and its examples: all on pixels, or a head on features."""
    whole = network.classifier
    if not settings.cache_features:
        return whole.module, whole.logits, store, test
    head = whole.module.get_submodule("head")
    assert network.body is not None
    body = Classifier(network.body, mean=whole.mean, std=whole.std, framing=whole.framing)
    features = compute_features(body, store, lambda *n: watcher.on_image("features", *n))
    if test is None:
        return head, head, features, None
    tests = compute_features(body, test, lambda *n: watcher.on_image("test features", *n))
    return head, head, features, tests


def _training_images(settings: TrainingSettings, root: str | Path | None) -> ImageSet:
    """The images of the split named, else of the training split where there is one."""
    split = settings.split
    if split is None:
        try:
            split = load_images(settings.data, "train", root=root).split
        except ChoiceError:
            split = None
    images = load_images(settings.data, split, settings.limit, settings.seed, root)
    if images.labels is None:
        raise InputError(f"{settings.data}: its images have no classes to learn")
    return images


def _test_images(
    settings: TrainingSettings, images: ImageSet, root: str | Path | None
) -> ImageSet | None:
    """The test images: the split named, else the data set's own where it has one."""
    tests = load_images(settings.data, settings.test_split, root=root)
    if settings.test_split is None and tests.split == images.split:
        return None
    if tests.labels != images.labels:
        raise InputError(f"{settings.data}: {tests.split} has other classes than {images.split}")
    return replace(tests, limit=None)


def _first_size(images: ImageSet) -> tuple[int, int]:
    for batch in read_batches(images, Framing(), 1):
        if batch.pixels:
            return batch.pixels[0].shape[1], batch.pixels[0].shape[2]
    raise InputError(f"{images.source}: no image of {images.split} can be used")


def _curve(settings: TrainingSettings, rows: list[EpochRow]) -> TrainingCurve:
    """The log as a picture shows it, under the network's and the data's names."""
    return TrainingCurve(
        f"{settings.architecture} on {Path(settings.data).resolve().name}",
        [row.loss for row in rows],
        [row.train_accuracy for row in rows],
        [row.test_accuracy for row in rows if row.test_accuracy is not None],
    )


def _origin(settings: TrainingSettings, trained: _Trained, seconds: float) -> dict[str, Any]:
    """What results will say of these weights."""
    last, s = trained.rows[-1], "" if settings.epochs == 1 else "s"
    record = TrainingRecord(
        settings=settings,
        images=len(trained.store),
        test_images=len(trained.tests) if trained.tests else None,
        left_out=len(trained.store.left_out),
        loss=last.loss,
        train_accuracy=last.train_accuracy,
        test_accuracy=last.test_accuracy,
        seconds=seconds,
        versions=versions(),
    )
    return {
        "architecture": trained.network.architecture,
        "weights": f"trained on {settings.data} for {settings.epochs} epoch{s}, last epoch kept",
        "license": "that of the data, and of a pre-trained body where there is one",
        "training": to_plain(record)[0],
    }
