"""Gradients of every class, streamed: three images per photo come out, whatever K is."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, overload

import torch
from torch import Tensor

from chiaroscuro.choices import SCORES, Rivals, Score, check_names, parse_rivals
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ChoiceError, InputError, ModelError
from chiaroscuro.gradients import captum, reducers
from chiaroscuro.gradients.captum import CaptumMethod, read_method
from chiaroscuro.gradients.classes import (
    Indices,
    Target,
    class_indices,
    make_request,
    resolve_target,
    rival_weights,
    target_indices,
)
from chiaroscuro.gradients.methods import Method, Points
from chiaroscuro.gradients.probe import prepared
from chiaroscuro.gradients.reducers import ClassGradients, Extremes, Kept, Reducer, WholeImages
from chiaroscuro.gradients.stream import Counter, Progress, Stream


@overload
def class_gradients(
    classifier: Classifier,
    pixels: Tensor,
    target: Target = None,
    rivals: Rivals = "all",
    method: str | Method | Points | Any = "gradient",
    score: Score = "logit",
    memory_budget: int | None = None,
    progress: Progress | None = None,
    *,
    argmax: bool = False,
    classes: None = None,
) -> ClassGradients: ...
@overload
def class_gradients(
    classifier: Classifier,
    pixels: Tensor,
    target: None = None,
    rivals: Rivals = "all",
    method: str | Method | Points | Any = "gradient",
    score: Score = "logit",
    memory_budget: int | None = None,
    progress: Progress | None = None,
    *,
    argmax: bool = False,
    classes: Sequence[int | str],
) -> tuple[ClassGradients, ...]: ...
def class_gradients(
    classifier: Classifier,
    pixels: Tensor,
    target: Target = None,
    rivals: Rivals = "all",
    method: str | Method | Points | Any = "gradient",
    score: Score = "logit",
    memory_budget: int | None = None,
    progress: Progress | None = None,
    *,
    argmax: bool = False,
    classes: Sequence[int | str] | None = None,
) -> ClassGradients | tuple[ClassGradients, ...]:
    """Gradients of the target's score and the extremes over its rivals', exact for any K.

    g_k = dS_k/dx at pixels x (B, C, H, W) in [0, 1]. `target`: None for the predicted class, a
    class, or one per image; classes by index or name. `classes`: several targets of every image
    instead, each with its own rivals; one result each, from one pass (Captum's methods run once
    per target). `rivals`: "all", "top:N" (by logit, per image), "runner-up", or classes; "mean",
    "softmax" or weights by class make them one weighted mean, and `rival_max` and `rival_min` the
    same tensor. `score`: "logit", or "log-probability" (log softmax; log sigmoid for a multi-label
    head). `method`: a name of `choices.METHODS`, a `Method` with settings, explicit `Points`, or a
    Captum attribution whose model takes these pixels (those change the backward pass: one class at
    a time, logits only). `memory_budget`: bytes that may be used above the loaded model; a small
    one runs fewer classes at a time, down to a plain loop's memory. Captum is given one image at a
    time then, and keeps no other promise. `argmax` requests the classes at the extremes too; a
    weighted mean has none.

    The network runs in eval mode and is left as found, also on an error; gradients work inside
    the caller's `no_grad` and `inference_mode`. Results have the pixels' dtype and device and do
    not depend on how classes and images are batched, beyond rounding.

    Raises `ImageError`, `ChoiceError`, `InputError` (no rival left) or `ModelError`.
    Source: arXiv:2309.12913, section 3; streaming extremes are this project's.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5))
    >>> classifier, pixels = Classifier(net), torch.rand(2, 3, 2, 2)
    >>> gradients = class_gradients(classifier, pixels)
    >>> gradients.target_gradient.shape, gradients.logits.shape
    (torch.Size([2, 3, 2, 2]), torch.Size([2, 5]))
    >>> [int(each.target[0]) for each in class_gradients(classifier, pixels, classes=[3, 0])]
    [3, 0]
    """
    _check_classifier(classifier)
    rule = parse_rivals(rivals).resolve(classifier.class_index)
    check_names("score", [score], SCORES)
    classifier.check_pixels(pixels)
    if argmax and rule.is_weighted:
        raise InputError(
            f"no single rival holds the extreme of a weighted mean (rivals {rule}): "
            "map 'winner' and argmax need rivals that compete one by one"
        )
    targets = _targets(classifier, target, classes)
    chosen = read_method(method, score)
    choices = reducers.GradientChoices(rule, "points", score)
    if not isinstance(chosen, Points):
        choices = replace(choices, method=chosen.name, settings=chosen.describe())
    pixels = pixels.detach().clone()
    by_captum = isinstance(chosen, CaptumMethod)  # Captum changes the module while it runs
    if by_captum and classifier.volumes:
        raise ChoiceError(f"method {choices.method!r} runs through Captum: it is for images alone")
    with prepared(classifier, alone=by_captum) as notes:
        if isinstance(chosen, CaptumMethod):
            size = 1 if memory_budget else max(1, captum.PIXELS_AT_ONCE // pixels[0, 0].numel())
            parts = torch.split(pixels, size)
            results = [
                _by_captum(classifier, parts, each, chosen, choices, progress, notes, argmax=argmax)
                for each in targets
            ]
        else:
            stream = Stream(classifier, pixels, chosen, score, memory_budget, notes)
            plain = _is_plain(chosen)
            results = _streamed(stream, targets, choices, progress, plain=plain, argmax=argmax)
    return results[0] if classes is None else tuple(results)


def reduce_gradients(
    classifier: Classifier,
    pixels: Tensor,
    reducer: Reducer,
    classes: Sequence[int | str] | None = None,
    method: str | Method | Points = "gradient",
    score: Score = "logit",
    memory_budget: int | None = None,
    progress: Progress | None = None,
) -> Kept:
    """What a `Reducer` keeps of the gradients of all classes, which are never held together.

    Every class (or each of `classes`, by index or name) goes by once, with gradients g_k = dS_k/dx
    at pixels x (B, C, H, W) as in `class_gradients`, which has the other arguments; methods through
    Captum are refused. Returns what the reducer finished with, for all B images.

    Raises `ImageError`, `ChoiceError` or `ModelError`.

    >>> class Mean:
    ...     def start(self, images, classes):
    ...         self.total, self.classes = torch.zeros_like(images), classes
    ...
    ...     def add(self, gradients, classes):
    ...         self.total += gradients.sum(dim=0)
    ...
    ...     def finish(self):
    ...         return self.total / self.classes
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5))
    >>> mean = reduce_gradients(Classifier(net), torch.rand(2, 3, 2, 2), Mean())
    >>> torch.allclose(mean[0].flatten(), net[1].weight.mean(dim=0), atol=1e-6)
    True
    """
    _check_classifier(classifier)
    if isinstance(reducer, type) or not isinstance(reducer, Reducer):
        raise ChoiceError(f"reducer is {reducer!r}: expected an object with start, add and finish")
    check_names("score", [score], SCORES)
    classifier.check_pixels(pixels)
    chosen = read_method(method, score)
    if isinstance(chosen, CaptumMethod):
        raise ChoiceError(f"method {chosen.name!r} runs through Captum: reducers take gradients")
    pixels = pixels.detach().clone()
    with prepared(classifier) as notes:
        stream = Stream(classifier, pixels, chosen, score, memory_budget, notes, by_class=True)
        count = stream.probe.classes
        logits = stream.begin(count, together=_is_plain(chosen))
        wanted: Any = [*range(count)] if classes is None else _targets(classifier, None, classes)
        every = logits[:1].expand(len(wanted), -1)  # a target for each
        columns = resolve_target(wanted, every, multi_label=classifier.multi_label)
        groups = stream.groups(
            columns.expand(len(pixels), -1),
            lambda images: [WholeImages(reducer, pixels[images], columns, count)],
            progress,
        )
        return _concatenated([reducer.finish() for _ in groups])


def _concatenated(parts: Sequence[Kept]) -> Kept:
    """One result of those of a few images at a time."""
    first, *_ = parts
    if isinstance(first, Tensor):
        return torch.cat([part for part in parts if isinstance(part, Tensor)])
    if not isinstance(first, tuple) or not all(isinstance(one, Tensor) for one in first):
        raise ChoiceError(f"reducer.finish() gave {first!r}: expected a tensor, or a tuple of them")
    return tuple(torch.cat(list(column)) for column in zip(*parts, strict=True))


def _check_classifier(classifier: Classifier) -> None:
    if not isinstance(classifier, Classifier):
        raise ModelError(
            f"classifier is a {type(classifier).__name__}: expected a Classifier, such as "
            "Classifier(module, mean=..., std=...)"
        )


def _targets(
    classifier: Classifier, target: Target, classes: Sequence[int | str] | None
) -> list[Indices]:
    """The one target of each image, or every one of `classes`."""
    if classes is None:
        return [target_indices(target, classifier)]
    if target is not None:
        raise ChoiceError("both target and classes are given: name all targets in classes")
    several = isinstance(classes, Iterable) and not isinstance(classes, str)
    listed = list(classes) if several else []
    if not listed:
        raise ChoiceError(f"classes are {classes!r}: expected a list of at least one class")
    return [target_indices(each, classifier) for each in listed]


def _is_plain(method: Method | Points) -> bool:
    """Whether it is a gradient at the image itself, whose forward pass gives the logits too."""
    return isinstance(method, Method) and method.name in ("gradient", "balanced")


def _streamed(
    stream: Stream,
    targets: Sequence[Indices],
    choices: reducers.GradientChoices,
    progress: Progress | None,
    *,
    plain: bool,
    argmax: bool,
) -> list[ClassGradients]:
    """One result per target, from one pass over the classes that any of them needs."""
    rule, multi_label = choices.rivals, stream.classifier.multi_label
    most = len(targets) * rule.most_classes(stream.probe.classes)
    logits = stream.begin(most, together=plain)
    resolved = [resolve_target(each, logits, multi_label=multi_label) for each in targets]
    rows, columns = make_request(rule, logits, resolved)

    def accumulators(images: slice) -> list[Extremes]:
        like, classes = stream.pixels[images].flatten(1), rows[images] if argmax else None
        return [
            Extremes(like, each.own[images], each.rival_columns[images], classes)
            for each in columns
        ]

    groups = list(stream.groups(rows, accumulators, progress))
    shape, notes = stream.pixels.shape[1:], stream.notes
    if stream.rounding is not None:
        choices = replace(choices, settings={**choices.settings, "rounding": stream.rounding})
    return [
        reducers.joined(logits, each.target, each.rivals, extremes, shape, choices, notes)
        for each, extremes in zip(columns, zip(*groups, strict=True), strict=True)
    ]


def _by_captum(
    classifier: Classifier,
    parts: Sequence[Tensor],
    target: Indices,
    method: CaptumMethod,
    choices: reducers.GradientChoices,
    progress: Progress | None,
    notes: Sequence[str],
    *,
    argmax: bool,
) -> ClassGradients:
    """The same three images from a method that runs one class at a time."""
    rule = choices.rivals
    with torch.no_grad():
        logits = torch.cat([classifier.logits(part) for part in parts])
    chosen = resolve_target(target, logits, multi_label=classifier.multi_label)
    indices = class_indices(rule, logits, chosen)
    mine = torch.split(indices, len(parts[0]))
    weights: Sequence[Tensor | None] = [None] * len(parts)
    if rule.is_weighted:
        weights = torch.split(rival_weights(rule, logits, chosen), len(parts[0]))
    count = Counter(indices.numel(), progress)
    groups = [
        captum.captum_extremes(classifier, part, method, own, weight, count.add, argmax=argmax)
        for part, own, weight in zip(parts, mine, weights, strict=True)
    ]
    return reducers.joined(
        logits, chosen, indices[:, 1:], groups, parts[0].shape[1:], choices, notes
    )
