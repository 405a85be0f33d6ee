"""Images through a classifier, its gradients and its maps."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, overload

import numpy as np
import torch
from torch import Tensor, nn

from chiaroscuro import choices
from chiaroscuro.catalog import versions
from chiaroscuro.choices import MAPS, Fit, RivalRule, Rivals, Score, parse_rivals
from chiaroscuro.classifier import Classifier, Picture
from chiaroscuro.classifier.reading import to_numpy
from chiaroscuro.explanations import reading
from chiaroscuro.explanations.reading import ReadImage, Target, prediction
from chiaroscuro.gradients import ClassGradients, class_gradients
from chiaroscuro.gradients.stream import Progress
from chiaroscuro.maps import SaliencyMaps, needs_classes, saliency_maps
from chiaroscuro.results.explanations import MOST_NAMED, Explanation, ExplanationChoices
from chiaroscuro.results.facts import MapFacts
from chiaroscuro.settings import ExplainSettings, settings_from
from chiaroscuro.stopwatch import timed


@overload
def explain(
    classifier: Classifier | nn.Module,
    image: Picture,
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
    image: Picture | list[Any] | tuple[Any, ...],
    *,
    target: Target | Sequence[Target] | None = None,
    maps: str | Iterable[str] = choices.EXPLAIN_MAPS,
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
    classifier = reading.as_classifier(classifier)
    images, several = reading.split_images(image)
    settings = settings_from(
        ExplainSettings,
        None,
        {"maps": maps, "rivals": rivals, "score": score, "method": method, "fit": fit},
    )
    rule = parse_rivals(settings.rivals).resolve(classifier.class_index)
    targets = reading.targets_of(target, len(images))
    indices = [reading.class_index(classifier, one) for one in targets]
    made = reading.make_method(method, classifier)
    with timed("decode"):
        read = [reading.read_image(classifier, one, settings.fit) for one in images]
    together = defaultdict(list)
    for n, one in enumerate(read):
        together[one.pixels.shape, indices[n] is None].append(n)
    results: dict[int, Explanation] = {}
    for positions in together.values():
        batch = reading.as_batch(classifier, [read[n].pixels for n in positions])
        gradients = class_gradients(
            classifier,
            batch,
            [k for k in (indices[n] for n in positions) if k is not None] or None,
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
            chosen = ExplanationChoices(
                target=reading.as_given(targets[n]),
                rivals=str(gradients.choices.rivals),
                score=score,
                method=reading.method_facts(gradients.choices, method),
                maps=settings.maps,
                fit=settings.fit or classifier.framing.fit,
            )
            results[n] = _explanation(
                classifier, read[n], batch[row], gradients, saliency, row, rule, chosen
            )
    explanations = [results[n] for n in range(len(images))]
    return explanations if several else explanations[0]


def _explanation(
    classifier: Classifier,
    image: ReadImage,
    pixels: Tensor,
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
    best = reading.top_predictions(classifier, logits)
    more = dict.fromkeys((target.index, *(rule.indices or ())[: reading.MOST_LISTED]))
    listed = {p.index for p in best}
    predictions = (*best, *(prediction(classifier, logits, k) for k in more if k not in listed))
    maps = {name: to_numpy(values[row]) for name, values in saliency.items()}
    labeled = {p.index for p in predictions}
    labeled |= set(compared) if len(compared) <= MOST_NAMED else set()
    for name, values in maps.items():
        labeled |= set(np.unique(values).tolist()) if MAPS[name].kind == "class" else set()
    notes = [*classifier.notes, *image.notes, *reading.rival_notes(rule, logits)]
    extremes = (gradients.target_gradient, gradients.rival_max, gradients.rival_min)
    if not any(bool(values[row].any()) for values in extremes):
        notes.append("gradients are zero everywhere: small changes of pixels change no logit")
    return Explanation(
        image=image.facts,
        crop=image.crop,
        photo=image.photo,
        pixels=to_numpy(pixels),
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
        notes=tuple(notes),
    )
