"""Saliency maps: pure functions of class gradients. No model, no autograd."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from chiaroscuro import choices
from chiaroscuro.choices import Kind, Normalize, Reduce, check_names
from chiaroscuro.errors import InputError, brief
from chiaroscuro.gradients import ClassGradients

Values = Callable[[ClassGradients], Tensor]


@dataclass(frozen=True)
class SaliencyMap:
    """One row of `MAPS`: what is computed per channel, on which entries, and how channels join.

    `values` and `mask` take class gradients to (B, C, H, W); `pixel` takes the values to (B, H, W).
    Values are 0 (or -1 for classes) off the mask. `classes`: the map needs the extremes' classes.
    """

    values: Values
    mask: Values
    pixel: Callable[[Tensor], Tensor]
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
    """Where brightening helps the target over every rival: g_c > max_k g_k, ties left out."""
    return gradients.target_gradient > gradients.rival_max


def inactive_mask(gradients: ClassGradients) -> Tensor:
    """Where darkening helps the target over every rival: g_c < min_k g_k, ties left out."""
    return gradients.target_gradient < gradients.rival_min


def competition_mask(gradients: ClassGradients) -> Tensor:
    """Where g_c is above 0 and every rival, or below 0 and every rival: ties left out."""
    own = gradients.target_gradient
    return ((own > 0) & active_mask(gradients)) | ((own < 0) & inactive_mask(gradients))


def _either(gradients: ClassGradients) -> Tensor:
    return active_mask(gradients) | inactive_mask(gradients)


def _highest(gradients: ClassGradients) -> Tensor:
    return gradients.target_gradient >= gradients.rival_max


def _lowest(gradients: ClassGradients) -> Tensor:
    return gradients.target_gradient <= gradients.rival_min


def _masked(mask: Values, of: Callable[[Tensor], Tensor] = torch.abs) -> Values:
    """`of` the target's gradient on the mask, else 0."""

    def values(gradients: ClassGradients) -> Tensor:
        return torch.where(mask(gradients), of(gradients.target_gradient), 0)

    return values


def signed_values(gradients: ClassGradients) -> Tensor:
    """abs(g_c) on active entries, -abs(g_c) on inactive ones, else 0."""
    return _masked(active_mask)(gradients) - _masked(inactive_mask)(gradients)


def margin_values(gradients: ClassGradients) -> Tensor:
    """relu(g_c - max rival) - relu(min rival - g_c): the lead over the nearest rival."""
    own = gradients.target_gradient
    lead = (own - gradients.rival_max).relu() - (gradients.rival_min - own).relu()
    top = torch.finfo(lead.dtype).max
    return lead.clamp(-top, top)


def winner_values(gradients: ClassGradients) -> Tensor:
    """Per channel the class with the largest gradient, and that gradient: (B, C, H, W, 2).

    The class is -1 where different classes tie.
    """
    own, rival, leader = gradients.target_gradient, gradients.rival_max, gradients.rival_argmax
    if leader is None:
        raise InputError("map 'winner' needs rival_argmax: call class_gradients(..., argmax=True)")
    leader = torch.where(own > rival, gradients.target.view(-1, 1, 1, 1), leader)
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


def channel_winner(values: Tensor) -> Tensor:
    """The class of the channel with the largest gradient; -1 when channels disagree at the top."""
    leader, height = values.unbind(dim=-1)
    top = height == height.amax(dim=1, keepdim=True)
    highest = torch.where(top, leader, -torch.inf).amax(dim=1)
    lowest = torch.where(top, leader, torch.inf).amin(dim=1)
    return torch.where(highest == lowest, highest, -1).long()


MAPS: dict[str, SaliencyMap] = {
    "original": SaliencyMap(
        lambda g: g.target_gradient.abs(), lambda g: g.target_gradient != 0, channel_max
    ),
    "positive": SaliencyMap(
        lambda g: g.target_gradient.relu(), lambda g: g.target_gradient > 0, channel_max
    ),
    "negative": SaliencyMap(
        lambda g: (-g.target_gradient).relu(), lambda g: g.target_gradient < 0, channel_max
    ),
    "active": SaliencyMap(_masked(active_mask), active_mask, channel_max),
    "inactive": SaliencyMap(_masked(inactive_mask), inactive_mask, channel_max),
    "signed": SaliencyMap(signed_values, _either, channel_largest),
    "margin": SaliencyMap(margin_values, _either, channel_largest),
    "competition": SaliencyMap(
        _masked(competition_mask, torch.positive), competition_mask, channel_largest
    ),
    "winner": SaliencyMap(
        winner_values, lambda g: winner_values(g)[..., 0] >= 0, channel_winner, classes=True
    ),
    "active-printed": SaliencyMap(_masked(_highest, torch.positive), _highest, channel_max),
    "inactive-printed": SaliencyMap(_masked(_lowest, torch.positive), _lowest, channel_max),
}
"""Every map by name; its kind and reading are in `chiaroscuro.choices.MAPS`."""


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
    maps = {}
    for name in chosen:
        row, kind = MAPS[name], choices.MAPS[name].kind
        values = row.values(gradients)
        if reduce == "max":
            values = row.pixel(values)
        elif kind == "class":
            values = values[..., 0].long()
        maps[name] = scale(values, kind) if normalize == "minmax" else values
    return SaliencyMaps(maps, {name: _support(MAPS[name].mask(gradients)) for name in chosen})


def scale(values: Tensor, kind: Kind) -> Tensor:
    """A map (B, ...) scaled per image: (m - min) / (max - min), or m / max abs(m) if signed.

    So 0 stays 0 in signed maps. A constant map becomes zeros, unless it is signed; class maps are
    returned as they are. Raises `InputError` for values that are not finite.

    >>> scale(torch.tensor([[[1.0, 2.0, 5.0]]]), "magnitude")
    tensor([[[0.0000, 0.2500, 1.0000]]])
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


def _support(mask: Tensor) -> Support:
    shares = mask.float()
    return Support(shares.amax(dim=1).mean(dim=(1, 2)), shares.mean(dim=(1, 2, 3)))
