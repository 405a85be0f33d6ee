"""Gradients of every class, streamed: three images per photo come out, whatever K is."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from chiaroscuro.choices import SCORES, Rivals, Score, check_names, parse_rivals
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import InputError, ModelError
from chiaroscuro.gradients.captum.methods import (
    PIXELS_AT_ONCE,
    CaptumMethod,
    captum_extremes,
    read_method,
)
from chiaroscuro.gradients.classes import class_indices, resolve_target, rival_weights
from chiaroscuro.gradients.methods import Method, Points, resolve_points
from chiaroscuro.gradients.result import ClassGradients, GradientChoices, joined
from chiaroscuro.gradients.stream import Counter, Progress, Stream
from chiaroscuro.guard import as_found, gradients_on


def class_gradients(
    classifier: Classifier,
    pixels: Tensor,
    target: int | Sequence[int] | Tensor | None = None,
    rivals: Rivals = "all",
    method: str | Method | Points | Any = "gradient",
    score: Score = "logit",
    memory_budget: int | None = None,
    progress: Progress | None = None,
    *,
    argmax: bool = False,
) -> ClassGradients:
    """Gradients of the target's score and the extremes over its rivals', exact for any K.

    g_k = dS_k/dx at pixels x (B, C, H, W) in [0, 1]. `target`: None for the predicted class, an
    index, or one per image. `rivals`: see `parse_rivals`; top:N are by logit, per image, and a
    weighted mean makes `rival_max` and `rival_min` the same tensor.
    `score`: "logit", or "log-probability" (log softmax; log sigmoid for a multi-label head).
    `method`: a name of `choices.METHODS`, a `Method` with settings, explicit `Points`, or a Captum
    attribution whose model takes these pixels (those change the backward pass: one class at a time,
    logits only). `memory_budget`: bytes that may be used above the loaded model; Captum is given
    one image at a time then, and keeps no other promise. `argmax` asks for the classes at the
    extremes too; a weighted mean has none.

    The network is asked in eval mode and left as found, also on an error; gradients work inside
    the caller's `no_grad` and `inference_mode`. Results have the pixels' dtype and device and do
    not depend on how classes and images are batched, beyond rounding.

    Raises `ImageError`, `ChoiceError`, `InputError` (no rival left) or `ModelError`.
    Source: arXiv:2309.12913, section 3; streaming extremes are this project's.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5))
    >>> found = class_gradients(Classifier(net), torch.rand(2, 3, 2, 2))
    >>> found.target_gradient.shape, found.logits.shape
    (torch.Size([2, 3, 2, 2]), torch.Size([2, 5]))
    """
    if not isinstance(classifier, Classifier):
        raise ModelError(
            f"classifier is a {type(classifier).__name__}: expected a Classifier, such as "
            "Classifier(module, mean=..., std=...)"
        )
    rule = parse_rivals(rivals).resolve(classifier.class_index)
    check_names("score", [score], SCORES)
    classifier.check_pixels(pixels)
    if argmax and rule.is_weighted:
        raise InputError(
            f"no single rival holds the extreme of a weighted mean (rivals {rule}): "
            "map 'winner' and argmax need rivals that compete one by one"
        )
    chosen = read_method(method, score)
    name = chosen.name if isinstance(chosen, Method | CaptumMethod) else "points"
    settings = chosen.describe() if isinstance(chosen, Method | CaptumMethod) else {}
    choices = GradientChoices(rule, name, score, settings)
    pixels = pixels.detach().clone()
    alone = isinstance(chosen, CaptumMethod)  # Captum changes the module while it runs
    with gradients_on(), as_found(classifier.module, alone=alone):
        if isinstance(chosen, CaptumMethod):
            size = 1 if memory_budget else max(1, PIXELS_AT_ONCE // pixels[0, 0].numel())
            parts = torch.split(pixels, size)
            return _by_captum(classifier, parts, target, chosen, choices, progress, argmax=argmax)
        stream = Stream(classifier, pixels, score, memory_budget, argmax)
        return stream.run(target, rule, resolve_points(chosen, pixels), choices, progress)


def _by_captum(
    classifier: Classifier,
    parts: Sequence[Tensor],
    target: int | Sequence[int] | Tensor | None,
    method: CaptumMethod,
    choices: GradientChoices,
    progress: Progress | None,
    *,
    argmax: bool,
) -> ClassGradients:
    """The same three images from a method that runs one class at a time."""
    rule = choices.rivals
    with torch.no_grad():
        logits = torch.cat([classifier.logits(part) for part in parts])
    chosen = resolve_target(target, logits, multi_label=classifier.multi_label)
    indices = class_indices(rule, logits, chosen)
    size = len(parts[0])
    weights = torch.split(rival_weights(rule, logits, chosen), size) if rule.is_weighted else None
    count = Counter(indices.numel(), progress)
    groups = [
        captum_extremes(
            classifier, part, method, mine, None if weights is None else weights[i], count.add,
            argmax=argmax,
        )
        for i, (part, mine) in enumerate(zip(parts, torch.split(indices, size), strict=True))
    ]  # fmt: skip
    return joined(logits, chosen, indices, groups, parts[0].shape[1:], choices)
