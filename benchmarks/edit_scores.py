"""Scores that an edit map does not optimize: other fills, keeping, insertion, ROAD, sanity."""

import copy
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import pad

from chiaroscuro import Classifier, class_gradients, edit_map, saliency_maps
from chiaroscuro.edits import matched_counts, pixel_order, pixel_rank, tie_priority
from chiaroscuro.metrics import curves_by_fill
from chiaroscuro.metrics.agreement import ranks_correlation
from chiaroscuro.metrics.intervals import BootstrapMeans

FILL = "black"
OTHER_FILLS = ("white", "mean", "blur", "noise")
SHARES = (0.0, 0.03, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5)
_SWEEPS = 60
_NOISE = 0.01
Floats = NDArray[np.float64]
Maps = Mapping[str, Tensor]


Found = dict[str, dict[str, Floats]]
"""Values (B,) by column and map."""


def report(classifier: Classifier, pixels: Tensor, target: Tensor, batch: int) -> None:
    """Every score of maps for black-deletion, and the sanity checks, as two tables."""
    for title, work in (("map", scores_of), ("rank correlation with", sanity)):
        parts = zip(torch.split(pixels, batch), torch.split(target, batch), strict=True)
        print(_table(title, [work(classifier, some, classes) for some, classes in parts]) + "\n")


def _table(title: str, parts: list[Found]) -> str:
    lines = [f"| {title} | {' | '.join(parts[0])} |", f"|{'---|' * (1 + len(parts[0]))}"]
    for name in next(iter(parts[0].values())):
        cells = [_text(np.concatenate([part[c][name] for part in parts])) for c in parts[0]]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def maps_of(
    classifier: Classifier,
    pixels: Tensor,
    target: Tensor,
    generator: torch.Generator | None = None,
    fill: str = FILL,
) -> dict[str, Tensor]:
    """The maps that are compared, edit maps for one fill."""
    gradients = class_gradients(classifier, pixels, target, "top:5")
    return {
        **saliency_maps(gradients, ["original", "positive"]),
        "expected-effect": edit_map(classifier, pixels, fill, target=target),
        "partial-edit": edit_map(
            classifier, pixels, fill, "partial-edit", target=target, generator=generator
        ),
    }


def scores_of(classifier: Classifier, pixels: Tensor, target: Tensor) -> Found:
    """Deletion by several fills and ROAD: lower is better; keeping and insertion: higher."""
    maps = maps_of(classifier, pixels, target)
    orders = {**maps, "random": tie_priority(pixels, 1).float().view_as(pixels[:, 0])}
    scores = {}
    for fill in (FILL, *OTHER_FILLS):
        curves = curves_by_fill(
            classifier, pixels, orders, [fill], SHARES, ["matched"], target=target
        )[fill]
        scores[f"{fill}-deletion"] = {
            n: curves["matched", n].areas(by_range=True).numpy() for n in orders
        }
    # From a map's lowest pixel on, deletion leaves its top: read backwards, it is insertion.
    most = tuple(sorted(round(1 - share, 2) for share in SHARES[1:]))
    for fill, title in ((FILL, "keep the top on black"), ("blur:0.2", "insertion into blur")):
        curves = curves_by_fill(
            classifier, pixels, orders, [fill], (0.0, *most), ["matched"], target=target
        )[fill]
        scores[title] = {
            n: _over(curves["matched", f"inverted:{n}"].allegiance[:, 1:].double().numpy(), most)
            for n in orders
        }
    scores["ROAD"] = {n: road(classifier, pixels, target, values) for n, values in orders.items()}
    return scores


def _over(kept: Floats, shares: tuple[float, ...]) -> Floats:
    areas: Floats = np.asarray(np.trapezoid(kept, shares, axis=-1))
    return areas / (shares[-1] - shares[0])


def road(
    classifier: Classifier,
    pixels: Tensor,
    target: Tensor,
    values: Tensor,
    shares: tuple[float, ...] = SHARES,
) -> Floats:
    """Share of fractions, by area, that keep the class while top pixels are imputed from the rest.

    Noisy linear imputation (Rong et al., A consistent and efficient evaluation strategy for
    attribution methods, 2022): a removed pixel is the weighted mean of its neighbors, direct ones
    1/6, diagonal ones 1/12, plus noise of standard deviation 0.01; the equations are solved by
    Gauss-Jacobi sweeps from the mean of the image.
    """
    rank = pixel_rank(pixel_order(values, tie_priority(pixels)))
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(0)) * _NOISE
    kept = []
    for count in matched_counts(values, shares)[0].tolist():
        hole = (rank < count).view_as(pixels[:, :1])
        with torch.no_grad():
            logits = classifier((_imputed(pixels, hole) + noise * hole).clamp(0, 1))
        kept.append((logits.argmax(dim=1) == target).double())
    return _over(torch.stack(kept, dim=1).numpy(), shares)


def _imputed(pixels: Tensor, hole: Tensor) -> Tensor:
    inside = _near(torch.ones_like(pixels[:1, :1]))
    guess = torch.where(hole, pixels.mean(dim=(2, 3), keepdim=True), pixels)
    for _ in range(_SWEEPS):
        guess = torch.where(hole, _near(guess) / inside, pixels)
    return guess


def _near(values: Tensor) -> Tensor:
    """The weighted sum of the eight neighbors: 2 for direct ones, 1 for diagonal ones."""
    rows = pad(values, (0, 0, 1, 1))
    rows = rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]
    columns = pad(rows, (1, 1))
    return columns[..., :-2] + 2 * columns[..., 1:-1] + columns[..., 2:] - 4 * values


def sanity(classifier: Classifier, pixels: Tensor, target: Tensor) -> Found:
    """Spearman's rank correlation of each map with the same map under other conditions."""
    with torch.no_grad():
        second = classifier(pixels).scatter(1, target[:, None], -torch.inf).argmax(dim=1)
    own = maps_of(classifier, pixels, target)
    other_seed = torch.Generator().manual_seed(1)
    others: dict[str, Callable[[], Maps]] = {
        "random weights": lambda: maps_of(randomized(classifier), pixels, target),
        "the second class": lambda: maps_of(classifier, pixels, second),
        "other points": lambda: maps_of(classifier, pixels, target, other_seed),
        "the map for white": lambda: maps_of(classifier, pixels, target, fill="white"),
    }
    scores: Found = {}
    for title, make in others.items():
        other = make()
        scores[title] = {name: spearman(own[name], other[name]) for name in own}
    return scores


def randomized(classifier: Classifier) -> Classifier:
    """The classifier with every weight drawn again, as each layer's own initialization does."""
    other = copy.copy(classifier)
    other.module = copy.deepcopy(classifier.module)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for part in other.module.modules():
            if isinstance(part, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
                part.reset_parameters()
    return other


def spearman(one: Tensor, two: Tensor) -> Floats:
    ranks = (pixel_rank(pixel_order(values)).double() for values in (one, two))
    correlation: Floats = ranks_correlation(*ranks).numpy()
    return correlation


def _text(values: Floats) -> str:
    means = BootstrapMeans(1, 1000, 0)
    means.add(values[:, None])
    interval = means.interval()
    return f"{interval.value[0]:.3f} [{interval.low[0]:.3f}, {interval.high[0]:.3f}]"
