"""One image with some pixels changed: predicted and actual change of the logits."""

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from chiaroscuro import choices, edits
from chiaroscuro.catalog import versions
from chiaroscuro.choices import Fit, MethodOptions, Rivals, method_name
from chiaroscuro.classifier import Classifier, Picture
from chiaroscuro.classifier.reading import to_numpy
from chiaroscuro.errors import ChoiceError, InputError
from chiaroscuro.explanations import single
from chiaroscuro.explanations.single import prediction, top_predictions
from chiaroscuro.gradients import Method, class_gradients
from chiaroscuro.gradients.classes import Indices, resolve_target
from chiaroscuro.gradients.stream import Progress
from chiaroscuro.maps import edit_map, saliency_maps
from chiaroscuro.metrics import linearity
from chiaroscuro.regions import Region
from chiaroscuro.results.changes import WhatIf, WhatIfChoices
from chiaroscuro.results.explanations import MethodFacts
from chiaroscuro.settings import WhatIfSettings, settings_from

STEPS = (*(2.0**-power for power in range(10, 5, -1)), *(step / 32 for step in range(1, 33)))
"""Shares of the change at which the target logit is measured: 1/1024, 1/512, ... 1/32, 2/32 ..."""
OwnValues = Tensor | NDArray[Any]


def what_if(
    classifier: Classifier | nn.Module,
    image: Picture,
    map: str | OwnValues = "active",
    fraction: float = choices.WHAT_IF_FRACTION,
    fill: str | choices.Fill = "black",
    *,
    target: single.Target | None = None,
    rivals: Rivals = "all",
    method: str | Method | MethodOptions = "gradient",
    fit: Fit | None = None,
    region: Region | str | Sequence[float] | None = None,
    tolerance: float = choices.WHAT_IF_TOLERANCE,
    seed: int = 0,
    steps: Sequence[float] = STEPS,
    progress: Progress | None = None,
) -> WhatIf:
    """Change the highest pixels of a map, and compare predicted and actual change of the logits.

    The round(fraction H W) highest pixels of `map` (the name of a ranking map or, computed for this
    fill, of an edit map; "random"; or values (H, W) of your own) become `fill`: black, white, mean,
    blur, +0.1, -0.1, ... With d their change and J the Jacobian of the logits, the first-order
    prediction is J d. `image`, `target`, `rivals`, `method` and `region` are as in `explain`;
    `tolerance` is the share of the predicted change by which the actual one may differ and first
    order still counts as valid, `steps` the shares of the change at which that is looked at. `seed`
    breaks ties and draws what is random.

    Raises `ImageError`, `ChoiceError`, `InputError` or `ModelError`.

    >>> import numpy as np
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5))
    >>> gray = np.full((8, 8, 3), 0.5)
    >>> result = what_if(Classifier(net, size=8), gray, "positive", 0.1, "+0.1")
    >>> int(result.changed.sum()), result.same_direction, result.valid_step
    (6, True, 1.0)
    """
    classifier = single.as_classifier(classifier)
    name, named = (map, map) if isinstance(map, str) else ("own values", choices.RANDOM)
    options = {"map": named, "fraction": fraction, "fill": fill, "rivals": rivals, "fit": fit}
    options |= {"method": method, "tolerance": tolerance, "seed": seed, "region": region}
    settings = settings_from(WhatIfSettings, None, options)
    rule = choices.parse_rivals(settings.rivals).resolve(classifier.class_index)
    wanted: Indices = single.class_index(classifier, target)
    by_gradients = named not in (*choices.EDIT_MAPS, choices.RANDOM)
    if not by_gradients and method_name(method) != "gradient":
        raise ChoiceError(
            f"method {method_name(method)} has no part in map {name!r}, which is not made of class "
            "gradients: leave the method out"
        )
    read = single.read_image(classifier, image, settings.fit)
    batch = single.as_batch(classifier, [read.pixels])
    classifier = single.in_part(classifier, settings.part, read)
    wanted = single.best_of_part(classifier, batch) if wanted is None else wanted
    changed = edits.filled(batch, settings.fill, settings.seed)
    facts: MethodFacts | None = None
    values: Tensor | None = None
    if by_gradients:
        prepared = single.make_method(method, classifier)
        gradients = class_gradients(classifier, batch, wanted, rule, prepared, progress=progress)
        chosen, facts = int(gradients.target[0]), single.method_facts(gradients.choices, method)
        values = saliency_maps(gradients, named)[named]
    else:
        with torch.no_grad():
            logits = classifier(batch)
        chosen = int(resolve_target(wanted, logits, multi_label=classifier.multi_label)[0])
        if not isinstance(map, str):
            values = _own_values(map, batch)
        elif map != choices.RANDOM:
            source = torch.Generator().manual_seed(settings.seed)
            values = edit_map(classifier, batch, changed, map, target=chosen, generator=source)
    priority = edits.tie_priority(batch, settings.seed)
    order = priority if values is None else edits.pixel_order(values, priority)
    edited = edits.top_edit(batch, changed, order, settings.fraction)
    changes = linearity(classifier, batch, edited, steps)
    logits, predicted = changes.logits[0], changes.predicted_change[0]
    after, expected = logits + changes.actual_change[0, -1], logits + predicted
    best, new = top_predictions(classifier, logits), top_predictions(classifier, after)
    listed = (rule.indices or ())[: single.MOST_LISTED]
    shown = dict.fromkeys([*(p.index for p in (*best, *new)), chosen, *listed])
    notes = [*classifier.notes, *read.notes, *single.rival_notes(rule, logits)]
    notes += [] if predicted.any() else ["first order predicts no change of any logit"]
    return WhatIf(
        image=read.facts,
        crop=read.crop,
        pixels=to_numpy(batch[0]),
        edited=to_numpy(edited[0]),
        changed=to_numpy((edited != batch)[0].any(dim=0)),
        selected=round(settings.fraction * batch[0, 0].numel()),
        target=prediction(classifier, logits, chosen),
        logits=to_numpy(logits),
        predicted_change=to_numpy(predicted),
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
            map=name,
            fraction=settings.fraction,
            fill=settings.fill,
            target=single.as_given(target),
            rivals=str(rule),
            method=facts,
            fit=settings.fit or classifier.framing.fit,
            tolerance=settings.tolerance,
            seed=settings.seed,
        ),
        model=classifier.describe(),
        threads=torch.get_num_threads(),
        versions=versions(),
        notes=tuple(notes),
        region=classifier.region,
    )


def _own_values(map: OwnValues, pixels: Tensor) -> Tensor:
    values, expected = torch.as_tensor(map, device=pixels.device), tuple(pixels.shape[2:])
    if values.shape != expected:
        raise InputError(f"map has shape {tuple(values.shape)}: expected (H, W) = {expected}")
    return values[None].to(pixels.dtype)
