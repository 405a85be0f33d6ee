"""Our maps in pytorch-grad-cam's form, and under its ROAD score."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chiaroscuro.adapters.grad_cam_targets import read_targets
from chiaroscuro.adapters.network import PixelNetwork
from chiaroscuro.adapters.peers import need
from chiaroscuro.adapters.question import Rivals, make_question
from chiaroscuro.choices import MAPS, Score
from chiaroscuro.classifier import Classifier
from chiaroscuro.edits import pixel_order, pixel_rank, tie_priority
from chiaroscuro.errors import ChoiceError, InputError
from chiaroscuro.gradients import Method
from chiaroscuro.maps import scale

Targets = Sequence[Callable[[Tensor], Any]] | Sequence[int] | Tensor | int | None

ROAD_PERCENTILES = (10, 20, 30, 40, 50, 60, 70, 80, 90)
"""The percentiles that pytorch-grad-cam's own averages run through."""


def grad_cam_maps(
    classifier: Classifier,
    pixels: Tensor,
    targets: Targets = None,
    map: str = "active",
    *,
    rivals: Rivals = "all",
    method: str | Method = "gradient",
    score: Score = "logit",
    memory_budget: int | None = None,
) -> NDArray[Any]:
    """One of our maps as pytorch-grad-cam's calls give and take them: NumPy (B, H, W).

    Scaled per image as `saliency_maps(..., normalize="minmax")` does: to [0, 1], or for signed maps
    to [-1, 1], which `show_cam_on_image` cannot draw. `targets`: its callables, as
    `grad_cam_targets` reads them, or any target of `class_gradients`.

    Raises `MissingExtraError` without pytorch-grad-cam, `ChoiceError` for a map that holds classes
    and for callables that pick no class.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5))
    >>> grad_cam_maps(Classifier(net), torch.rand(2, 3, 2, 2), [lambda row: row[4]] * 2).shape
    (2, 2, 2)
    """
    question = make_question(map, rivals, method, score, memory_budget)
    need("grad_cam_maps", "pytorch_grad_cam", "grad-cam")
    target = read_targets(classifier, pixels, targets)
    values = question.values(classifier, pixels, target)
    found: NDArray[Any] = scale(values, MAPS[map].kind).cpu().numpy()
    return found


def road_scores(
    classifier: Classifier,
    pixels: Tensor,
    maps: Mapping[str, Tensor],
    targets: Targets = None,
    percentiles: Sequence[float] = ROAD_PERCENTILES,
    *,
    seed: int = 0,
) -> dict[str, Tensor]:
    """pytorch-grad-cam's `ROADCombined` of each map (B, H, W): scores (B,), higher is better.

    Half the difference between the class's logit after the least and after the most relevant pixels
    gave way to a noisy blend of their neighbors, averaged over the percentiles. It gets the maps'
    *ranks*, ties in a random order drawn from `seed`: handed a sparse map as it is, a percentile
    among its zeros takes every pixel away. Its own noise is drawn from `seed` too, and the global
    random state comes back.

    Raises `MissingExtraError` without pytorch-grad-cam; `InputError` for maps that do not fit the
    pixels; `ChoiceError` for callables that pick no class.
    """
    need("road_scores", "pytorch_grad_cam", "grad-cam")
    from pytorch_grad_cam.metrics.road import ROADCombined
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    network = PixelNetwork(classifier)
    with torch.no_grad():
        logits = network(pixels)
    chosen = _chosen(classifier, logits, read_targets(classifier, pixels, targets))
    asked = [ClassifierOutputTarget(k) for k in chosen]
    measure = ROADCombined(percentiles=list(percentiles))

    def ask(images: Tensor) -> Tensor:  # ROAD fills in float32 and takes no other pixels
        answer: Tensor = network(images.to(pixels.dtype))
        return answer.float()

    scores = {}
    for name, values in maps.items():
        ranks = _ranks(name, values, pixels, seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            scores[name] = torch.from_numpy(measure(pixels.float(), ranks, asked, ask))
    return scores


def _chosen(classifier: Classifier, logits: Tensor, target: Any) -> list[int]:
    """The class of each image, checked."""
    images, classes = logits.shape
    if target is None and classifier.multi_label:
        raise ChoiceError("a multi-label classifier has no predicted class: give targets")
    chosen = logits.argmax(dim=1) if target is None else torch.as_tensor(target)
    listed: list[int] = chosen.expand(images).tolist() if chosen.ndim == 0 else chosen.tolist()
    if len(listed) != images:
        raise ChoiceError(f"{len(listed)} targets came for {images} images: give one each")
    outside = [k for k in listed if not 0 <= k < classes]
    if outside:
        raise ChoiceError(f"target {outside[0]} is out of range: expected 0..{classes - 1}")
    return listed


def _ranks(name: str, values: Tensor, pixels: Tensor, seed: int) -> NDArray[np.float64]:
    """Each pixel's place from the lowest (0) to the highest (1) of its image's map, (B, H, W)."""
    expected = (len(pixels), *pixels.shape[2:])
    if values.shape != expected:
        raise InputError(
            f"map {name!r} has shape {tuple(values.shape)}: expected (B, H, W) = {expected} "
            "as the pixels"
        )
    places = pixel_rank(pixel_order(values.detach(), tie_priority(pixels, seed)))
    last = places.shape[1] - 1
    ranks: NDArray[np.float64] = ((last - places).double() / last).cpu().numpy()
    return ranks.reshape(expected)
