"""Photos to train on, and trainings that are interrupted."""

from pathlib import Path

import numpy as np
from PIL import Image

from chiaroscuro.training.files import Watcher

CLASSES = ("ant", "bee", "cat")
TINTS = ((200, 60, 60), (60, 200, 60), (60, 60, 200))
SIDE = 16


def picture(label: int, seed: int, side: int = SIDE) -> Image.Image:
    """Noise in the class's tint: easy to learn, and no two alike."""
    noise = np.random.default_rng((label, seed)).integers(-55, 56, (side, side, 3))
    return Image.fromarray((noise + TINTS[label]).astype(np.uint8))


def write_photos(place: Path) -> Path:
    """Class folders: 24 images to learn from, 12 to test on."""
    for split, first, count in (("train", 0, 8), ("test", 100, 4)):
        for label, name in enumerate(CLASSES):
            folder = place / split / name
            folder.mkdir(parents=True)
            for seed in range(first, first + count):
                picture(label, seed).save(folder / f"{seed}.png")
    return place


def entries(folder: Path) -> list[str]:
    """The names in a folder."""
    return sorted(entry.name for entry in folder.iterdir())


def stopped(where: str) -> Watcher:
    """A watcher that is interrupted in the second epoch, in a batch or as the epoch ends."""

    def on_batch(epoch, epochs, batch, batches):
        if where == "batch" and (epoch, batch) == (2, 2):
            raise KeyboardInterrupt

    def on_epoch(row):
        if where == "epoch" and row.epoch == 2:
            raise KeyboardInterrupt

    return Watcher(on_batch=on_batch, on_epoch=on_epoch)
