"""The target class's gradient alone, averaged over explicit points."""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from chiaroscuro.choices import OwnScore
from chiaroscuro.classifier import Classifier
from chiaroscuro.device import device_profile
from chiaroscuro.errors import ChoiceError, ImageError, ModelError, first_line, unknown
from chiaroscuro.gradients.classes import Indices, Target, resolve_target, target_indices
from chiaroscuro.gradients.graph import ForwardWatch
from chiaroscuro.gradients.methods import Points
from chiaroscuro.gradients.probe import (
    check_repeats,
    prepared,
    saved_bytes,
    steady_logits,
    without_gradient,
)
from chiaroscuro.gradients.reducers import not_finite

_BACKWARD_SHARE = 1.6
"""Peak of a backward pass over the bytes saved by its forward."""


def target_gradients(
    classifier: Classifier,
    points: Points,
    target: Target,
    score: OwnScore = "log-probability",
    memory_budget: int | None = None,
) -> Tensor:
    """The weighted sum over points of dS_c/dx, c the target: (B, C, H, W).

    sum_p weights[p, b] * dS_c/dx at pixels[p, b] (times the points' factor, if they have one), per
    unit of pixel value: one forward and one backward pass for every batch of points, whatever K is.
    `target`: a class (index or name), or one per image.
    `score`: "logit"; "log-probability" (log softmax, log sigmoid for a multi-label head); or
    "log-odds", log p_c - log(1 - p_c), which does not fade where the class is certain.
    `memory_budget`: bytes that may be used above the model and the points.

    The network runs in eval mode and left as found, also on an error. Raises `ChoiceError`,
    `ImageError` for points that are no floats, or `ModelError`.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5))
    >>> pixels = torch.rand(4, 2, 3, 2, 2)
    >>> points = Points(pixels, torch.full((4, 2), 1 / 4))
    >>> target_gradients(Classifier(net), points, target=3).shape
    torch.Size([2, 3, 2, 2])
    """
    if score not in COTANGENTS:
        raise unknown("score", score, COTANGENTS)
    if memory_budget is not None and memory_budget <= 0:
        raise ChoiceError(f"memory_budget is {memory_budget}: expected bytes above 0, or None")
    if not points.pixels.is_floating_point() or not len(points) or not points.pixels[0].numel():
        raise ImageError(
            f"points are {points.pixels.dtype} of shape {tuple(points.pixels.shape)}: expected "
            "floats and at least one point of one image"
        )
    indices = target_indices(target, classifier)
    with prepared(classifier):
        return _averaged(classifier, points, indices, score, memory_budget)


def _averaged(
    classifier: Classifier,
    points: Points,
    target: Indices,
    score: str,
    memory_budget: int | None,
) -> Tensor:
    images = points.pixels.shape[1]
    rows = points.pixels.detach().clone().flatten(0, 1)
    weights = points.weights.detach().to(rows.dtype).flatten()
    image = torch.arange(images, device=rows.device).repeat(len(points))
    # One row alone tells the bytes that a row costs; where it is all there is, it is the answer.
    with saved_bytes(classifier) as sizes:
        leaf, logits = _forward(classifier, rows[:1])
    alone, multi_label = logits.detach(), classifier.multi_label
    classes = resolve_target(target, alone.expand(images, -1), multi_label=multi_label)
    size = _rows_at_once(max(1, sum(sizes.values())), len(rows), memory_budget)
    total = torch.zeros_like(points.pixels[0])
    for start in range(0, len(rows), size):
        span = slice(start, start + size)
        if len(rows) > 1:
            del leaf, logits  # before the next graph is there
            leaf, logits = _forward(classifier, rows[span])
        if start == 0:
            check_repeats(alone[0], logits[0], classifier)
        gradients = _gradients(classifier, leaf, logits, classes[image[span]], score)
        total.index_add_(0, image[span], gradients * weights[span, None, None, None])
    return total if points.factor is None else total * points.factor


def _rows_at_once(row_bytes: int, rows: int, memory_budget: int | None) -> int:
    usual = device_profile().graph_bytes
    kept = usual if memory_budget is None else memory_budget / _BACKWARD_SHARE
    most = max(1, min(rows, int(kept // row_bytes)))
    return math.ceil(rows / math.ceil(rows / most))


def _forward(classifier: Classifier, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows that carry gradients, and their logits."""
    leaf = rows.contiguous().requires_grad_(True)
    with ForwardWatch(classifier.module):
        logits = steady_logits(classifier, leaf)
    if not logits.requires_grad:
        raise without_gradient(classifier)
    return leaf, logits


def _gradients(
    classifier: Classifier, leaf: Tensor, logits: Tensor, classes: Tensor, score: str
) -> Tensor:
    """dS_c/dx of every row: (R, C, H, W)."""
    name = classifier.name
    cotangent = COTANGENTS[score](logits.detach(), classes[:, None], classifier.multi_label)
    try:
        (gradients,) = torch.autograd.grad(logits, leaf, cotangent)
    except RuntimeError as error:
        raise ModelError(f"the backward pass of {name} failed: {first_line(error)}") from error
    if not bool(gradients.isfinite().all()):
        raise not_finite(name)
    return gradients


def _one_hot(logits: Tensor, index: Tensor) -> Tensor:
    return torch.zeros_like(logits).scatter_(1, index, 1)


def _logit(logits: Tensor, index: Tensor, _: bool) -> Tensor:
    return _one_hot(logits, index)


def _log_probability(logits: Tensor, index: Tensor, multi_label: bool) -> Tensor:
    own = _one_hot(logits, index)
    return own * (1 - logits.sigmoid()) if multi_label else own - logits.softmax(dim=1)


def _log_odds(logits: Tensor, index: Tensor, multi_label: bool) -> Tensor:
    own = _one_hot(logits, index)
    return own if multi_label else own - logits.masked_fill(own > 0, -torch.inf).softmax(dim=1)


COTANGENTS: Mapping[str, Callable[[Tensor, Tensor, bool], Tensor]] = {
    "logit": _logit,
    "log-probability": _log_probability,
    "log-odds": _log_odds,
}
"""d(score)/d(logits) by score: logits (R, K), classes (R, 1), multi-label, to (R, K)."""
