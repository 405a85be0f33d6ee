"""Images of a set at the network's size, decoded once into a file that epochs read from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chiaroscuro.data import ImageSet, LeftOut, read_batches
from chiaroscuro.errors import InputError
from chiaroscuro.images import Framing, to_uint8

_BATCH = 256


@dataclass(frozen=True, eq=False)
class PixelStore:
    """N images as 8-bit values (N, H, W, C) in a mapped file, with their classes (N,)."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    broken: tuple[LeftOut, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """The chosen images as pixels (B, C, H, W) in [0, 1], channels last, and their classes."""
        block = torch.from_numpy(self.pixels[chosen.numpy()])
        pixels = block.permute(0, 3, 1, 2).float().div_(255)
        return pixels, torch.from_numpy(self.labels[chosen.numpy()])


def store_pixels(
    images: ImageSet,
    framing: Framing,
    file: Path,
    *,
    rgb_only: bool,
    on_image: Callable[[int, int | None], object],
) -> PixelStore:
    """Decode a set into `file`, which grows with the set; memory does not.

    Images without a class are refused, broken ones are counted and left out. Pixels are rounded to
    8 bits. Raises `InputError` when no image is left.
    """
    assert framing.size is not None
    labels: list[int] = []
    broken: list[LeftOut] = []
    with file.open("wb") as target:
        for batch in read_batches(images, framing, _BATCH, rgb_only=rgb_only):
            for id_, pixels, label in zip(batch.ids, batch.pixels, batch.labels, strict=True):
                if label is None:
                    raise InputError(f"{images.source}: image {id_} has no class to learn")
                target.write(to_uint8(pixels).tobytes())
                labels.append(label)
            broken += batch.left_out
            on_image(len(labels) + len(broken), images.count)
    if not labels:
        raise InputError(f"{images.source}: no image of {images.split} can be used")
    shape = (len(labels), *framing.size, 3)
    mapped = np.memmap(file, np.uint8, "r", shape=shape)
    return PixelStore(mapped, np.array(labels), tuple(broken))
