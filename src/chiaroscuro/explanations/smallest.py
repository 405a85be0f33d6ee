"""The smallest edit of one image that turns its prediction, or keeps it."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from chiaroscuro import edits
from chiaroscuro.catalog import versions
from chiaroscuro.classifier import Classifier, Picture
from chiaroscuro.classifier.reading import to_numpy
from chiaroscuro.errors import ChoiceError
from chiaroscuro.explanations import single
from chiaroscuro.gradients.stream import Progress
from chiaroscuro.results.changes import Edit, SmallestEdit
from chiaroscuro.settings import SmallestEditSettings, settings_from, takes
from chiaroscuro.smallest import SmallestEdits, smallest_edits

_POINTS = 48
"""Sizes of an edit at which the probability is looked at."""


@takes(SmallestEditSettings)
def smallest_edit(
    classifier: Classifier | nn.Module,
    image: Picture,
    change: str = "black",
    to: single.Target | None = None,
    *,
    memory_budget: int | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> SmallestEdit:
    """The fewest pixels of an image whose change turns its prediction, as far as a search finds.

    The pixels become `change`, and then any class but the predicted one has the highest score, or
    the class `to` has it. The edit is verified by real predictions, and so is that each unit of it
    is needed (`edits[0].minimal`): with any one restored it did not work, up to rounding. Smaller
    ones may exist. Where the search finds nothing, `reached` is False. `image` is as in `explain`.

    Cost: at most `budget` gradient passes an edit, and 64 predictions for each.
    Raises `ImageError`, `ChoiceError` or `ModelError`. Source: this project's.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5))
    >>> found = smallest_edit(Classifier(net, size=8), np.full((8, 8, 3), 0.5), "white")
    >>> found.mask.shape, found.flipped == found.reached
    ((8, 8), True)
    """
    classifier = single.as_classifier(classifier)
    settings = settings_from(SmallestEditSettings, None, {"change": change, "to": to, **options})
    goal = single.class_index(classifier, settings.to)
    read = single.read_image(classifier, image, settings.fit)
    pixels = single.as_batch(classifier, [read.pixels])
    classifier = single.in_part(classifier, settings.part, read)
    changed = edits.filled(pixels, settings.change, settings.seed)
    with torch.no_grad():
        logits = classifier(pixels)[0]
    best = single.top_predictions(classifier, logits)
    if goal == best[0].index:
        raise ChoiceError(f"to is {best[0].label}: that class is predicted already, give another")
    start, end = (changed, pixels) if settings.keep else (pixels, changed)
    several, untouched = list[Edit](), torch.zeros_like(pixels[:, 0], dtype=torch.bool)
    for _ in range(settings.edits):
        found = smallest_edits(
            classifier, pixels, changed, goal, keep=settings.keep, cells=settings.cells,
            budget=settings.budget, untouched=untouched, seed=settings.seed,
            memory_budget=memory_budget, progress=progress,
        )  # fmt: skip
        if not several or bool(found.units[0]):
            several.append(_edit(classifier, found, start, end, logits))
        if not bool(found.units[0]):  # another search would find the same
            break
        untouched |= found.masks
    notes = [*classifier.notes, *read.notes]
    if len(several) < settings.edits:
        notes.append(
            f"{len(several)} of {settings.edits} edits were found; the search found no other"
        )
    if torch.equal(changed, pixels):
        notes.append(f"{settings.change} changes no pixel of this image")
    if settings.cells.isdigit() and int(settings.cells) >= max(sides := pixels.shape[2:]):
        size = " x ".join(map(str, sides))
        notes.append(f"one cell of {settings.cells} holds all {size} pixels: give smaller cells")
    return SmallestEdit(
        image=read.facts,
        crop=read.crop,
        pixels=to_numpy(pixels[0]),
        changed=to_numpy(changed[0]),
        logits=to_numpy(logits),
        before=best,
        edits=tuple(several),
        choices=replace(
            settings,
            to=None if goal is None else classifier.label(goal),
            fit=settings.fit or classifier.framing.fit,
            region=None,  # the result has it in its own pixels
            mask=None,
            box=None,
        ),
        model=classifier.describe(),
        threads=torch.get_num_threads(),
        versions=versions(),
        notes=tuple(notes),
        region=classifier.region,
    )


def _edit(
    classifier: Classifier, found: SmallestEdits, start: Tensor, end: Tensor, logits: Tensor
) -> Edit:
    """The edit of one image with the probabilities on the way to it."""
    order, units = found.order, int(found.units[0])
    steps = np.unique(np.linspace(0, units, min(units, _POINTS) + 1).round().astype(int))
    with torch.no_grad():
        taken = ((order > 0) & (order <= int(step)) for step in steps)
        path = torch.cat([classifier(torch.where(mask, end, start)) for mask in taken])
    chances = classifier.probabilities(path.double())
    best, new = (single.top_predictions(classifier, one) for one in (logits, path[-1]))
    rival = new[0].index if new[0].index != best[0].index else int(path[0].argmax())
    return Edit(
        order=to_numpy(order[0]),
        reached=bool(found.reached[0]),
        minimal=bool(found.minimal[0]),
        units=units,
        logits=to_numpy(path[-1]),
        after=new,
        shown=tuple(
            (single.prediction(classifier, logits, k), single.prediction(classifier, path[-1], k))
            for k in dict.fromkeys(p.index for p in (*best, *new))
        ),
        steps=tuple(steps.tolist()),
        path=tuple(chances[:, best[0].index].tolist()),
        rival=classifier.label(rival),
        path_rival=tuple(chances[:, rival].tolist()),
        gradients=int(found.gradients[0]),
        predictions=int(found.predictions[0]),
    )
