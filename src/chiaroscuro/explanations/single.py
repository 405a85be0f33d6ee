"""One image through a classifier, its gradients and its maps."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from chiaroscuro.catalog import versions
from chiaroscuro.choices import (
    EXPLAIN_MAPS,
    MAPS,
    Fit,
    MethodOptions,
    Rivals,
    Score,
    check_names,
    parse_rivals,
)
from chiaroscuro.classifier import Classifier
from chiaroscuro.explanations.explanation import Explanation, MapFacts
from chiaroscuro.explanations.methods import make_method
from chiaroscuro.explanations.predictions import prediction, top_predictions
from chiaroscuro.explanations.reading import (
    ImageLike,
    as_batch,
    check_classifier,
    read_image,
    to_numpy,
)
from chiaroscuro.gradients import ClassGradients, class_gradients
from chiaroscuro.gradients.stream import Progress
from chiaroscuro.maps import SaliencyMaps, needs_classes, saliency_maps
from chiaroscuro.stopwatch import timed


def explain(
    classifier: Classifier,
    image: ImageLike,
    *,
    target: int | str | None = None,
    maps: str | Iterable[str] = EXPLAIN_MAPS,
    rivals: Rivals = "all",
    score: Score = "logit",
    method: Any = "gradient",
    fit: Fit | None = None,
    memory_budget: int | None = None,
    progress: Progress | None = None,
) -> Explanation:
    """Explain one image: what the classifier says, and which pixels speak for it how.

    `image`: a path or a Pillow image (brought to the classifier's size by `fit`, default its own),
    an array (H, W, C) or a tensor (C, H, W) of floats in [0, 1] (taken as it is). `target` and
    `rivals` take class indices or names; None explains the predicted class. `method`: as
    `class_gradients` takes it, or `MethodOptions`, whose background is read from its files.

    Raises `ImageError`, `ChoiceError`, `InputError` or `ModelError`.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5))
    >>> found = explain(Classifier(net, size=8), np.zeros((8, 8, 3)))
    >>> found.maps["active"].shape, len(found.predictions)
    ((8, 8), 5)
    """
    check_classifier(classifier)
    names = check_names("map", maps, MAPS)
    wanted = None if target is None else classifier.class_index(target)
    rule = parse_rivals(rivals).resolve(classifier.class_index)
    with timed("decode"):
        pixels, crop, photo, facts = read_image(classifier, image, fit)
    batch = as_batch(classifier, pixels)
    found = class_gradients(
        classifier,
        batch,
        wanted,
        rule,
        make_method(method, classifier) if isinstance(method, MethodOptions) else method,
        score,
        memory_budget,
        progress,
        argmax=needs_classes(names),
    )
    with timed("maps"):
        saliency = saliency_maps(found, names)
    logits = found.logits[0]
    predictions = top_predictions(classifier, logits)
    chosen = int(found.target[0])
    raw = {name: to_numpy(values[0]) for name, values in saliency.items()}
    compared = tuple(sorted(set(found.rivals[0].tolist())))
    listed = {chosen, *(p.index for p in predictions), *_classes_in(raw)}
    if len(compared) == 1:
        listed.update(compared)  # the figure's title names it
    choices = {
        "target": _as_given(target),
        "rivals": str(found.choices.rivals),
        "method": found.choices.method,
        "method_settings": _settings(found, method),
        "score": found.choices.score,
        "maps": list(names),
        "fit": fit or classifier.framing.fit,
        "tie_rule": "a tie with a rival is neither active nor inactive",
        "scaling": "maps are saved raw; pictures are clipped at the color limits",
        "seed": found.choices.settings.get("seed"),  # None where nothing is random
        "device": str(batch.device),
        "dtype": str(batch.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }
    return Explanation(
        image=facts,
        crop=crop,
        photo=photo,
        pixels=to_numpy(batch[0]),
        logits=to_numpy(logits),
        target=prediction(classifier, logits, chosen),
        predictions=predictions,
        rivals=compared,
        maps=raw,
        facts=_map_facts(saliency),
        labels={index: classifier.label(index) for index in sorted(listed) if index >= 0},
        choices=choices,
        model=classifier.describe(),
        versions=versions(),
    )


def _settings(found: ClassGradients, method: Any) -> dict[str, Any]:
    """The method's settings, with the place of a background that was read from files."""
    kept = {name: value for name, value in found.choices.settings.items() if name != "name"}
    if isinstance(method, MethodOptions) and method.background is not None:
        kept["background"] = method.background
    return kept


def _classes_in(maps: Mapping[str, NDArray[Any]]) -> list[int]:
    """Classes that a class map shows."""
    named = [values for name, values in maps.items() if MAPS[name].kind == "class"]
    return [int(k) for values in named for k in np.unique(values)]


def _map_facts(saliency: SaliencyMaps) -> dict[str, MapFacts]:
    return {
        name: MapFacts(
            MAPS[name].form,
            MAPS[name].kind,
            MAPS[name].reads,
            float(support.pixels[0]),
            float(support.entries[0]),
        )
        for name, support in saliency.support.items()
    }


def _as_given(target: int | str | None) -> int | str:
    """The target rule in a form that JSON keeps."""
    if target is None:
        return "predicted"
    return target if isinstance(target, str) else int(target)
