"""One image with some pixels changed: predicted and actual change of the logits."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from chiaroscuro.catalog import versions
from chiaroscuro.choices import (
    EDIT_MAPS,
    RANDOM,
    WHAT_IF_FRACTION,
    WHAT_IF_TOLERANCE,
    Fill,
    Fit,
    MethodOptions,
    RivalRule,
    Rivals,
    method_name,
)
from chiaroscuro.classifier import Classifier
from chiaroscuro.edits import filled, pixel_order, tie_priority, top_edit
from chiaroscuro.errors import ChoiceError, InputError
from chiaroscuro.explanations.methods import make_method, method_facts
from chiaroscuro.explanations.reading import (
    ImageLike,
    Target,
    as_batch,
    as_classifier,
    as_given,
    class_index,
    prediction,
    read_image,
    to_numpy,
    top_predictions,
)
from chiaroscuro.explanations.single import MOST_LISTED
from chiaroscuro.gradients import Method, class_gradients
from chiaroscuro.gradients.classes import resolve_target
from chiaroscuro.gradients.stream import Progress
from chiaroscuro.maps import edit_map, saliency_maps
from chiaroscuro.metrics import linearity
from chiaroscuro.results import MethodFacts, WhatIf, WhatIfChoices
from chiaroscuro.settings import WhatIfSettings, settings_from

STEPS = (*(2.0**-power for power in range(10, 5, -1)), *(step / 32 for step in range(1, 33)))
"""Shares of the change at which the target logit is measured: 1/1024, 1/512, ... 1/32, 2/32 ...
On photos of many pixels the linear approximation often fails within a few percent."""

OwnValues = Tensor | NDArray[Any]
"""Values (H, W) of the caller's own, in place of a map's name."""


def what_if(
    classifier: Classifier | nn.Module,
    image: ImageLike,
    map: str | OwnValues = "active",
    fraction: float = WHAT_IF_FRACTION,
    fill: str | Fill = "black",
    *,
    target: Target | None = None,
    rivals: Rivals = "all",
    method: str | Method | MethodOptions = "gradient",
    fit: Fit | None = None,
    tolerance: float = WHAT_IF_TOLERANCE,
    seed: int = 0,
    progress: Progress | None = None,
) -> WhatIf:
    """Change the highest pixels of a map, and compare predicted and actual change of the logits.

    The round(fraction H W) highest pixels of `map` (the name of a ranking map or, computed for this
    fill, of an edit map; "random"; or values (H, W) of your own) become `fill`: black, white, mean,
    blur, +0.1, -0.1, ... With d their change and J the Jacobian of the logits, the first-order
    prediction is J d. `image`, `target`, `rivals` and `method` are as in `explain`; `tolerance` is
    the share of the predicted change by which the actual one may differ and first order still
    counts as valid. `seed` breaks ties and draws what is random.

    Raises `ImageError`, `ChoiceError`, `InputError` or `ModelError`.

    >>> import numpy as np
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5))
    >>> gray = np.full((8, 8, 3), 0.5)
    >>> result = what_if(Classifier(net, size=8), gray, "positive", 0.1, "+0.1")
    >>> int(result.changed.sum()), result.same_direction, result.valid_step
    (6, True, 1.0)
    """
    classifier = as_classifier(classifier)
    named = map if isinstance(map, str) else RANDOM
    settings = settings_from(
        WhatIfSettings,
        None,
        {
            "map": named, "fraction": fraction, "fill": fill, "rivals": rivals, "method": method,
            "fit": fit, "tolerance": tolerance, "seed": seed,
        },
    )  # fmt: skip
    rule = settings.rival_rule.resolve(classifier.class_index)
    with_method, wanted = _check_method(map, method), class_index(classifier, target)
    read = read_image(classifier, image, settings.fit)
    batch = as_batch(classifier, [read.pixels])
    changed = filled(batch, settings.fill, settings.seed)
    facts: MethodFacts | None = None
    if with_method:
        made = make_method(method, classifier)
        gradients = class_gradients(classifier, batch, wanted, rule, made, progress=progress)
        chosen, facts = int(gradients.target[0]), method_facts(gradients.choices, method)
        values = saliency_maps(gradients, named)[named]
        pixels = pixel_order(values, tie_priority(batch, settings.seed))
    else:
        with torch.no_grad():
            logits = classifier(batch)
        chosen = int(resolve_target(wanted, logits, multi_label=classifier.multi_label)[0])
        pixels = _order(classifier, batch, changed, map, chosen, settings.seed)
    edited = top_edit(batch, changed, pixels, settings.fraction)
    changes = linearity(classifier, batch, edited, STEPS)
    logits = changes.logits[0]
    after = logits + changes.actual_change[0, -1]
    expected = logits + changes.predicted_change[0]
    best, new = top_predictions(classifier, logits), top_predictions(classifier, after)
    shown = dict.fromkeys(
        [*(p.index for p in (*best, *new)), chosen, *(rule.indices or ())[:MOST_LISTED]]
    )
    return WhatIf(
        image=read.facts,
        crop=read.crop,
        pixels=to_numpy(batch[0]),
        edited=to_numpy(edited[0]),
        changed=to_numpy((edited != batch)[0].any(dim=0)),
        selected=round(settings.fraction * batch[0, 0].numel()),
        target=prediction(classifier, logits, chosen),
        logits=to_numpy(logits),
        predicted_change=to_numpy(changes.predicted_change[0]),
        actual_change=to_numpy(changes.actual_change[0, -1]),
        before=best,
        expected=prediction(classifier, expected, int(expected.argmax())),
        after=new,
        shown=tuple(
            (prediction(classifier, logits, k), prediction(classifier, after, k)) for k in shown
        ),
        steps=changes.steps,
        path=tuple(changes.actual_change[0, :, chosen].tolist()),
        valid_step=float(changes.valid_step(torch.tensor([chosen]), settings.tolerance)[0]),
        choices=WhatIfChoices(
            map=_name(map),
            fraction=settings.fraction,
            fill=settings.fill,
            target=as_given(target),
            rivals=str(rule),
            method=facts,
            fit=settings.fit or classifier.framing.fit,
            tolerance=settings.tolerance,
            seed=settings.seed,
        ),
        model=classifier.describe(),
        threads=torch.get_num_threads(),
        versions=versions(),
        notes=(*classifier.notes, *read.notes, *_notes(changes.predicted_change[0], logits, rule)),
    )


def _notes(predicted: Tensor, logits: Tensor, rule: RivalRule) -> list[str]:
    notes = []
    if rule.count is not None and rule.count > len(logits) - 1:
        notes.append(f"rivals {rule}: only {len(logits) - 1} other classes")
    if not predicted.any():
        notes.append("first order predicts no change of any logit")
    return notes


def _check_method(map: str | OwnValues, method: Any) -> bool:
    """Whether a map is made of class gradients; raises `ChoiceError` for a method of another."""
    if isinstance(map, str) and map not in (*EDIT_MAPS, RANDOM):
        return True
    name = method_name(method)
    if name != "gradient":
        raise ChoiceError(
            f"method {name} has no part in map {_name(map)!r}, which is not made of class "
            "gradients: leave the method out"
        )
    return False


def _name(map: str | OwnValues) -> str:
    """What results call a map."""
    return map if isinstance(map, str) else "own values"


def _order(
    classifier: Classifier,
    pixels: Tensor,
    changed: Tensor,
    map: str | OwnValues,
    target: int,
    seed: int,
) -> Tensor:
    """One image's pixels (1, N) by a map that is not made of class gradients, highest first."""
    priority = tie_priority(pixels, seed)
    if not isinstance(map, str):
        return pixel_order(_own_values(map, pixels), priority)
    if map == RANDOM:
        return priority
    source = torch.Generator().manual_seed(seed)
    values = edit_map(classifier, pixels, changed, map, target=target, generator=source)
    return pixel_order(values, priority)


def _own_values(map: OwnValues, pixels: Tensor) -> Tensor:
    values = torch.as_tensor(map, device=pixels.device)
    if values.shape != pixels.shape[2:]:
        raise InputError(
            f"map has shape {tuple(values.shape)}: expected (H, W) = {tuple(pixels.shape[2:])} as "
            "the pixels that the network sees"
        )
    return values[None].to(pixels.dtype)
