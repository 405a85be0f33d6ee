"""One image, a map's first pixels changed, and the network asked before, on the way and after."""

import torch

from chiaroscuro.catalog import versions
from chiaroscuro.changes.order import OrderRule, OwnValues, pixels_in_order
from chiaroscuro.changes.outcome import WhatIf
from chiaroscuro.choices import (
    WHAT_IF_FRACTION,
    WHAT_IF_TOLERANCE,
    Fill,
    Fit,
    MethodOptions,
    Rivals,
    parse_fill,
    parse_rivals,
)
from chiaroscuro.classifier import Classifier
from chiaroscuro.edits import filled, top_edit
from chiaroscuro.errors import ChoiceError
from chiaroscuro.explanations.methods import make_method
from chiaroscuro.explanations.predictions import prediction, top_predictions
from chiaroscuro.explanations.reading import (
    ImageLike,
    as_batch,
    check_classifier,
    read_image,
    to_numpy,
)
from chiaroscuro.gradients import Method
from chiaroscuro.gradients.stream import Progress
from chiaroscuro.metrics import linearity

STEPS = (*(2.0**-power for power in range(10, 5, -1)), *(step / 32 for step in range(1, 33)))
"""Where on the way to the changed image the promise is looked at: 1/1024, 1/512, ... 1/32, 2/32 ...
Photos of many pixels part from their gradient within a few percent of the way."""


def what_if(
    classifier: Classifier,
    image: ImageLike,
    map: str | OwnValues = "active",
    fraction: float = WHAT_IF_FRACTION,
    change: str | Fill = "black",
    *,
    target: int | str | None = None,
    rivals: Rivals = "all",
    method: str | Method | MethodOptions = "gradient",
    fit: Fit | None = None,
    tolerance: float = WHAT_IF_TOLERANCE,
    seed: int = 0,
    progress: Progress | None = None,
) -> WhatIf:
    """Change the first pixels of a map's order, and hold the outcome against first order.

    The round(fraction H W) highest pixels of `map` (the name of a ranking map or, made for this
    change, of an edit map; "random"; or values (H, W) of your own) become what `change` says:
    black, white, mean, blur, +0.1, -0.1, ... With d their change and J the Jacobian of the logits,
    first order foretells J d. `image`, `target`, `rivals` and `method` are taken as `explain` takes
    them; `tolerance` is the share of the foretold change by which the real one may differ and still
    keep it. `seed` breaks ties and draws what is random.

    Raises `ImageError`, `ChoiceError`, `InputError` or `ModelError`.

    >>> import numpy as np
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5))
    >>> found = what_if(Classifier(net, size=8), np.full((8, 8, 3), 0.5), "positive", 0.1, "+0.1")
    >>> int(found.changed.sum()), found.as_foretold, found.holds
    (6, True, 1.0)
    """
    check_classifier(classifier)
    fill = parse_fill(change)
    wanted = None if target is None else classifier.class_index(target)
    made = make_method(method, classifier) if isinstance(method, MethodOptions) else method
    rule = OrderRule(map, wanted, parse_rivals(rivals).resolve(classifier.class_index), made, seed)
    if not 0 < fraction < 1 or tolerance <= 0:
        raise ChoiceError(
            f"fraction is {fraction} and tolerance {tolerance}: expected a fraction within (0, 1) "
            "and a tolerance above 0"
        )
    pixels, crop, _, facts = read_image(classifier, image, fit)
    batch = as_batch(classifier, pixels)
    changed = filled(batch, fill, seed)
    order, chosen = pixels_in_order(classifier, batch, changed, rule, progress)
    edited = top_edit(batch, changed, order, fraction)
    found = linearity(classifier, batch, edited, STEPS)
    logits = found.logits[0]
    after = logits + found.actual_change[0, -1]
    expected = logits + found.predicted_change[0]
    best, new = top_predictions(classifier, logits), top_predictions(classifier, after)
    listed = dict.fromkeys([*(p.index for p in (*best, *new)), chosen])
    choices = {
        "map": rule.map_name,
        "fraction": fraction,
        "change": str(fill),
        "target": "predicted" if target is None else target,
        "rivals": str(rule.rivals),
        "method": rule.method_name,
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
        predicted=to_numpy(found.predicted_change[0]),
        real=to_numpy(found.actual_change[0, -1]),
        before=best,
        expected=prediction(classifier, expected, int(expected.argmax())),
        after=new,
        shown=tuple(
            (prediction(classifier, logits, k), prediction(classifier, after, k)) for k in listed
        ),
        steps=found.steps,
        way=tuple(found.actual_change[0, :, chosen].tolist()),
        holds=float(found.valid_step(torch.tensor([chosen]), tolerance)[0]),
        tolerance=tolerance,
        choices=choices,
        model=classifier.describe(),
        versions=versions(),
    )
