"""Images decoded once into a file that epochs read from, and a frozen body's features of them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chiaroscuro.classifier import Classifier
from chiaroscuro.data import ImageSet, read_batches
from chiaroscuro.errors import InputError
from chiaroscuro.images import Framing, to_uint8
from chiaroscuro.results.facts import LeftOut
from chiaroscuro.results.folders import write_file

_BATCH = 256
_FEATURES_BATCH = 64

OnImage = Callable[[int, int | None], object]
"""Called with (images done, images in all or None)."""


@dataclass(frozen=True, eq=False)
class PixelStore:
    """N images as 8-bit values (N, H, W, C) in a mapped file, with their classes (N,)."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    left_out: tuple[LeftOut, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """The chosen images as pixels (B, C, H, W) in [0, 1], channels last, and their classes."""
        block = torch.from_numpy(self.pixels[chosen.numpy()])
        pixels = block.permute(0, 3, 1, 2).float().div_(255)
        return pixels, torch.from_numpy(self.labels[chosen.numpy()])


@dataclass(frozen=True, slots=True)
class _Receipt:
    """What is written once a file of pixels is whole."""

    labels: tuple[int, ...]
    left_out: tuple[LeftOut, ...]


def store_pixels(
    images: ImageSet, framing: Framing, file: Path, *, rgb_only: bool, on_image: OnImage
) -> PixelStore:
    """Decode a set into `file`, which grows with the set; memory does not.

    A file that is whole is used as it is. Images without a class are refused, those that cannot be
    read are counted and left out. Pixels are rounded to 8 bits. Raises `InputError` when no image
    is left.
    """
    assert framing.size is not None
    shape = (*framing.size, 3)
    receipt = _read_receipt(file, int(np.prod(shape)))
    if receipt is None:
        receipt = _decode(images, framing, file, rgb_only, on_image)
        write_file(file.with_suffix(".json"), msgspec.json.encode(receipt))
    if not receipt.labels:
        raise InputError(f"{images.source}: no image of {images.split} can be used")
    mapped = np.memmap(file, np.uint8, "r", shape=(len(receipt.labels), *shape))
    return PixelStore(mapped, np.array(receipt.labels), receipt.left_out)


def _decode(
    images: ImageSet, framing: Framing, file: Path, rgb_only: bool, on_image: OnImage
) -> _Receipt:
    labels: list[int] = []
    left_out: list[LeftOut] = []
    with file.open("wb") as target:
        for batch in read_batches(images, framing, _BATCH, rgb_only=rgb_only):
            for id_, pixels, label in zip(batch.ids, batch.pixels, batch.labels, strict=True):
                if label is None:
                    raise InputError(f"{images.source}: image {id_} has no class to learn")
                target.write(to_uint8(pixels).tobytes())
                labels.append(label)
            left_out += batch.left_out
            on_image(len(labels) + len(left_out), images.count)
    return _Receipt(tuple(labels), tuple(left_out))


def _read_receipt(file: Path, size: int) -> _Receipt | None:
    """The receipt of a file that holds images of `size` bytes; None where it is not whole."""
    try:
        receipt = msgspec.json.decode(file.with_suffix(".json").read_bytes(), type=_Receipt)
        return receipt if file.stat().st_size == size * len(receipt.labels) else None
    except (OSError, msgspec.MsgspecError):
        return None


@dataclass(frozen=True, eq=False)
class FeatureStore:
    """Features (N, D) of N images, with their classes (N,)."""

    features: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        return self.features[chosen], self.labels[chosen]


def compute_features(body: Classifier, pixels: PixelStore, on_image: OnImage) -> FeatureStore:
    """The body's outputs in eval mode, for every image; (N, D) floats are held in memory."""
    parts = []
    with torch.no_grad():
        for chosen in torch.split(torch.arange(len(pixels)), _FEATURES_BATCH):
            parts.append(body(pixels[chosen][0]))
            on_image(int(chosen[-1]) + 1, len(pixels))
    return FeatureStore(torch.cat(parts), torch.from_numpy(pixels.labels))
