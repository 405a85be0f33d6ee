"""What a frozen body makes of every image, computed once."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from chiaroscuro.classifier import Classifier
from chiaroscuro.training.pixels import PixelStore

_BATCH = 64


@dataclass(frozen=True, eq=False)
class FeatureStore:
    """Features (N, D) of N images, with their classes (N,)."""

    features: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        return self.features[chosen], self.labels[chosen]


def store_features(
    body: Classifier, pixels: PixelStore, on_image: Callable[[int, int | None], object]
) -> FeatureStore:
    """The body's outputs in eval mode, for every image; (N, D) floats are held in memory."""
    parts = []
    with torch.no_grad():
        for chosen in torch.split(torch.arange(len(pixels)), _BATCH):
            parts.append(body(pixels[chosen][0]))
            on_image(int(chosen[-1]) + 1, len(pixels))
    return FeatureStore(torch.cat(parts), torch.from_numpy(pixels.labels))
