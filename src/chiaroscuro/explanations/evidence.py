"""How far the maps of one image can be believed: each map is tested, each region changed once."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chiaroscuro import edits
from chiaroscuro.choices import MAPS, RANKING_MAPS, SMOOTHING, RivalRule, Score, check_names
from chiaroscuro.classifier import Classifier
from chiaroscuro.classifier.copies import all_random
from chiaroscuro.device import device_profile
from chiaroscuro.errors import InputError, ModelError
from chiaroscuro.gradients import Points, class_gradients, target_gradients
from chiaroscuro.guard import as_found
from chiaroscuro.maps import saliency_maps
from chiaroscuro.metrics.agreement import average_ranks, ranks_correlation, top_count
from chiaroscuro.metrics.deletion import Edit, predict_edits
from chiaroscuro.metrics.linearity import Linearity
from chiaroscuro.render.pictures import smooth
from chiaroscuro.results.explanations import Evidence, MapEvidence, RegionEvidence, Views
from chiaroscuro.results.facts import Prediction
from chiaroscuro.shortcuts import shortcuts
from chiaroscuro.units import units

NOISE, SHARE = 0.02, 0.05
"""Width of the noise, and the share of pixels that are changed."""
CHANGE = "blur:0.1"
"""What a region becomes: its details go, its color and brightness stay."""
STEPS = tuple(2.0**-power for power in range(6, -1, -1))
"""Shares of a change at which the linear prediction is compared with the network."""
_ORDERS_FROM = 1000
"""Random orders have seeds from here on; the first ones break ties."""
_LEAST_SUPERPIXELS = 64
"""Shorter sides below this have cells of a grid: superpixels of a few pixels follow noise."""
Several = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is tried: noisy copies, random orders, classes under noise, regions a side; and
    networks with random weights, for images of so many pixels at most.
    """

    copies: int
    orders: int
    classes: float
    across: int
    networks: int
    pixels: float


EFFORTS = {
    "quick": Effort(1, 3, 51, 7, 9, 64 * 64),
    "full": Effort(5, 20, torch.inf, 10, 19, torch.inf),
}
"""By name; see `choices.EVIDENCE`."""


@dataclass(frozen=True, eq=False)
class Explained:
    """One image and how its maps were made: `pixels` (1, C, H, W), `maps` (1, H, W)."""

    classifier: Classifier
    pixels: Tensor
    maps: Several
    target: int
    rule: RivalRule
    method: Any
    score: Score
    seed: int = 0
    memory_budget: int | None = None

    @property
    def column(self) -> Tensor:
        """The target as (1,)."""
        return torch.tensor([self.target], device=self.pixels.device)

    def maps_of(self, pixels: Tensor, rule: RivalRule) -> Several:
        """The same maps of other images (B, C, H, W), for the same class."""
        several = self.column.expand(len(pixels))
        how = (rule, self.method, self.score, self.memory_budget)
        gradients = class_gradients(self.classifier, pixels, several, *how)
        return saliency_maps(gradients, [*self.maps])

    def probability(self, logits: Tensor) -> Tensor:
        """Of the target, of logits (..., K)."""
        return self.classifier.probabilities(logits.double())[..., self.target]


def find_evidence(explained: Explained, effort: str) -> Evidence:
    """Every test of the maps that order pixels, and the regions of the image."""
    tried, pixels = EFFORTS[check_names("evidence", [effort], EFFORTS)[0]], explained.pixels
    maps = {name: values for name, values in explained.maps.items() if name in RANKING_MAPS}
    explained = replace(explained, maps=maps)
    with torch.no_grad():
        logits = explained.classifier(pixels)
    rule, stability = _stability(explained, tried, logits.shape[1])
    ways = {name: (values, smoothed(values)) for name, values in maps.items()}
    drops, random = _drops(explained, tried, ways)
    others = _random_networks(explained, tried)
    point = Points(pixels[None], pixels.new_ones(1, 1))
    gradient = target_gradients(explained.classifier, point, explained.column, "logit")[0]
    steps = _linear_steps(explained, gradient, logits)
    cells = cells_of(pixels, tried.across)
    ids = units(pixels, cells)
    regions, agreement = region_evidence(explained, ids, gradient, logits)
    return Evidence(
        effort=effort,
        noise=NOISE,
        rivals=str(rule),
        share=SHARE,
        maps={
            name: MapEvidence(
                fill=_fill(name),
                stability=stability[name],
                half=Views(*map(half_area, ways[name])),
                drop=drops[name],
                linear_step=steps[name],
                constant=bool((values == values.flatten()[0]).all()),
                rank=1 + sum(one[name] >= drops[name].pixels for one in others) if others else None,
            )
            for name, values in maps.items()
        },
        random=random,
        cells=cells,
        change=CHANGE,
        units=ids[0].cpu().numpy().astype(np.int32),
        regions=regions,
        agreement=agreement,
        seed=explained.seed,
        networks=len(others),
    )


def smoothed(values: Tensor) -> Tensor:
    """Maps (B, H, W) under the Gaussian of the smoothed view; of volumes each slice (H, W)."""
    sigma = SMOOTHING * min(values.shape[1:])
    flat = values.flatten(0, -3).cpu().numpy()
    drawn = np.stack([smooth(one, sigma) for one in flat])
    return torch.from_numpy(drawn).view(values.shape).to(values.device)


def half_area(values: Tensor) -> float:
    """The smallest share of pixels that holds half of the sum of a map's sizes; 1 for no sum."""
    sizes = values.abs().double().flatten().sort(descending=True).values.cumsum(0)
    if not sizes[-1] > 0:
        return 1.0
    return (int(torch.searchsorted(sizes, sizes[-1:] / 2)) + 1) / len(sizes)


def _fill(name: str) -> str:
    """What a map's highest pixels become: what takes away what helps the class there."""
    return "white" if MAPS[name].helps == "darker" else "black"


def cells_of(pixels: Tensor, across: int) -> str:
    """The regions of images (B, C, H, W): superpixels, so many along the shorter side, or cells."""
    shorter = min(pixels.shape[2:])
    side = max(1, round(shorter / across))
    return f"superpixels:{side}" if shorter >= _LEAST_SUPERPIXELS else str(side)


def _stability(
    explained: Explained, tried: Effort, classes: int
) -> tuple[RivalRule, dict[str, Views]]:
    """Rank correlations with the maps of noisy copies, and the rivals for which they are."""
    pixels, rule, clean = explained.pixels, explained.rule, explained.maps
    if rule.most_classes(classes) > tried.classes:
        rule = RivalRule(count=int(tried.classes) - 1)
        clean = explained.maps_of(pixels, rule)
    copies = [edits.noisy(pixels, NOISE, explained.seed, draw) for draw in range(tried.copies)]
    moved = explained.maps_of(torch.cat(copies), rule)

    def correlation(first: Tensor, others: Tensor) -> float:
        ranks = average_ranks(first.flatten(1)).expand(len(others), -1)
        return float(ranks_correlation(ranks, average_ranks(others.flatten(1))).mean())

    found = {}
    for name, values in clean.items():
        soft = correlation(smoothed(values), smoothed(moved[name]))
        found[name] = Views(correlation(values, moved[name]), soft)
    return rule, found


def _drops(
    explained: Explained, tried: Effort, ways: Mapping[str, tuple[Tensor, Tensor]]
) -> tuple[dict[str, Views], dict[str, tuple[Views, ...]]]:
    """What the target's probability loses by each map's top pixels, and by random orders' by fill.

    The control of smoothed maps are orders by smoothed noise, whose top pixels lie together too.
    """
    pixels, seeds = explained.pixels, range(_ORDERS_FROM, _ORDERS_FROM + tried.orders)
    places = [edits.pixel_rank(edits.tie_priority(pixels, explained.seed + n)) for n in seeds]
    noise = [rank.view_as(pixels[:, 0]).double() for rank in places]
    controls = [values for one in noise for values in (one, smoothed(one))]
    drops: dict[str, Views] = {}
    random: dict[str, tuple[Views, ...]] = {}
    for fill in dict.fromkeys(map(_fill, ways)):
        own = {name: pair for name, pair in ways.items() if _fill(name) == fill}
        lost = _lost(
            explained, fill, [*controls, *(view for pair in own.values() for view in pair)]
        )
        pairs = [Views(*lost[i : i + 2]) for i in range(0, len(lost), 2)]
        random[fill] = tuple(pairs[: tried.orders])
        drops |= dict(zip(own, pairs[tried.orders :], strict=True))
    return drops, random


def _lost(explained: Explained, fill: str, maps: Sequence[Tensor]) -> list[float]:
    """What the target's probability loses when the highest pixels of maps (1, H, W) are filled."""
    pixels, priority = explained.pixels, edits.tie_priority(explained.pixels, explained.seed)
    count = torch.tensor([[top_count(priority.shape[1], SHARE)]], device=pixels.device)
    orders = [Edit(edits.pixel_order(values, priority), count) for values in maps]
    changed = edits.filled(pixels, fill, explained.seed)
    clean, results = predict_edits(explained.classifier, pixels, changed, orders)
    after = torch.stack([result.logits[0, 0] for result in results])
    lost: list[float] = (explained.probability(clean) - explained.probability(after)).tolist()
    return lost


def _random_networks(explained: Explained, tried: Effort) -> list[dict[str, float]]:
    """What the top pixels of the maps of networks with random weights cost the explained one."""
    pixels, drawn = explained.pixels, list[dict[str, float]]()
    if not explained.maps or pixels[0, 0].numel() > tried.pixels:
        return drawn
    for draw in range(tried.networks):
        try:
            other = all_random(explained.classifier, explained.seed, draw)
            maps = replace(explained, classifier=other).maps_of(pixels, explained.rule)
        except (ModelError, InputError):  # no copy, no weights, or no gradients with these
            return []
        drawn.append({name: _lost(explained, _fill(name), [one])[0] for name, one in maps.items()})
    return drawn


def _linear_steps(explained: Explained, gradient: Tensor, logits: Tensor) -> dict[str, float]:
    """How far each map's change goes as its gradient (C, H, W) predicts for the target."""
    if not explained.maps:
        return {}
    pixels, priority = explained.pixels, edits.tie_priority(explained.pixels, explained.seed)
    count = torch.tensor([top_count(priority.shape[1], SHARE)], device=pixels.device)
    ends = []
    for name, values in explained.maps.items():
        rank = edits.pixel_rank(edits.pixel_order(values, priority))
        changed = edits.filled(pixels, _fill(name), explained.seed)
        ends.append(edits.apply_edit(pixels, changed, rank, count))
    edited, own = torch.cat(ends), logits[:, explained.column]
    predicted = ((edited - pixels) * gradient).flatten(1).sum(dim=1)[:, None]
    valid, alive = torch.zeros(len(edited)), torch.arange(len(edited))
    for step in STEPS:
        after = _logits(explained.classifier, (torch.lerp(pixels, edited[alive], step),))
        actual = (after[:, explained.column] - own)[:, None]
        found = Linearity((step,), own, predicted[alive], actual, alive)
        alive = alive[found.within_tolerance(torch.zeros(len(alive), dtype=torch.long))[:, 0].cpu()]
        valid[alive] = step
        if not len(alive):
            break
    return dict(zip(explained.maps, valid.tolist(), strict=True))


def region_evidence(
    explained: Explained, ids: Tensor, gradient: Tensor, logits: Tensor
) -> tuple[tuple[RegionEvidence, ...], float]:
    """Each unit of ids (1, H, W) changed alone, the one that costs the target most first.

    Also the rank correlation of predicted and actual changes of the target's logit.
    """
    classifier, pixels, target = explained.classifier, explained.pixels, explained.target
    changed = edits.filled(pixels, CHANGE, explained.seed)
    count = int(ids.max()) + 1
    effect = ((changed - pixels) * gradient).sum(dim=1).double().flatten()
    predicted = torch.zeros(count, dtype=torch.double, device=ids.device)
    predicted.index_add_(0, ids.flatten(), effect)
    rows = max(1, device_profile(pixels.device).forward_bytes // pixels.nbytes)

    def changes() -> Iterator[Tensor]:
        for some in torch.split(torch.arange(count, device=ids.device), rows):
            inside = ids == some.view(-1, *(1,) * (ids.ndim - 1))
            yield torch.where(inside[:, None], changed, pixels)

    after, before = _logits(classifier, changes()).double(), logits.double()
    actual = after[:, target] - before[:, target]
    chances = classifier.probabilities(after)
    gains = chances - classifier.probabilities(before)
    own = gains[:, target].clone()
    gains[:, target] = -torch.inf
    gain, best = gains.max(dim=1)
    sizes = torch.bincount(ids.flatten(), minlength=count) / ids.numel()
    found = []
    for n in torch.argsort(own, stable=True).tolist():
        k, winner = int(best[n]), None
        if gain[n] > 0:
            winner = Prediction(k, classifier.label(k), float(after[n, k]), float(chances[n, k]))
        area, expected, moved, change = (float(x[n]) for x in (sizes, predicted, actual, own))
        more = winner, max(float(gain[n]), 0.0)
        found.append(RegionEvidence(n, area, expected, moved, change, *more))
    ranks = [average_ranks(each[None].cpu()) for each in (predicted, actual)]
    return tuple(found), float(ranks_correlation(*ranks))


def _logits(classifier: Classifier, parts: Iterable[Tensor]) -> Tensor:
    """Logits (B, K) of images that come a few at a time."""
    module = classifier.module
    with torch.no_grad(), as_found(module), shortcuts(module):
        return torch.cat([classifier.logits(part) for part in parts])
