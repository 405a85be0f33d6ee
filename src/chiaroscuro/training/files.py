"""A training's files: images decoded once, features of a frozen body, and the log of epochs."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import TensorDataset

from chiaroscuro.classifier import Classifier
from chiaroscuro.data.images import ImageSet, read_batches
from chiaroscuro.errors import InputError
from chiaroscuro.images import Framing, to_uint8
from chiaroscuro.results.facts import LeftOut
from chiaroscuro.results.folders import write_file

LOG = "log.csv"


@dataclass(frozen=True, slots=True)
class EpochRow:
    """One epoch: mean loss and accuracy while learning, and accuracy on the test images after."""

    epoch: int
    loss: float
    train_accuracy: float
    test_accuracy: float | None
    seconds: float


@dataclass(frozen=True)
class Watcher:
    """What is called during a training: images read, batches learned, epochs ended."""

    on_image: Callable[[str, int, int | None], object] = lambda what, done, total: None
    on_batch: Callable[[int, int, int, int], object] = lambda epoch, epochs, batch, batches: None
    on_epoch: Callable[[EpochRow], object] = lambda row: None


SILENT = Watcher()


def write_log(file: Path, rows: Sequence[EpochRow]) -> None:
    """Write all rows; a reader never sees half a log."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(EpochRow)])
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    write_file(file, text.getvalue().encode())


def read_log(file: Path) -> list[EpochRow]:
    """The rows of a log; none where there is no log."""
    if not file.is_file():
        return []
    with file.open(newline="") as source:
        rows = [{n: cell or None for n, cell in row.items()} for row in csv.DictReader(source)]
    return msgspec.convert(rows, list[EpochRow], strict=False)


OnImage = Callable[[int, int | None], object]
"""Called with (images done, images in all or None)."""


@dataclass(frozen=True, eq=False)
class PixelStore:
    """N images as 8-bit values (N, H, W, C) in a mapped file, with their classes (N,)."""

    pixels: NDArray[np.uint8]
    labels: Tensor
    left_out: int

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """The chosen images as pixels (B, C, H, W) in [0, 1], channels last, and their classes."""
        block = torch.from_numpy(self.pixels[chosen.numpy()])
        return block.permute(0, 3, 1, 2).float().div_(255), self.labels[chosen]


Examples = PixelStore | TensorDataset
"""Inputs and classes by a tensor of indices."""


@dataclass(frozen=True, slots=True)
class _Receipt:
    """What is written once a file of pixels is whole."""

    labels: tuple[int, ...]
    left_out: tuple[LeftOut, ...]


def store_pixels(
    images: ImageSet, framing: Framing, file: Path, *, rgb_only: bool, on_image: OnImage
) -> PixelStore:
    """Decode a set into `file`, unless that is whole; images that cannot be read are left out."""
    assert framing.size is not None
    shape = (*framing.size, 3)
    try:
        receipt = msgspec.json.decode(file.with_suffix(".json").read_bytes(), type=_Receipt)
        is_whole = file.stat().st_size == int(np.prod(shape)) * len(receipt.labels)
    except (OSError, msgspec.MsgspecError):
        is_whole = False
    if not is_whole:
        receipt = _decode(images, framing, file, rgb_only, on_image)
        write_file(file.with_suffix(".json"), msgspec.json.encode(receipt))
    if not receipt.labels:
        raise InputError(f"{images.source}: no image of {images.split} can be used")
    mapped = np.memmap(file, np.uint8, "r", shape=(len(receipt.labels), *shape))
    return PixelStore(mapped, torch.tensor(receipt.labels), len(receipt.left_out))


def _decode(
    images: ImageSet, framing: Framing, file: Path, rgb_only: bool, on_image: OnImage
) -> _Receipt:
    labels: list[int] = []
    left_out: list[LeftOut] = []
    with file.open("wb") as target:
        for batch in read_batches(images, framing, 256, rgb_only=rgb_only):
            for id_, pixels, label in zip(batch.ids, batch.pixels, batch.labels, strict=True):
                if label is None:
                    raise InputError(f"{images.source}: image {id_} has no class to learn")
                target.write(to_uint8(pixels).tobytes())
                labels.append(label)
            left_out += batch.left_out
            on_image(len(labels) + len(left_out), images.count)
    return _Receipt(tuple(labels), tuple(left_out))


def compute_features(body: Classifier, pixels: PixelStore, on_image: OnImage) -> TensorDataset:
    """The body's outputs (N, D) in eval mode, and the classes (N,); all held in memory."""
    parts = []
    with torch.no_grad():
        for chosen in torch.split(torch.arange(len(pixels)), 64):
            parts.append(body(pixels[chosen][0]))
            on_image(int(chosen[-1]) + 1, len(pixels))
    return TensorDataset(torch.cat(parts), pixels.labels)
