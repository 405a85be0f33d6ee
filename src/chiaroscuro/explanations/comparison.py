"""One image through several classifiers, and how their maps differ."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from chiaroscuro import choices
from chiaroscuro.choices import Fill, Fit, Rivals, Score
from chiaroscuro.classifier import Classifier, Picture
from chiaroscuro.errors import ChoiceError
from chiaroscuro.explanations.change import what_if
from chiaroscuro.explanations.reading import Target, as_classifier
from chiaroscuro.explanations.single import explain
from chiaroscuro.images import to_uint8
from chiaroscuro.metrics import map_similarity
from chiaroscuro.render import enlarged, outlined
from chiaroscuro.results.explanations import Comparison, Detail, Explanation, MapPair, Pair, WhatIf

Progress = Callable[[int, int, int], object]
"""Called with (position of the classifier, class gradients done, class gradients in all)."""


def compare(
    classifiers: Sequence[Classifier | nn.Module],
    image: Picture,
    *,
    target: Target | None = None,
    maps: str | Iterable[str] = choices.EXPLAIN_MAPS,
    rivals: Rivals = "all",
    score: Score = "logit",
    method: Any = "gradient",
    fit: Fit | None = None,
    details: Callable[[Classifier, Explanation], Detail] | None = None,
    progress: Progress = lambda place, done, total: None,
) -> Comparison:
    """Explain one image by several classifiers for the same class, and compare their maps.

    `target`: a class by index or name; None for the class that the first classifier predicts, which
    the others look up by name where both have names, else by index. Other choices as in `explain`.
    `maps` are those that order pixels. `details` is called for each classifier and says what else
    to show, such as `what_if_detail(...)`.

    Raises `ChoiceError` for fewer than two classifiers or a class that one of them does not know,
    and what `explain` raises.

    >>> nets = [torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5)) for _ in "ab"]
    >>> comparison = compare([Classifier(net, size=8) for net in nets], np.zeros((8, 8, 3)))
    >>> comparison.names, comparison.pairs[0].maps["active"].difference.shape
    (('1 Sequential', '2 Sequential'), (8, 8))
    """
    names = choices.check_names("map", maps, choices.RANKING_MAPS)
    if len(classifiers) < 2:
        raise ChoiceError(f"{len(classifiers)} classifiers to compare: give at least two")
    used = [as_classifier(classifier) for classifier in classifiers]
    explanations: list[Explanation] = []
    for place, classifier in enumerate(used):
        same = _same_class(used[0], explanations[0], classifier) if explanations else target
        explanations.append(
            explain(
                classifier, image, target=same, maps=names, rivals=rivals, score=score,
                method=method, fit=fit, progress=partial(progress, place),
            )
        )  # fmt: skip
    shown = zip(used, explanations, strict=True)
    return Comparison(
        names=tuple(f"{i} {Path(c.name).name}" for i, c in enumerate(used, 1)),
        explanations=tuple(explanations),
        pairs=tuple(_pair(explanations[0], e, n) for n, e in enumerate(explanations[1:], 1)),
        details=tuple(details(c, e) for c, e in shown) if details else (),
    )


def what_if_detail(
    image: Picture,
    fill: str | Fill,
    fraction: float = choices.WHAT_IF_FRACTION,
    map: str = "active",
    fit: Fit | None = None,
) -> Callable[[Classifier, Explanation], Detail]:
    """What `compare(details=...)` takes: a what-if with each classifier's own top pixels of `map`.

    `fill`, `fraction`: as in `what_if`. Raises `ChoiceError` for an unknown fill.
    """
    chosen = choices.parse_fill(fill)

    def detail(classifier: Classifier, explanation: Explanation) -> Detail:
        result = what_if(
            classifier, image, map, fraction, chosen, target=explanation.target.index,
            rivals=explanation.choices.rivals, fit=fit,
        )  # fmt: skip
        title = f"what if the top {100 * fraction:g} % of its {map} map become {chosen}?"
        after = outlined(to_uint8(result.edited), result.changed)
        return Detail(title, _lines(result), enlarged(after))

    return detail


def _lines(result: WhatIf) -> tuple[str, ...]:
    before, after = result.before[0], result.after[0]
    flip = f"changes to {after.label}" if result.flipped else f"stays {after.label}"
    return (
        f"logit of {result.target.label}: predicted {result.predicted:+.2f}, "
        f"actual {result.actual:+.2f}",
        f"predicted class {before.label} ({100 * before.probability:.1f} %) {flip} "
        f"({100 * after.probability:.1f} %)",
        f"first order is valid up to a step of {result.valid_step:.3g}",
    )


def _same_class(first: Classifier, explained: Explanation, other: Classifier) -> int:
    """The other classifier's index of the target class: by any of its names, else by index."""
    label = explained.target.label
    if first.labels is None or other.labels is None or first.labels == other.labels:
        return other.class_index(explained.target.index)
    if label in other.labels:
        return other.labels.index(label)
    known = {name for text in other.labels for name in text.casefold().split(", ")}
    names = (name.strip() for name in label.split(","))
    return other.class_index(next((name for name in names if name.casefold() in known), label))


def _pair(first: Explanation, other: Explanation, place: int) -> Pair:
    if not np.array_equal(first.pixels, other.pixels):
        sizes = (" x ".join(map(str, e.pixels.shape[:0:-1])) for e in (first, other))
        return Pair(place, {}, f"the networks see different pixels ({' and '.join(sizes)})")
    pixels, maps = torch.from_numpy(first.pixels)[None], {}
    for name, values in first.maps.items():
        a, b = (torch.from_numpy(v.astype(np.float64))[None] for v in (values, other.maps[name]))
        similar = map_similarity(a, b, pixels)
        difference = (_unit(b) - _unit(a))[0].numpy()
        maps[name] = MapPair(difference, float(similar.correlation), float(similar.overlap))
    return Pair(place, maps)


def _unit(values: Tensor) -> Tensor:
    """A map divided by its root mean square; a map of zeros stays."""
    size = values.square().mean().sqrt()
    return values / size if size > 0 else values
