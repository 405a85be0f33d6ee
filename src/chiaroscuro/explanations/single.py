"""Images through a classifier, its gradients and its maps."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor, nn

from chiaroscuro.catalog import versions
from chiaroscuro.choices import EXPLAIN_MAPS, MAPS, Fit, MethodOptions, RivalRule, Rivals, Score
from chiaroscuro.classifier import Classifier
from chiaroscuro.explanations.methods import make_method, method_facts
from chiaroscuro.explanations.reading import (
    ImageLike,
    ReadImage,
    Target,
    as_batch,
    as_classifier,
    as_given,
    class_index,
    prediction,
    read_image,
    split_images,
    targets_of,
    to_numpy,
    top_predictions,
)
from chiaroscuro.gradients import ClassGradients, class_gradients
from chiaroscuro.gradients.classes import resolve_target
from chiaroscuro.gradients.stream import Progress
from chiaroscuro.maps import SaliencyMaps, needs_classes, saliency_maps
from chiaroscuro.results import MOST_NAMED, Explanation, ExplanationChoices, MapFacts, Prediction
from chiaroscuro.settings import ExplainSettings, settings_from
from chiaroscuro.stopwatch import timed

MOST_LISTED = 5
"""So many rivals that were chosen by name or index are listed among the classes."""


@overload
def explain(
    classifier: Classifier | nn.Module,
    image: ImageLike,
    *,
    target: Target | None = ...,
    maps: str | Iterable[str] = ...,
    rivals: Rivals = ...,
    score: Score = ...,
    method: Any = ...,
    fit: Fit | None = ...,
    memory_budget: int | None = ...,
    progress: Progress | None = ...,
) -> Explanation: ...
@overload
def explain(
    classifier: Classifier | nn.Module,
    image: list[Any] | tuple[Any, ...],
    *,
    target: Target | Sequence[Target] | None = ...,
    maps: str | Iterable[str] = ...,
    rivals: Rivals = ...,
    score: Score = ...,
    method: Any = ...,
    fit: Fit | None = ...,
    memory_budget: int | None = ...,
    progress: Progress | None = ...,
) -> list[Explanation]: ...
def explain(
    classifier: Classifier | nn.Module,
    image: ImageLike | list[Any] | tuple[Any, ...],
    *,
    target: Target | Sequence[Target] | None = None,
    maps: str | Iterable[str] = EXPLAIN_MAPS,
    rivals: Rivals = "all",
    score: Score = "logit",
    method: Any = "gradient",
    fit: Fit | None = None,
    memory_budget: int | None = None,
    progress: Progress | None = None,
) -> Explanation | list[Explanation]:
    """Explain an image: the predicted classes, and which pixels raise or lower a class's score.

    `image`: a path or a Pillow image (brought to the classifier's size by `fit`, default its own);
    an array (H, W, C) or a tensor (C, H, W), floats in [0, 1] or 8-bit values, taken as it is. A
    list of images, or a batch (B, C, H, W) of two or more, gives a list of explanations; images of
    one size go through the network together. A batch of one is one image. `classifier` may be a
    module that needs no normalization.

    `target` and `rivals` take class indices or names; None explains the predicted class; several
    images may have a target each. `method`: as `class_gradients` takes it, or `MethodOptions`,
    whose background is read from its files. `memory_budget`: bytes above the loaded model.

    Raises `ImageError`, `ChoiceError`, `InputError` or `ModelError`.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5))
    >>> explanation = explain(Classifier(net, size=8), np.zeros((8, 8, 3)))
    >>> explanation.maps["active"].shape, len(explanation.predictions)
    ((8, 8), 5)
    """
    classifier = as_classifier(classifier)
    images, several = split_images(image)
    settings = settings_from(
        ExplainSettings,
        None,
        {"maps": maps, "rivals": rivals, "score": score, "method": method, "fit": fit},
    )
    rule = settings.rival_rule.resolve(classifier.class_index)
    targets = targets_of(target, len(images))
    indices = [class_index(classifier, one) for one in targets]
    made = make_method(method, classifier) if isinstance(method, MethodOptions) else method
    with timed("decode"):
        read = [read_image(classifier, one, settings.fit) for one in images]
    results: dict[int, Explanation] = {}
    for positions in _by_size(read).values():
        batch = as_batch(classifier, [read[n].pixels for n in positions])
        gradients = class_gradients(
            classifier,
            batch,
            _targets(classifier, batch, [indices[n] for n in positions]),
            rule,
            made,
            score,
            memory_budget,
            progress,
            argmax=needs_classes(settings.maps),
        )
        with timed("maps"):
            saliency = saliency_maps(gradients, settings.maps)
        for row, n in enumerate(positions):
            choices = ExplanationChoices(
                target=as_given(targets[n]),
                rivals=str(gradients.choices.rivals),
                score=score,
                method=method_facts(gradients.choices, method),
                maps=settings.maps,
                fit=settings.fit or classifier.framing.fit,
            )
            results[n] = _explanation(
                classifier, read[n], batch, gradients, saliency, row, rule, choices
            )
    explanations = [results[n] for n in range(len(images))]
    return explanations if several else explanations[0]


def _by_size(images: Sequence[ReadImage]) -> dict[tuple[int, ...], list[int]]:
    """The positions of images of one shape."""
    positions: dict[tuple[int, ...], list[int]] = {}
    for n, image in enumerate(images):
        positions.setdefault(image.pixels.shape, []).append(n)
    return positions


def _targets(
    classifier: Classifier, batch: Tensor, indices: Sequence[int | None]
) -> Sequence[int] | None:
    """One class an image, or None where all are the predicted ones."""
    chosen = [index for index in indices if index is not None]
    if not chosen or len(chosen) == len(indices):
        return chosen or None
    with torch.no_grad():
        logits = classifier(batch)
    predicted = resolve_target(None, logits, multi_label=classifier.multi_label).tolist()
    return [p if index is None else index for p, index in zip(predicted, indices, strict=True)]


def _explanation(
    classifier: Classifier,
    image: ReadImage,
    batch: Tensor,
    gradients: ClassGradients,
    saliency: SaliencyMaps,
    row: int,
    rule: RivalRule,
    choices: ExplanationChoices,
) -> Explanation:
    """The explanation of one image of a batch."""
    logits = gradients.logits[row]
    target = prediction(classifier, logits, int(gradients.target[row]))
    compared = tuple(sorted(set(gradients.rivals[row].tolist())))
    predictions = _listed(classifier, logits, target.index, rule)
    maps = {name: to_numpy(values[row]) for name, values in saliency.items()}
    labeled = {p.index for p in predictions}
    labeled |= {
        int(k) for name in maps if MAPS[name].kind == "class" for k in np.unique(maps[name])
    }
    labeled |= set(compared) if len(compared) <= MOST_NAMED else set()
    return Explanation(
        image=image.facts,
        crop=image.crop,
        photo=image.photo,
        pixels=to_numpy(batch[row]),
        logits=to_numpy(logits),
        target=target,
        predictions=predictions,
        rivals=compared,
        maps=maps,
        facts={
            name: MapFacts(
                MAPS[name].form,
                MAPS[name].kind,
                MAPS[name].reads,
                float(support.pixels[row]),
                float(support.entries[row]),
            )
            for name, support in saliency.support.items()
        },
        labels={index: classifier.label(index) for index in sorted(labeled) if index >= 0},
        choices=choices,
        model=classifier.describe(),
        threads=torch.get_num_threads(),
        versions=versions(),
        notes=(*classifier.notes, *image.notes, *_notes(gradients, row, rule)),
    )


def _listed(
    classifier: Classifier, logits: Tensor, target: int, rule: RivalRule
) -> tuple[Prediction, ...]:
    """The best classes, then the target and the chosen rivals where they are not among them."""
    best = top_predictions(classifier, logits)
    more = dict.fromkeys((target, *(rule.indices or ())[:MOST_LISTED]))
    listed = {p.index for p in best}
    return (*best, *(prediction(classifier, logits, k) for k in more if k not in listed))


def _notes(gradients: ClassGradients, row: int, rule: RivalRule) -> Iterator[str]:
    """What is unusual about a result."""
    others = gradients.logits.shape[1] - 1
    if rule.count is not None and rule.count > others:
        yield f"rivals {rule}: only {others} other classes"
    images = (gradients.target_gradient, gradients.rival_max, gradients.rival_min)
    if not any(bool(image[row].any()) for image in images):
        yield "gradients are zero everywhere: small changes of pixels change no logit"
