"""Pictures to explain, and a network that fails."""

import dataclasses

import numpy as np
from PIL import Image
from torch import nn

from chiaroscuro import Explanation
from chiaroscuro.explanations import PhotoJob
from chiaroscuro.images import photo_folders


def picture(width=12, height=12, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def array(seed=0, channels=3):
    return np.random.default_rng(seed).random((12, 12, channels))


def plan_photos(paths, options=None):
    """A job for each photo, as the command line plans them."""
    return [PhotoJob(path, f, dict(options or {})) for path, f in photo_folders(paths).items()]


def snapshot(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def resaved(folder, **parts):
    """Save an explanation once more with other fields."""
    dataclasses.replace(Explanation.load(folder), **parts).save(folder, overwrite=True)


class Broken(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(432, 3))

    def forward(self, x):
        return self.net(x) * self.factor
