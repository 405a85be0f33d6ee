"""How noisy a map is: numbers for the paper's third claim."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chiaroscuro.choices import PAPER_MAPS
from chiaroscuro.classifier import Classifier
from chiaroscuro.data import ImageSet, read_batches
from chiaroscuro.gradients import class_gradients
from chiaroscuro.maps import saliency_maps
from chiaroscuro.metrics.intervals import BootstrapMeans

MEASURES = ("gini", "neighbors")


def gini(values: Tensor) -> Tensor:
    """How unequally each map's mass lies on its pixels (B,): 0 on all alike, near 1 on one.

    >>> gini(torch.tensor([[[1.0, 1.0]], [[0.0, 1.0]]])).tolist()
    [0.0, 0.5]
    """
    rising = values.double().flatten(1).sort(dim=1).values
    count = rising.shape[1]
    places = torch.arange(1, count + 1, dtype=torch.float64, device=values.device)
    total = rising.sum(dim=1)
    weighted = (rising * places).sum(dim=1)
    found = (2 * weighted / (count * total.clamp(min=torch.finfo(torch.float64).tiny))) - (
        count + 1
    ) / count
    return torch.where(total > 0, found, torch.zeros_like(total))


def neighbors(values: Tensor) -> Tensor:
    """Correlation of each map with itself one pixel to the right and one below (B,): 0 is noise.

    >>> ramp = torch.arange(4.0).expand(1, 4, 4)
    >>> round(float(neighbors(ramp)), 2)
    0.88
    """
    found = values.double()
    pairs = (
        torch.cat([found[:, :, :-1].flatten(1), found[:, :-1].flatten(1)], dim=1),
        torch.cat([found[:, :, 1:].flatten(1), found[:, 1:].flatten(1)], dim=1),
    )
    first, second = (side - side.mean(dim=1, keepdim=True) for side in pairs)
    size = (first.square().sum(dim=1) * second.square().sum(dim=1)).sqrt()
    together = (first * second).sum(dim=1)
    return torch.where(size > 0, together / size.clamp(min=1e-300), torch.zeros_like(size))


def measure_sharpness(
    classifier: Classifier, images: ImageSet, *, rgb_only: bool, resamples: int, seed: int
) -> Mapping[str, Mapping[str, tuple[float, float, float]]]:
    """Mean of each measure by map, with its 95 % interval over images: {measure: {map: ...}}."""
    means = BootstrapMeans(len(MEASURES) * len(PAPER_MAPS), resamples, seed)
    for batch in read_batches(images, classifier.framing, 16, rgb_only=rgb_only):
        if batch.pixels:
            pixels = torch.from_numpy(np.stack(batch.pixels))
            maps = saliency_maps(class_gradients(classifier, pixels), PAPER_MAPS)
            means.add(_rows(maps))
    found = means.interval()
    return {
        measure: {
            name: tuple(
                round(float(ends[m * len(PAPER_MAPS) + n]), 12)
                for ends in (found.value, found.low, found.high)
            )  # type: ignore[misc]  # always three
            for n, name in enumerate(PAPER_MAPS)
        }
        for m, measure in enumerate(MEASURES)
    }


def _rows(maps: Mapping[str, Tensor]) -> NDArray[np.float64]:
    columns = [call(maps[name]) for call in (gini, neighbors) for name in PAPER_MAPS]
    return torch.stack(columns, dim=1).cpu().numpy()
