"""One image through several classifiers, and how their maps differ."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chiaroscuro.choices import EXPLAIN_MAPS, RANKING_MAPS, Fit, Rivals, Score, check_names
from chiaroscuro.classifier import Classifier
from chiaroscuro.comparisons.comparison import Beside, Comparison, MapPair, Pair
from chiaroscuro.errors import ChoiceError
from chiaroscuro.explanations import Explanation, explain
from chiaroscuro.explanations.reading import ImageLike
from chiaroscuro.metrics import map_similarity

Progress = Callable[[int, int, int], object]
"""Called with (place of the classifier, class gradients done, class gradients in all)."""


def compare(
    classifiers: Sequence[Classifier],
    image: ImageLike,
    *,
    target: int | str | None = None,
    maps: str | Iterable[str] = EXPLAIN_MAPS,
    rivals: Rivals = "all",
    score: Score = "logit",
    method: str = "gradient",
    fit: Fit | None = None,
    beside: Callable[[Classifier, Explanation], Beside] | None = None,
    progress: Progress = lambda place, done, total: None,
) -> Comparison:
    """Explain one image by several classifiers for the same class, and set their maps side by side.

    `target`: a class by index or name; None for the class that the first classifier predicts, which
    the others look up by name where both have names, else by index. Other choices as in `explain`.
    `maps` are those that order pixels. `beside` is asked for each classifier what else to show.

    Raises `ChoiceError` for fewer than two classifiers or a class that one of them does not know,
    and what `explain` raises.

    >>> nets = [torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 5)) for _ in "ab"]
    >>> found = compare([Classifier(net, size=8) for net in nets], np.zeros((8, 8, 3)))
    >>> found.names, found.pairs[0].maps["active"].difference.shape
    (('1 Sequential', '2 Sequential'), (8, 8))
    """
    names = check_names("map", maps, RANKING_MAPS)
    if len(classifiers) < 2:
        raise ChoiceError(f"{len(classifiers)} classifiers to compare: give at least two")
    found: list[Explanation] = []
    for place, classifier in enumerate(classifiers):
        wanted = _same_class(classifiers[0], found[0], classifier) if found else target
        made = explain(
            classifier, image, target=wanted, maps=names, rivals=rivals, score=score,
            method=method, fit=fit, progress=lambda *told, at=place: progress(at, *told),
        )  # fmt: skip
        found.append(made)
    told = (beside(c, e) for c, e in zip(classifiers, found, strict=True)) if beside else ()
    return Comparison(
        names=tuple(f"{i} {Path(c.name).name}" for i, c in enumerate(classifiers, 1)),
        explanations=tuple(found),
        pairs=tuple(_pair(found[0], other, place) for place, other in enumerate(found[1:], 1)),
        beside=tuple(told),
    )


def _same_class(first: Classifier, found: Explanation, other: Classifier) -> int:
    """The other classifier's index of the class that was explained."""
    index = found.target.index
    if first.labels is None or other.labels is None or first.labels == other.labels:
        return other.class_index(index)
    try:
        return other.labels.index(found.target.label)
    except ValueError:
        names = (name.strip() for name in found.target.label.split(","))
        known = {name: None for label in other.labels for name in label.casefold().split(", ")}
        shared = next((name for name in names if name.casefold() in known), found.target.label)
        return other.class_index(shared)


def _pair(first: Explanation, other: Explanation, place: int) -> Pair:
    if first.pixels.shape != other.pixels.shape or not np.array_equal(first.pixels, other.pixels):
        sizes = (" x ".join(map(str, e.pixels.shape[:0:-1])) for e in (first, other))
        return Pair(place, {}, f"they see different pixels ({' and '.join(sizes)})")
    pixels = torch.from_numpy(first.pixels)[None]
    maps = {}
    for name, values in first.maps.items():
        a, b = (torch.from_numpy(v.astype(np.float64))[None] for v in (values, other.maps[name]))
        alike = map_similarity(a, b, pixels)
        difference: NDArray[np.float64] = (_unit(b) - _unit(a))[0].numpy()
        maps[name] = MapPair(difference, float(alike.correlation), float(alike.overlap))
    return Pair(place, maps)


def _unit(values: Tensor) -> Tensor:
    """A map divided by its root mean square; a map of zeros stays."""
    size = values.square().mean().sqrt()
    return values / size if size > 0 else values
