"""Saliency maps, pure functions of class gradients; and edit maps, made for a given change."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from chiaroscuro import choices, edits
from chiaroscuro.choices import Fill, Kind, Normalize, OwnScore, Reduce, as_int, check_names
from chiaroscuro.classifier import Classifier
from chiaroscuro.device import device_profile
from chiaroscuro.errors import ChoiceError, ImageError, InputError, brief
from chiaroscuro.gradients import ClassGradients, Points, target_gradients

Values = Callable[[ClassGradients], Tensor]
Elements = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class SaliencyMap:
    """One row of `MAPS`: what is computed per channel, on which entries, and how channels join.

    `values` and `mask` take class gradients to (B, C, H, W); `pixel` takes the values to (B, H, W).
    Values are 0 (or -1 for classes) off the mask. `classes`: the map needs the extremes' classes.
    """

    values: Values
    mask: Values
    pixel: Elements
    classes: bool = False


@dataclass(frozen=True, eq=False)
class Support:
    """The share of a map's mask, per image (B,): of `pixels` (any channel) and of all `entries`."""

    pixels: Tensor
    entries: Tensor
    __repr__ = brief


class SaliencyMaps(dict[str, Tensor]):
    """Maps by name, (B, H, W) or (B, C, H, W), with the `support` of each."""

    def __init__(self, maps: dict[str, Tensor], support: dict[str, Support]) -> None:
        super().__init__(maps)
        self.support = support

    def __repr__(self) -> str:
        return f"SaliencyMaps({', '.join(f'{k} {tuple(v.shape)}' for k, v in self.items())})"


def active_mask(gradients: ClassGradients) -> Tensor:
    """Where the target's gradient is above every rival's; ties are left out."""
    return gradients.target_gradient > gradients.rival_max


def inactive_mask(gradients: ClassGradients) -> Tensor:
    """Where the target's gradient is below every rival's; ties are left out."""
    return gradients.target_gradient < gradients.rival_min


def _either(gradients: ClassGradients) -> Tensor:
    return active_mask(gradients) | inactive_mask(gradients)


def _competition_mask(gradients: ClassGradients) -> Tensor:
    own = gradients.target_gradient
    return ((own > 0) & active_mask(gradients)) | ((own < 0) & inactive_mask(gradients))


def _signed(gradients: ClassGradients) -> Tensor:
    size = gradients.target_gradient.abs()
    below = torch.where(inactive_mask(gradients), -size, 0)
    return torch.where(active_mask(gradients), size, below)


def _margin(gradients: ClassGradients) -> Tensor:
    """relu(g_c - max rival) - relu(min rival - g_c): the lead over the nearest rival."""
    own = gradients.target_gradient
    lead = (own - gradients.rival_max).relu() - (gradients.rival_min - own).relu()
    top = torch.finfo(lead.dtype).max
    return lead.clamp(-top, top)


def _winner(gradients: ClassGradients) -> Tensor:
    """The class of the largest gradient, -1 on a tie, and that gradient: (B, C, H, W, 2)."""
    own, rival, leader = gradients.target_gradient, gradients.rival_max, gradients.rival_argmax
    if leader is None:
        raise InputError("map 'winner' needs rival_argmax: call class_gradients(..., argmax=True)")
    leader = torch.where(own > rival, gradients.target.view(-1, *(1,) * (own.ndim - 1)), leader)
    leader = torch.where(own == rival, -1, leader)
    height = torch.maximum(own, rival)
    exact = torch.promote_types(height.dtype, torch.float32)  # holds every class index
    return torch.stack([leader.to(exact), height.to(exact)], dim=-1)


def channel_max(values: Tensor) -> Tensor:
    """The largest value over channels."""
    return values.amax(dim=1)


def channel_largest(values: Tensor) -> Tensor:
    """The value of largest magnitude over channels; equal opposite magnitudes give 0."""
    high, low = values.amax(dim=1), values.amin(dim=1)
    return torch.where(high > -low, high, torch.where(high < -low, low, 0))


def _channel_winner(values: Tensor) -> Tensor:
    """The class of the channel with the largest gradient; -1 when channels disagree at the top."""
    leader, height = values.unbind(dim=-1)
    top = height == height.amax(dim=1, keepdim=True)
    highest = torch.where(top, leader, -torch.inf).amax(dim=1)
    lowest = torch.where(top, leader, torch.inf).amin(dim=1)
    return torch.where(highest == lowest, highest, -1).long()


def _masked(mask: Values, of: Elements = torch.abs, pixel: Elements = channel_max) -> SaliencyMap:
    """`of` the target's gradient on the mask, else 0."""
    return SaliencyMap(lambda g: torch.where(mask(g), of(g.target_gradient), 0), mask, pixel)


MAPS: dict[str, SaliencyMap] = {
    "original": _masked(lambda g: g.target_gradient != 0),
    "positive": _masked(lambda g: g.target_gradient > 0),
    "negative": _masked(lambda g: g.target_gradient < 0),
    "active": _masked(active_mask),
    "inactive": _masked(inactive_mask),
    "signed": SaliencyMap(_signed, _either, channel_largest),
    "margin": SaliencyMap(_margin, _either, channel_largest),
    "competition": _masked(_competition_mask, torch.positive, channel_largest),
    "winner": SaliencyMap(_winner, lambda g: _winner(g)[..., 0] >= 0, _channel_winner, True),
    "active-printed": _masked(lambda g: g.target_gradient >= g.rival_max, torch.positive),
    "inactive-printed": _masked(lambda g: g.target_gradient <= g.rival_min, torch.positive),
}


def needs_classes(names: Iterable[str]) -> bool:
    """Whether any of these maps needs `class_gradients(..., argmax=True)`."""
    return any(MAPS[name].classes for name in check_names("map", names, MAPS))


def saliency_maps(
    gradients: ClassGradients,
    names: str | Iterable[str] | None = None,
    normalize: Normalize = "none",
    reduce: Reduce = "max",
) -> SaliencyMaps:
    """The named maps (default: the paper's five) of each image, with their support shares.

    With g_c = `target_gradient`, compared with the rivals' per pixel and channel:
    original = max_ch abs(g_c), positive = max_ch relu(g_c), negative = max_ch relu(-g_c),
    active = max_ch abs(g_c where g_c > max over rivals, else 0),
    inactive = max_ch abs(g_c where g_c < min over rivals, else 0).

    Returns (B, H, W) per map, or (B, C, H, W) for `reduce="none"`, in score per unit of pixel
    value. `normalize="minmax"` scales each image as `scale` does.

    Raises `ChoiceError` for unknown names, `InputError` when 'winner' lacks its classes.
    Source: arXiv:2309.12913, section 3, in the form that its published code computes.

    >>> from chiaroscuro import Classifier, class_gradients
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5))
    >>> maps = saliency_maps(class_gradients(Classifier(net), torch.rand(2, 3, 2, 2)))
    >>> maps["active"].shape, maps.support["active"].pixels.shape
    (torch.Size([2, 2, 2]), torch.Size([2]))
    """
    chosen = check_names("map", choices.PAPER_MAPS if names is None else names, MAPS)
    check_names("normalize", [normalize], choices.NORMALIZATIONS)
    check_names("reduce", [reduce], choices.REDUCTIONS)
    maps, support = {}, {}
    for name in chosen:
        row, kind = MAPS[name], choices.MAPS[name].kind
        values = row.values(gradients)
        if reduce == "max":
            values = row.pixel(values)
        elif kind == "class":
            values = values[..., 0].long()
        maps[name] = scale(values, kind) if normalize == "minmax" else values
        shares = row.mask(gradients).float()
        support[name] = Support(shares.amax(dim=1).flatten(1).mean(1), shares.flatten(1).mean(1))
    return SaliencyMaps(maps, support)


def scale(values: Tensor, kind: Kind) -> Tensor:
    """A map (B, ...) scaled per image: (m - min) / (max - min), or m / max abs(m) if signed.

    A constant map becomes zeros, unless it is signed; class maps stay as they are.
    """
    if kind == "class":
        return values
    flat = values.flatten(1)
    low, high = flat.amin(dim=1, keepdim=True), flat.amax(dim=1, keepdim=True)
    if not (low.isfinite() & high.isfinite()).all():
        raise InputError("map holds values that are not finite: it has no scale")
    if kind == "signed":
        low, high = torch.zeros_like(low), torch.maximum(high, -low)
    span = high - low
    # A span beyond the largest float is halved on both sides of the division.
    wide = span.isinf()
    shifted = torch.where(wide, flat / 2 - low / 2, flat - low)
    divisor = torch.where(wide, high / 2 - low / 2, torch.where(span > 0, span, 1))
    return (shifted / divisor).reshape(values.shape)


@dataclass(frozen=True, eq=False)
class Question:
    """What an edit map is computed from: images, their changed forms, and one seed an image."""

    classifier: Classifier
    pixels: Tensor
    changed: Tensor
    target: int | Sequence[int] | Tensor
    points: int
    seeds: Sequence[int]

    def effect(self, points: Tensor, score: OwnScore) -> Tensor:
        """Minus gradient times change, summed over channels and `points` (P, B, C, H, W)."""
        weights = points.new_ones(points.shape[:2])
        gradient = target_gradients(self.classifier, Points(points, weights), self.target, score)
        return -(gradient * (self.changed - self.pixels)).sum(dim=1)


def edit_map(
    classifier: Classifier,
    pixels: Tensor,
    change: str | Fill | Tensor,
    method: str = "expected-effect",
    points: int | None = None,
    target: int | Sequence[int] | Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """What the target class loses by the change d of each pixel: maps (B, H, W), high = loses most.

    "expected-effect" is -sum_ch (d log p_c / dx) * d, the first-order loss when that pixel alone
    changes, in log-probability. "partial-edit" is -sum_points sum_ch (dS_c / dx) * d, S_c the
    log-odds of the class, at `points` images in which a part of the pixels is changed: first random
    pixels, then those highest in the sum so far. "any-change" is made for no single change: its
    points are changed to the mean and to blurs, at random pixels, at all but the highest in the
    sum so far, and at the highest; every point counts by its direction.

    `pixels` (B, C, H, W) in [0, 1]; `change` is a fill (noise is drawn as by `filled`), or the
    changed pixels (B, C, H, W); "any-change" does not use it. `target`: None for the predicted
    class, an index, or one per image. Points are drawn from `generator` (None is a fixed seed) and
    each image's own values ("any-change": the seed alone): the same map in any batch.
    Cost: one gradient pass per point. `points`: None for 1, 16 and 64; the first is always 1, and
    "any-change" has no more than 64. See docs/results/beyond.md.

    Raises `ImageError`, `ChoiceError` or `ModelError`. Source: this project's.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5))
    >>> edit_map(Classifier(net), torch.rand(2, 3, 2, 2), "black", "partial-edit", 4).shape
    torch.Size([2, 2, 2])
    """
    check_names("edit map", [method], EDIT_MAPS)
    points = _DEFAULT_POINTS.get(method, 16) if points is None else as_int("points", points)
    if points < 1:
        raise ChoiceError(f"points is {points}: expected at least 1")
    classifier.check_pixels(pixels)
    kept = pixels.detach()
    if not isinstance(change, Tensor):
        changed = edits.filled(kept, change)
    elif change.shape == kept.shape:
        edits.check_images(change, "change")
        changed = change.detach().to(kept)
    else:
        shape, expected = tuple(change.shape), tuple(kept.shape)
        raise ImageError(f"change has shape {shape}: expected the pixels' {expected}")
    target = _predicted(classifier, kept) if target is None else target
    seed = 0
    if generator is not None:
        seed = int(torch.randint(2**31, (1,), generator=generator, device=generator.device))
    seeds = edits.image_seeds(kept, seed)
    return EDIT_MAPS[method](Question(classifier, kept, changed, target, points, seeds))


def partial_edit(
    question: Question,
    random: int = 4,
    random_share: tuple[float, float] = (0.0, 0.3),
    guided_share: tuple[float, float] = (0.0, 0.2),
    jitter: float = 0.1,
    score: OwnScore = "log-odds",
) -> Tensor:
    """The effect summed over partly changed images; defaults are tuned (docs/design/edit-maps.md).

    The first `random` points change random pixels, a share drawn from `random_share`; the others
    change the pixels that are highest in the sum so far, a share drawn from `guided_share`, after
    `jitter` times a random number in [0, 1) is added to each pixel's rank / N.
    """
    count = question.pixels[0, 0].numel()
    guided = np.arange(question.points) >= random
    low, high = np.where(guided[:, None], guided_share, random_share).T
    keys = torch.empty(len(question.pixels), question.points, count, device=question.pixels.device)
    changed = keys.new_empty(keys.shape[:2], dtype=torch.long)
    for b, seed in enumerate(question.seeds):
        source = np.random.default_rng(seed)
        share = low + (high - low) * source.random(question.points)
        changed[b] = torch.from_numpy(np.rint(share * count))
        keys[b] = torch.from_numpy(source.random((question.points, count), np.float32))

    def edited(keys: Tensor, p: int) -> Tensor:
        rank = edits.pixel_rank(keys.argsort(dim=1, stable=True))  # the lowest keys are changed
        return edits.apply_edit(question.pixels, question.changed, rank, changed[:, p])

    first = min(random, question.points)
    total = torch.zeros_like(question.pixels[:, 0])
    if first:
        images = [edited(keys[:, p], p) for p in range(first)]
        total = question.effect(torch.stack(images), score)
    for p in range(first, question.points):
        rank = edits.pixel_rank(edits.pixel_order(total)) / count
        total = total + question.effect(edited(rank + jitter * keys[:, p], p)[None], score)
    return total


@dataclass(frozen=True)
class _Part:
    """One point of a map for any change: which pixels are changed, a `share` of them, to what.

    "random" draws pixels and share, and "others" are all that the part before left as they are.
    """

    pixels: Literal["random", "others", "all but highest", "highest"]
    change: str
    share: float = 0.0


ANY_CHANGE = (
    *(
        _Part(pixels, change)
        for change in ("mean", "blur", "black") * 5
        for pixels in ("random", "others")
    ),
    *(_Part("all but highest", "black", share) for share in (0.4, 0.3, 0.2, 0.1)),
    *(
        _Part("highest", change, share)
        for share in np.linspace(0.2, 0.02, 10).tolist()
        for change in ("blur", "mean", "blur:0.03")
    ),
)
"""The points of "any-change" in their order; docs/design/edit-maps.md says why."""
_DEFAULT_POINTS = {"any-change": len(ANY_CHANGE)}


def any_change(question: Question, jitter: float = 0.1, highest_weight: float = 2.0) -> Tensor:
    """The effects of several changes, each scaled to length 1 over the image, summed.

    The images of a seed share all random numbers, so that similar images get similar points.
    """
    parts = ANY_CHANGE[: question.points]
    source = np.random.default_rng(question.seeds[0] >> 32)
    pixels, count = question.pixels, question.pixels[0, 0].numel()
    filled = {change: edits.filled(pixels, change) for change in {part.change for part in parts}}
    total = torch.zeros_like(pixels[:, 0])
    rank, taken = edits.pixel_order(total), 0
    for part in parts:
        if part.pixels != "others":
            keys = torch.from_numpy(source.random((1, count), np.float32)).to(total)
            if part.pixels != "random":
                keys = edits.pixel_rank(edits.pixel_order(total)) / count + jitter * keys
            share = source.random() if part.pixels == "random" else part.share
            rank = edits.pixel_rank(keys.argsort(dim=1, stable=True)).expand(len(pixels), -1)
            taken = round(share * count)
        if part.pixels in ("others", "all but highest"):
            rank, taken = count - 1 - rank, count - taken
        counts = torch.full((len(pixels),), taken, device=pixels.device)
        point = edits.apply_edit(pixels, filled[part.change], rank, counts)
        effect = replace(question, changed=filled[part.change]).effect(point[None], "log-odds")
        flat = effect.flatten(1)
        length = flat.norm(dim=1, keepdim=True).clamp(min=torch.finfo(flat.dtype).tiny)
        weight = highest_weight if part.pixels == "highest" else 1.0
        total = total + weight * (flat / length).view_as(effect)
    return total


EDIT_MAPS: dict[str, Callable[[Question], Tensor]] = {
    "expected-effect": lambda question: question.effect(question.pixels[None], "log-probability"),
    "partial-edit": partial_edit,
    "any-change": any_change,
}


def _predicted(classifier: Classifier, pixels: Tensor) -> Tensor:
    if classifier.multi_label:
        raise ChoiceError("a multi-label classifier has no predicted class: give a target")
    rows = max(1, device_profile(pixels.device).forward_bytes // pixels[0].nbytes)
    with torch.no_grad():
        return torch.cat([classifier(part) for part in torch.split(pixels, rows)]).argmax(dim=1)
