"""One image, a map's first pixels changed, and the network asked before, on the way and after."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chiaroscuro.catalogue import versions
from chiaroscuro.changes.outcome import WhatIf
from chiaroscuro.choices import (
    ORDERS,
    RANDOM,
    WHAT_IF_FRACTION,
    WHAT_IF_TOLERANCE,
    Fill,
    Fit,
    RivalRule,
    check_names,
    parse_fill,
)
from chiaroscuro.classifier import Classifier
from chiaroscuro.edits import pixel_order, tie_priority
from chiaroscuro.errors import ChoiceError, InputError
from chiaroscuro.explanations.predictions import prediction, top_predictions
from chiaroscuro.explanations.reading import (
    ImageLike,
    as_batch,
    check_classifier,
    read_image,
    to_numpy,
)
from chiaroscuro.explanations.single import named_rivals
from chiaroscuro.fills import filled
from chiaroscuro.gradients import class_gradients
from chiaroscuro.gradients.engine import Progress
from chiaroscuro.gradients.slots import resolve_target
from chiaroscuro.maps import saliency_maps
from chiaroscuro.metrics.forecast import Forecast, forecast, top_edit

STEPS = (*(2.0**-power for power in range(10, 5, -1)), *(step / 32 for step in range(1, 33)))
"""Where on the way to the changed image the promise is looked at: 1/1024, 1/512, ... 1/32, 2/32 ...
Photos of many pixels part from their gradient within a few per cent of the way."""


def what_if(
    classifier: Classifier,
    image: ImageLike,
    map: str | Tensor | NDArray[Any] = "active",
    fraction: float = WHAT_IF_FRACTION,
    change: str | Fill = "black",
    *,
    target: int | str | None = None,
    rivals: str | Sequence[int | str] | RivalRule = "all",
    fit: Fit | None = None,
    tolerance: float = WHAT_IF_TOLERANCE,
    seed: int = 0,
    progress: Progress | None = None,
) -> WhatIf:
    """Change the first pixels of a map's order, and hold the outcome against first order.

    The round(fraction H W) highest pixels of `map` (a ranking map's name, "random", or values
    (H, W) of your own) become what `change` says: black, white, mean, blur, +0.1, -0.1, ... With d
    their change and J the Jacobian of the logits, first order foretells J d. `image`, `target` and
    `rivals` are taken as `explain` takes them; `tolerance` is the share of the foretold change by
    which the real one may differ and still keep it. `seed` breaks ties and draws what is random.

    Raises `ImageError`, `ChoiceError`, `InputError` or `ModelError`.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5))
    >>> found = what_if(Classifier(net, size=8), np.full((8, 8, 3), 0.5), "positive", 0.1, "+0.1")
    >>> int(found.changed.sum()), found.as_foretold, found.holds
    (6, True, 1.0)
    """
    check_classifier(classifier)
    fill = parse_fill(change)
    wanted = None if target is None else classifier.class_index(target)
    rule = named_rivals(classifier, rivals)
    if isinstance(map, str):
        check_names("map", [map], ORDERS)
    if not 0 < fraction < 1 or tolerance <= 0:
        raise ChoiceError(
            f"fraction is {fraction} and tolerance {tolerance}: expected a fraction within (0, 1) "
            "and a tolerance above 0"
        )
    pixels, crop, _, facts = read_image(classifier, image, fit)
    batch = as_batch(classifier, pixels)
    order, chosen = _order(classifier, batch, map, wanted, rule, seed, progress)
    edited = top_edit(batch, filled(batch, fill, seed), order, fraction)
    found = forecast(classifier, batch, edited, STEPS)
    logits = found.logits[0]
    after = logits + found.real[0, -1]
    best, new = top_predictions(classifier, logits), top_predictions(classifier, after)
    listed = dict.fromkeys([*(p.index for p in (*best, *new)), chosen])
    choices = {
        "map": map if isinstance(map, str) else "own values",
        "fraction": fraction,
        "change": str(fill),
        "target": "predicted" if target is None else target,
        "rivals": str(rule),
        "score": "logit",
        "fit": fit or classifier.framing.fit,
        "tolerance": tolerance,
        "tie_rule": "ties in a random order drawn from the seed and the image",
        "seed": seed,
        "device": str(batch.device),
        "dtype": str(batch.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }
    return WhatIf(
        image=facts,
        crop=crop,
        pixels=to_numpy(batch[0]),
        edited=to_numpy(edited[0]),
        changed=to_numpy((edited != batch)[0].any(dim=0)),
        taken=round(fraction * batch[0, 0].numel()),
        target=prediction(classifier, logits, chosen),
        logits=to_numpy(logits),
        predicted=to_numpy(found.predicted[0]),
        real=to_numpy(found.real[0, -1]),
        before=best,
        after=new,
        shown=tuple(
            (prediction(classifier, logits, k), prediction(classifier, after, k)) for k in listed
        ),
        steps=found.steps,
        way=tuple(found.real[0, :, chosen].tolist()),
        holds=_holds(found, chosen, tolerance),
        tolerance=tolerance,
        choices=choices,
        model=classifier.describe(),
        versions=versions(),
    )


def _order(
    classifier: Classifier,
    pixels: Tensor,
    map: str | Tensor | NDArray[Any],
    wanted: int | None,
    rule: RivalRule,
    seed: int,
    progress: Progress | None,
) -> tuple[Tensor, int]:
    """The order in which pixels are taken (1, N), and the explained class."""
    priority = tie_priority(pixels, seed)
    if isinstance(map, str) and map != RANDOM:
        gradients = class_gradients(classifier, pixels, wanted, rule, progress=progress)
        return pixel_order(saliency_maps(gradients, map)[map], priority), int(gradients.target[0])
    chosen = resolve_target(wanted, classifier(pixels), multi_label=classifier.multi_label)
    target = int(chosen[0])
    if isinstance(map, str):
        return priority, target
    values = torch.as_tensor(map, device=pixels.device)
    if values.shape != pixels.shape[2:]:
        raise InputError(
            f"map has shape {tuple(values.shape)}: expected (H, W) = {tuple(pixels.shape[2:])} as "
            "the pixels that the network sees"
        )
    return pixel_order(values[None].to(pixels.dtype), priority), target


def _holds(found: Forecast, target: int, tolerance: float) -> float:
    """The last step before the first that breaks the promise; 0 where that is the first one."""
    kept = found.kept(torch.tensor([target]), tolerance)[0].cpu().numpy()
    whole = int(np.argmin(kept)) if not kept.all() else len(kept)
    return found.steps[whole - 1] if whole else 0.0
