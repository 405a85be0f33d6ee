"""A training from images to a folder that `load_classifier` reads."""

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from chiaroscuro import errors
from chiaroscuro.catalog import ARCHITECTURES, BASIC, LITE, versions
from chiaroscuro.choices import CHECKPOINT
from chiaroscuro.classifier import Classifier
from chiaroscuro.data.images import ImageSet, read_batches
from chiaroscuro.data.loading import load_images
from chiaroscuro.errors import ChiaroscuroError, ChoiceError, InputError, ResultError
from chiaroscuro.images import Framing
from chiaroscuro.models import folder, load_classifier
from chiaroscuro.report.training import write as write_page
from chiaroscuro.results import KINDS, check_free, kind_in, save, staged
from chiaroscuro.results.folders import BEGUN
from chiaroscuro.results.models import TrainingRecord
from chiaroscuro.results.runs import open_run
from chiaroscuro.results.store import to_plain
from chiaroscuro.settings import TrainingSettings, settings_from, takes
from chiaroscuro.training import files
from chiaroscuro.training.files import LOG, SILENT, Watcher

if TYPE_CHECKING:
    from chiaroscuro.training.probe import MapProbe

BODIES: Mapping[str, tuple[str, str]] = {
    "resnet18": ("torchvision:resnet18", "torchvision:resnet18/IMAGENET1K_V1"),
    "convnext-tiny": ("torchvision:convnext_tiny", "torchvision:convnext_tiny/IMAGENET1K_V1"),
    **{name: (f"timm:tf_{name.replace('-', '_')}", name) for name in LITE},
}
"""Short names: the architecture, and the spec of its pre-trained weights."""
PROBE, _PROBED = "probe", 12
"""The folder of a training's probe in that of its network, and the images that are looked at."""
_Sets = tuple[ImageSet, ImageSet | None]
"""Images to learn from, and to test on."""


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
    with the same weights; it may go on to more epochs than were asked for. The last epoch is kept,
    never the best on test images. `data_root`: see `load_images`.

    Raises `ChoiceError`, `InputError`, `ModelError`, `MissingExtraError` (extra `train`), or
    `ResultError` when `out` exists or OUT.training holds anything but this very training.
    Source of the defaults: arXiv:2309.12913, section 4.
    """
    chosen = settings_from(TrainingSettings, settings, {"data": data, **options})
    final = Path(out)
    check_free(final, folder.MODEL, overwrite=overwrite)
    images, tests = _image_sets(chosen, data_root)
    decisive = chosen.plain() | {"epochs": None}  # the way to an epoch is the same for any number
    config = _Config(decisive, images.fingerprint(), tests.fingerprint() if tests else None)
    with (
        _work_folder(final.with_name(f"{final.name}.training"), config, resume=resume) as work,
        torch.random.fork_rng(),
    ):
        if (learned := len(files.read_log(work / LOG))) > chosen.epochs:
            raise ChoiceError(f"epochs is {chosen.epochs}: {learned} are learned already")
        torch.manual_seed(chosen.seed)
        network, rows, record, probe = _train(chosen, (images, tests), work, device, watcher)
        with staged(final, folder.MODEL, overwrite=overwrite) as stage:
            shutil.copy(work / LOG, stage / LOG)
            tested = [row.test_accuracy for row in rows if row.test_accuracy is not None]
            curves = [row.loss for row in rows], [row.train_accuracy for row in rows]
            write_page(record, len(images.labels or ()), *curves, tested, stage)
            if probe is not None:
                save(probe.result(), stage / PROBE)
            network.classifier.origin = {
                "architecture": network.architecture,
                "weights": f"trained on {chosen.data}, epoch {chosen.epochs} kept",
                "license": "that of the data, and of a pre-trained body where there is one",
                "training": to_plain(record)[0],
            }
            folder.write_classifier(
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
    kind = KINDS["training"]
    if kind_in(work) == kind and not resume:
        raise ResultError(
            f"{work} holds an unfinished training: resume it (resume=True, --resume) or remove it"
        )
    with open_run(work, kind, config, resume=resume, overwrite=False):
        try:
            yield work
        except (ImportError, ChiaroscuroError) as error:
            if work.is_dir() and not (work / CHECKPOINT).is_file():
                _remove(work)
            if isinstance(error, ImportError) and not isinstance(error, ChiaroscuroError):
                raise errors.missing_extra("training", "lightning", "train") from error
            raise


def _remove(work: Path) -> None:
    """Remove the files of a training, and its folder unless somebody else's files are there."""
    for pattern in (CHECKPOINT, LOG, "*.pixels", "*.json", BEGUN, "*.new", ".chiaroscuro-lock"):
        for file in work.glob(pattern):
            file.unlink()
    for place in ((work / BEGUN).parent, work):
        if place.is_dir() and not any(place.iterdir()):
            place.rmdir()


def _train(
    settings: TrainingSettings, sets: _Sets, work: Path, device: str, watcher: Watcher
) -> tuple["Network", list[files.EpochRow], TrainingRecord, "MapProbe | None"]:
    from chiaroscuro.training.loop import Learner, run_epochs

    started, (images, tests) = time.perf_counter(), sets
    earlier = files.read_log(work / LOG)
    assert images.labels is not None
    network = build_network(settings, images.labels, _first_size(images))
    whole, body = network.classifier, network.body

    def decoded(chosen: ImageSet, what: str) -> files.PixelStore:
        file = work / f"{chosen.split}.pixels"
        tell = partial(watcher.on_image, what)
        return files.store_pixels(
            chosen, whole.framing, file, rgb_only=settings.rgb_only, on_image=tell
        )

    store = decoded(images, "training images")
    test = decoded(tests, "test images") if tests else None
    learner = Learner(whole.module, whole.logits, store, test)
    if settings.freeze:
        assert body is not None
        body.requires_grad_(False)
    if settings.cache_features:
        assert body is not None
        eyes = Classifier(body, mean=whole.mean, std=whole.std, framing=whole.framing)
        features = files.compute_features(eyes, store, partial(watcher.on_image, "features"))
        tell = partial(watcher.on_image, "test features")
        tested = files.compute_features(eyes, test, tell) if test else None
        head = whole.module.get_submodule("head")
        learner = Learner(head, head, features, tested)
    probe = None if settings.probe is None else _probe(settings, whole, test or store)
    seen = [] if probe is None else [probe]
    rows = run_epochs(learner, settings, work, device=device, watcher=watcher, callbacks=seen)
    whole.module.cpu().requires_grad_(True)
    last, spent = rows[-1], sum(row.seconds for row in rows if row in earlier)
    record = TrainingRecord(
        settings=settings,
        images=len(store),
        test_images=len(test) if test else None,
        left_out=store.left_out,
        loss=last.loss,
        train_accuracy=last.train_accuracy,
        test_accuracy=last.test_accuracy,
        seconds=round(spent + time.perf_counter() - started, 1),
        versions=versions(),
    )
    return network, rows, record, probe


def _probe(
    settings: TrainingSettings, classifier: Classifier, examples: files.PixelStore
) -> "MapProbe":
    """A probe of the first images of each class, as many of each, numbered as in their split."""
    from chiaroscuro.training.probe import MapProbe

    classes = sorted(set(examples.labels.tolist()))[:_PROBED]
    each = _PROBED // len(classes)
    chosen = torch.cat([(examples.labels == k).nonzero()[:each, 0] for k in classes])
    pixels, labels = examples[chosen]
    ids = [f"image {n}" for n in chosen.tolist()]
    how: dict[str, Any] = {"epochs": settings.probe, "seed": settings.seed}
    return MapProbe(classifier, pixels, labels.tolist(), ids=ids, **how)


def _image_sets(settings: TrainingSettings, root: str | Path | None) -> _Sets:
    """Images to learn from and to test on: the splits named, else the data set's own."""

    def of(split: str | None, limit: int | None = None) -> ImageSet:
        return load_images(**{**settings.source, "split": split, "limit": limit}, root=root)

    split = settings.split
    if split is None:
        with suppress(ChoiceError):  # where there is no training split, all images are
            split = of("train").split
    images, tests = of(split, settings.limit), of(settings.test_split)
    if images.labels is None:
        raise InputError(f"{settings.data}: its images have no classes to learn")
    if settings.test_split is None and tests.split == images.split:
        return images, None
    if tests.labels != images.labels:
        raise InputError(f"{settings.data}: {tests.split} has other classes than {images.split}")
    return images, tests


def _first_size(images: ImageSet) -> tuple[int, int]:
    for batch in read_batches(images, Framing(), 1):
        if batch.pixels:
            return batch.pixels[0].shape[1], batch.pixels[0].shape[2]
    raise InputError(f"{images.source}: no image of {images.split} can be used")


@dataclass(frozen=True, eq=False)
class Network:
    """A classifier to train, with how to build it again; `body`: all but a new last layer."""

    classifier: Classifier
    architecture: str
    arguments: Mapping[str, Any]
    body: nn.Module | None = None


def build_network(
    settings: TrainingSettings, labels: Sequence[str], image_size: tuple[int, int]
) -> Network:
    """The network of the settings, with fresh weights from the present random state.

    `image_size` of the first image decides where nothing else does: up to 64 pixels stay, others
    become 224 x 224.
    """
    size = image_size if max(image_size) <= 64 else (224, 224)
    body, mean, std, architecture = None, None, None, settings.architecture
    arguments: dict[str, Any] = {"classes": len(labels)}
    if architecture in BASIC:
        if settings.pretrained:
            raise ChoiceError(f"{architecture} has no pre-trained weights: leave --pretrained out")
        module, size = folder.build_architecture(architecture, arguments), settings.size or size
    else:
        name, weights = BODIES.get(architecture, (architecture, architecture))
        if not name.startswith(("timm:", "torchvision:")):
            raise errors.unknown(
                "architecture", name, [*ARCHITECTURES, "timm:NAME", "torchvision:NAME"]
            )
        if settings.pretrained or settings.normalize:
            loaded = load_classifier(weights)
            name, size = str(loaded.origin["architecture"]), loaded.size or size
        if settings.normalize:
            mean, std = loaded.mean, loaded.std
        body = loaded.module if settings.pretrained else folder.build_architecture(name, {})
        size = settings.size or size
        outputs = Classifier(body)(torch.zeros(1, 3, *size)).shape[1]
        module, architecture = folder.with_head(body, outputs, len(labels)), "new-head"
        arguments = {"body": name, "outputs": outputs, **arguments}
    classifier = Classifier(
        module.to(memory_format=torch.channels_last),
        mean=mean,
        std=std,
        framing=Framing(size=size, fit="stretch"),
        labels=labels,
        name=settings.architecture,
    )
    return Network(classifier, architecture, arguments, body)
