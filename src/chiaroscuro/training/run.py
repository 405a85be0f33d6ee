"""A training from images to a folder that `load_classifier` reads."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from chiaroscuro.choices import CHECKPOINT, TrainingSettings
from chiaroscuro.classifier import Classifier
from chiaroscuro.data import ImageSet, load_images
from chiaroscuro.errors import (
    ChiaroscuroError,
    ChoiceError,
    InputError,
    ResultError,
    missing_extra,
    unwritable,
)
from chiaroscuro.images import Framing
from chiaroscuro.models.folder import MODEL, write_classifier
from chiaroscuro.render.training import draw_training
from chiaroscuro.results import check_free, staged
from chiaroscuro.training import record
from chiaroscuro.training.log import LOG, EpochRow
from chiaroscuro.training.network import Network, build_network
from chiaroscuro.training.pixels import PixelStore, store_pixels

SETTINGS = "settings.json"


@dataclass(frozen=True)
class Watcher:
    """What is told while training goes on: images read, batches learned, epochs ended."""

    on_image: Callable[[str, int, int | None], object] = lambda what, done, total: None
    on_batch: Callable[[int, int, int, int], object] = lambda epoch, epochs, batch, batches: None
    on_epoch: Callable[[EpochRow], object] = lambda row: None


SILENT = Watcher()


def train(
    settings: TrainingSettings,
    out: str | Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "cpu",
    data_root: str | Path | None = None,
    watcher: Watcher = SILENT,
) -> Path:
    """Train a network and write it to the folder `out`, with its log and its curve.

    Work in progress lies in OUT.training beside it (checkpoint, log, decoded images) and is removed
    at the end. After an interruption `resume` goes on from the last whole epoch; the weights come
    out as if nothing had happened. The last epoch is kept, never the best on test images.
    `data_root`: see `load_images`.

    Raises `ChoiceError`, `InputError`, `ModelError`, `MissingExtraError` (extra `train`), or
    `ResultError` when `out` exists or holds a training of other settings.
    Source of the defaults: arXiv:2309.12913, section 4.
    """
    final = Path(out)
    check_free(final, MODEL, overwrite=overwrite)
    work = final.with_name(f"{final.name}.training")
    _open_work(work, settings, resume=resume)
    try:
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            started = time.perf_counter()
            network, store, test, rows = _train(settings, work, device, data_root, watcher)
        seconds = round(time.perf_counter() - started, 1)
    except (ImportError, ChiaroscuroError) as error:
        if not (work / CHECKPOINT).is_file():
            shutil.rmtree(work)
        if isinstance(error, ImportError):
            raise missing_extra("training", "lightning", "train") from error
        raise
    network.classifier.origin = record.origin(network, settings, store, test, rows, seconds)
    with staged(final, MODEL, overwrite=overwrite) as stage:
        shutil.copy(work / LOG, stage / LOG)
        draw_training(record.curve(settings, rows), stage / "curve.png")
        write_classifier(
            network.classifier,
            stage,
            architecture=network.architecture,
            arguments=network.arguments,
        )
    shutil.rmtree(work)
    return final


def _open_work(work: Path, settings: TrainingSettings, *, resume: bool) -> None:
    """The folder of work in progress; only a training of the same settings is gone on with."""
    file = work / SETTINGS
    text = json.dumps(asdict(settings), indent=2) + "\n"
    if work.exists():
        if not resume:
            raise ResultError(f"{work} holds an unfinished training: --resume it, or remove it")
        if not file.is_file() or file.read_text() != text:
            raise ResultError(f"{work} holds a training of other settings: remove it to begin anew")
        return
    try:
        work.mkdir(parents=True)
        file.write_text(text)
    except OSError as error:
        raise unwritable(work, error) from error


def _train(
    settings: TrainingSettings,
    work: Path,
    device: str,
    data_root: str | Path | None,
    watcher: Watcher,
) -> tuple[Network, PixelStore, PixelStore | None, list[EpochRow]]:
    from chiaroscuro.training.loop import run_epochs

    images = _training_images(settings, data_root)
    tests = _test_images(settings, images, data_root)
    labels = images.labels
    assert labels is not None
    network = build_network(settings, labels, _first_size(images))
    framing = network.classifier.framing
    store = _store(images, framing, work, settings, watcher, "training images")
    test = _store(tests, framing, work, settings, watcher, "test images") if tests else None
    if settings.freeze:
        assert network.body is not None
        network.body.requires_grad_(False)
    learner, ask, examples, checks = _learner(network, settings, store, test, watcher)
    rows = run_epochs(
        learner, ask, examples, checks, settings, work, device=device,
        on_batch=watcher.on_batch, on_epoch=watcher.on_epoch,
    )  # fmt: skip
    network.classifier.module.cpu().requires_grad_(True)
    return network, store, test, rows


def _learner(
    network: Network,
    settings: TrainingSettings,
    store: PixelStore,
    test: PixelStore | None,
    watcher: Watcher,
) -> tuple[nn.Module, Callable[[Tensor], Tensor], Any, Any]:
    """What learns, how it is asked, and its examples: all on pixels, or a head on features."""
    if not settings.cache_features:
        return network.classifier.module, network.classifier.logits, store, test
    from chiaroscuro.training.features import store_features

    head = network.classifier.module.get_submodule("head")
    assert network.body is not None
    whole = network.classifier
    body = Classifier(network.body, mean=whole.mean, std=whole.std, framing=whole.framing)
    train_features = store_features(body, store, lambda *n: watcher.on_image("features", *n))
    if test is None:
        return head, head, train_features, None
    test_features = store_features(body, test, lambda *n: watcher.on_image("test features", *n))
    return head, head, train_features, test_features


def _training_images(settings: TrainingSettings, root: str | Path | None) -> ImageSet:
    split = settings.split or _training_split(settings, root)
    images = load_images(**{**settings.source, "split": split}, root=root)
    if images.labels is None:
        raise InputError(f"{settings.data}: its images have no classes to learn")
    return images


def _training_split(settings: TrainingSettings, root: str | Path | None) -> str | None:
    """The training split where there is one; a source of one split is taken as it is."""
    try:
        return load_images(**{**settings.source, "split": "train", "limit": None}, root=root).split
    except ChoiceError:
        return None


def _test_images(
    settings: TrainingSettings, images: ImageSet, root: str | Path | None
) -> ImageSet | None:
    """The test images: the split named, else the data set's own where it has one."""
    chosen = {**settings.source, "split": settings.test_split, "limit": None}
    found = load_images(**chosen, root=root)
    if settings.test_split is None and found.split == images.split:
        return None
    if found.labels != images.labels:
        raise InputError(f"{settings.data}: {found.split} has other classes than {images.split}")
    return replace(found, limit=None)


def _first_size(images: ImageSet) -> tuple[int, int]:
    from chiaroscuro.data import read_batches

    for batch in read_batches(images, Framing(), 1):
        if batch.pixels:
            return batch.pixels[0].shape[1], batch.pixels[0].shape[2]
    raise InputError(f"{images.source}: no image of {images.split} can be used")


def _store(
    images: ImageSet,
    framing: Framing,
    work: Path,
    settings: TrainingSettings,
    watcher: Watcher,
    what: str,
) -> PixelStore:
    return store_pixels(
        images,
        framing,
        work / f"{images.split}.pixels",
        rgb_only=settings.rgb_only,
        on_image=lambda done, total: watcher.on_image(what, done, total),
    )
