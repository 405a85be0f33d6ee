"""Deletion: fill a map's highest pixels and see whether the prediction changes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from torch import Tensor

from chiaroscuro import choices, edits
from chiaroscuro.choices import PAPER_FRACTIONS, PROTOCOLS, Fill, Protocol, check_names
from chiaroscuro.classifier import Classifier
from chiaroscuro.device import device_profile
from chiaroscuro.errors import ChoiceError, InputError, brief
from chiaroscuro.gradients.classes import Indices, check_logits, resolve_target
from chiaroscuro.guard import as_found
from chiaroscuro.maps import scale
from chiaroscuro.shortcuts import shortcuts

_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Whole numbers as wide as a pixel's value."""
INVERTED = "inverted:"
"""Before a map's name: the control that takes its lowest pixels first."""


class Edit(NamedTuple):
    """Edits of B images: an order of their pixels (B, N), and how many are filled (B, F)."""

    order: Tensor
    counts: Tensor


class EditedLogits(NamedTuple):
    """Logits (B, F, K) after an edit, and the number of pixels (B, F) whose value changes."""

    logits: Tensor
    changed: Tensor


@dataclass(frozen=True, eq=False)
class DeletionCurve:
    """Predictions for B images after a map's highest pixels are filled, at F fractions.

    `allegiance` (B, F): whether the predicted class is that of the untouched image.
    `probability` and `logit` (B, F) of the target class. `changed` (B, F): pixels whose value
    changes; `removed` (B, F): pixels that the mask covers.
    """

    fractions: tuple[float, ...]
    allegiance: Tensor
    probability: Tensor
    logit: Tensor
    changed: Tensor
    removed: Tensor

    __repr__ = brief

    def areas(self, *, by_range: bool = False, of: str = "allegiance") -> Tensor:
        """The area under each image's allegiance (B,): trapezoids over the fractions.

        As published it is not divided by the range of the fractions; `by_range` divides. `of`: the
        area under "probability" or "logit" instead.
        """
        check_names("curve", [of], choices.CURVES)
        span = self.fractions[-1] - self.fractions[0]
        if by_range and not span:
            raise InputError("one fraction has no range: ask for the area without by_range")
        fractions = torch.tensor(self.fractions, dtype=torch.float64)
        area = torch.trapezoid(getattr(self, of).cpu().double(), fractions)
        return area / span if by_range else area

    def area(self, *, by_range: bool = False) -> float:
        """The mean of `areas`, which is the area under the mean allegiance; lower is better."""
        return float(self.areas(by_range=by_range).mean())


@overload
def deletion_curve(
    classifier: Classifier, pixels: Tensor, maps: Tensor, fill: str | Fill, *more: Any, **named: Any
) -> DeletionCurve: ...
@overload
def deletion_curve(
    classifier: Classifier,
    pixels: Tensor,
    maps: Mapping[str, Tensor],
    fill: str | Fill,
    *more: Any,
    **named: Any,
) -> dict[str, DeletionCurve]: ...
def deletion_curve(
    classifier: Classifier,
    pixels: Tensor,
    maps: Tensor | Mapping[str, Tensor],
    fill: str | Fill,
    fractions: Sequence[float] = PAPER_FRACTIONS,
    protocol: Protocol = "paper",
    *,
    target: Indices = None,
    seed: int = 0,
) -> DeletionCurve | dict[str, DeletionCurve]:
    """Predictions as each map's highest pixels are filled: one curve, or a dict of them by name.

    `pixels` (B, C, H, W) in [0, 1]; `maps` one map (B, H, W), or maps by name. `protocol` "paper"
    fills as the published code does: the pixels strictly above the value at position round(p H W)
    of the falling scaled map, so never its zeros. "matched" fills exactly round(p H W) pixels of
    every map, ties in a random order drawn from `seed`; a dict then also has the controls "random"
    and "inverted:NAME". `target` is the target class, or one per image, default the predicted one;
    allegiance is to the predicted class of the untouched image either way.

    Raises `ImageError` for other pixels, `InputError` for maps that do not fit them, `ChoiceError`
    for unknown choices and for maps that order nothing (class maps, the printed forms).
    Source: arXiv:2309.12913, section 4.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(75, 3))
    >>> pixels = torch.rand(2, 3, 5, 5)
    >>> curve = deletion_curve(Classifier(net), pixels, pixels.amax(1), "black", [0, 0.2, 0.6])
    >>> curve.allegiance.shape, curve.removed.tolist()
    (torch.Size([2, 3]), [[0, 5, 15], [0, 5, 15]])
    """
    several = isinstance(maps, Mapping)
    named = maps if isinstance(maps, Mapping) else {"map": maps}
    how: dict[str, Any] = {"target": target, "seed": seed, "controls": several}
    by_fill = curves_by_fill(classifier, pixels, named, [fill], fractions, [protocol], **how)
    curves = {name: curve for (_, name), curve in by_fill[str(fill)].items()}
    return curves if several else curves["map"]


def relevance_gain(
    curves: Mapping[str, DeletionCurve], *, of: str = "allegiance"
) -> dict[str, Tensor]:
    """The symmetric relevance gain (SRG) of each map, per image (B,) in float64; higher is better.

    SRG = area when the map's lowest pixels go first - area when its highest do, under the matched
    protocol. It is 0 in expectation for a random order, and changes its sign when the order is
    inverted. Like `areas` it is not divided by the range of the fractions. `of`: what the areas
    are under, "allegiance", "probability" or "logit".

    `curves`: those of `deletion_curve` for several maps, by name, with their inverted orders.
    Raises `InputError` for curves without an inverted order.
    Source: Blücher et al., Decoupling pixel flipping and occlusion strategy, arXiv:2401.06654.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(75, 3))
    >>> pixels = torch.rand(2, 3, 5, 5)
    >>> maps = {"bright": pixels.amax(1), "dark": -pixels.amax(1)}
    >>> curves = deletion_curve(Classifier(net), pixels, maps, "black", [0, 0.2, 0.6], "matched")
    >>> gain = relevance_gain(curves, of="logit")
    >>> torch.allclose(gain["bright"], -gain["dark"])
    True
    """
    gains = {
        name: curves[f"{INVERTED}{name}"].areas(of=of) - curve.areas(of=of)
        for name, curve in curves.items()
        if f"{INVERTED}{name}" in curves
    }
    if not gains:
        known = ", ".join(curves)
        what = f"no curve of {known} has an inverted order"
        raise InputError(f'{what}: take those of several maps with protocol="matched"')
    return gains


def curves_by_fill(
    classifier: Classifier,
    pixels: Tensor,
    maps: Mapping[str, Tensor],
    fills: Sequence[str | Fill],
    fractions: Sequence[float] = PAPER_FRACTIONS,
    protocols: Iterable[str] = PROTOCOLS,
    *,
    target: Indices = None,
    seed: int = 0,
    controls: bool = True,
) -> dict[str, dict[tuple[str, str], DeletionCurve]]:
    """The curves of `deletion_curve` for several fills and protocols: by fill, (protocol, name).

    Orders and counts serve every fill, and each distinct edited image is predicted once.
    `controls`: the matched protocol adds its random and inverted orders.
    """
    fractions = edits.rising_numbers("fractions", fractions, "[0, 1)")
    chosen = check_names("protocol", protocols, PROTOCOLS)
    classifier.check_pixels(pixels)
    check_maps(maps, pixels)
    priority = edits.tie_priority(pixels, seed)
    orders = {name: edits.pixel_order(values.detach(), priority) for name, values in maps.items()}
    inverted = {f"{INVERTED}{name}": order.flip(1) for name, order in orders.items()}
    others = {choices.RANDOM: priority, **inverted} if controls else {}
    matched = edits.matched_counts(pixels[:, 0], fractions)
    every: dict[tuple[str, str], Edit] = {}
    for protocol in chosen:
        paper = protocol == "paper"
        for name, order in (orders if paper else orders | others).items():
            counts = paper_counts(maps[name].detach(), fractions, order) if paper else matched
            every[protocol, name] = Edit(order, counts)
    curves: dict[str, dict[tuple[str, str], DeletionCurve]] = {}
    for fill in fills:
        filled = edits.filled(pixels, fill, seed)
        clean, results = predict_edits(classifier, pixels, filled, list(every.values()))
        for logits, _ in results:
            check_logits(logits, f" once pixels become {fill}")
        best = index = clean.argmax(dim=1)
        if target is not None:
            index = resolve_target(target, clean, multi_label=classifier.multi_label)
        column = index.view(-1, 1, 1).expand(-1, len(fractions), 1)
        curves[str(fill)] = {
            key: DeletionCurve(
                fractions,
                allegiance=logits.argmax(dim=2) == best[:, None],
                probability=classifier.probabilities(logits).gather(2, column)[..., 0],
                logit=logits.gather(2, column)[..., 0],
                changed=changed,
                removed=edit.counts,
            )
            for (key, edit), (logits, changed) in zip(every.items(), results, strict=True)
        }
    return curves


def check_maps(maps: Mapping[str, Tensor], pixels: Tensor) -> None:
    """Raise `ChoiceError` for no map or one that orders nothing, `InputError` for other shapes."""
    if not maps:
        raise ChoiceError("no map is given: give at least one")
    expected = (len(pixels), *pixels.shape[2:])
    for name, values in maps.items():
        if name in choices.MAPS and name not in choices.RANKING_MAPS:
            known = ", ".join(choices.RANKING_MAPS)
            raise ChoiceError(f"map {name!r} orders no pixels: delete by one of {known}")
        edits.check_map(values, f"map {name!r}")
        if values.shape != expected:
            shape = tuple(values.shape)
            wanted = f"expected the pixels' (B, H, W) = {expected}"
            raise InputError(f"map {name!r} has shape {shape}: {wanted}")


def paper_counts(values: Tensor, fractions: Sequence[float], order: Tensor) -> Tensor:
    """How many pixels the published code fills at each fraction p: (B, F).

    The map is scaled to [0, 1] per image; the threshold is the value at position round(p H W) of
    the falling values (halves to even), and only pixels strictly above it are filled: the first
    ones of the map's `pixel_order`, never zeros, and at most round(p H W).
    """
    scaled = scale(values, "magnitude").flatten(1)
    count = scaled.shape[1]
    positions = [round(fraction * count) for fraction in fractions]
    if positions[-1] >= count:
        what = f"images of {count} pixels are too small for the published protocol at fraction"
        raise InputError(f"{what} {fractions[-1]}: use the matched one")
    falling = scaled.gather(1, order)
    # Falling values are negated, so that the search counts those strictly above each threshold.
    thresholds = -falling[:, positions]
    return torch.searchsorted((-falling).contiguous(), thresholds.contiguous())


def predict_edits(
    classifier: Classifier, pixels: Tensor, filled: Tensor, many: Sequence[Edit]
) -> tuple[Tensor, list[EditedLogits]]:
    """Logits (B, K) of the untouched images, and those of every edit.

    `filled` are the images (B, C, H, W) with every pixel filled. An edited image is identified by
    the set of pixels whose value changes: the set's key is the sum of one random 64-bit number per
    pixel, so two sets share a key with probability 2^-64. Edits of an image that give the same set,
    by whatever order, are predicted once; the empty set is the untouched image.
    """
    differs = (filled != pixels).any(dim=1).flatten(1)
    keyed = [_keys(edit, differs) for edit in many]
    untouched = torch.zeros(len(pixels), 1, dtype=torch.int64, device=pixels.device)
    keys = torch.cat([untouched, *(key for key, _ in keyed)], dim=1)
    *distinct, row = _distinct(keys, many)
    edited = _EditedImages(pixels, filled, many)
    # All chunks but the last have one size: kernels are compiled for each number of images.
    size = max(1, device_profile(pixels.device).forward_bytes // pixels[0].nbytes)
    chunks = zip(*(torch.split(values, size) for values in distinct), strict=True)
    with torch.no_grad(), as_found(classifier.module), shortcuts(classifier.module):
        parts = [classifier.logits(edited.rows(*chunk), spare=True) for chunk in chunks]
    logits = torch.cat(parts)[row]
    by_edit = torch.split(logits[:, 1:], [edit.counts.shape[1] for edit in many], dim=1)
    return logits[:, 0], list(map(EditedLogits, by_edit, (changed for _, changed in keyed)))


def _keys(edit: Edit, differs: Tensor) -> tuple[Tensor, Tensor]:
    """The key of each edited image (B, F), and how many of its pixels change."""
    along = differs.gather(1, edit.order)
    numbers = _numbers("pixels", differs.shape[1]).to(edit.order.device)[edit.order] * along
    last = (edit.counts - 1).clamp(min=0)
    keys, changed = (
        torch.where(edit.counts > 0, sums.gather(1, last), 0)
        for sums in (numbers.cumsum(dim=1), along.long().cumsum(dim=1))
    )
    return keys, changed


@lru_cache(maxsize=8)  # photos of many sizes have many counts
def _numbers(what: str, count: int) -> Tensor:
    """Random 64-bit numbers, drawn apart for "pixels" and "images"; their sums wrap around."""
    generator = np.random.default_rng(list(what.encode()))
    return torch.from_numpy(generator.integers(-(2**63), 2**63, count, dtype=np.int64))


class _EditedImages:
    """Edited images, computed a few at a time with channels last, the layout of fast networks.

    Everything lies flat in that layout, each pixel's rank once per channel, so that an edit is a
    few passes over memory without strides. Pixels are exchanged as bits, p ^ ((p ^ f) & mask):
    exact, and vectorized, which PyTorch's choice by booleans is not.
    """

    def __init__(self, pixels: Tensor, filled: Tensor, many: Sequence[Edit]) -> None:
        self.images, channels, *self.size = pixels.shape
        self.type = pixels.dtype
        self.pixels, fill = (
            values.movedim(1, -1).reshape(len(values), -1).view(_BITS[pixels.element_size()])
            for values in (pixels, filled.to(pixels.dtype))
        )
        self.differing = self.pixels ^ fill
        ranks = torch.cat([edits.pixel_rank(edit.order).to(torch.int32) for edit in many])
        self.ranks = ranks.repeat_interleave(channels, dim=1)

    def rows(self, image: Tensor, edit: Tensor, count: Tensor) -> Tensor:
        """The images (D, C, H, W), each with the first `count` pixels of its edit filled."""
        rank = self.ranks.index_select(0, edit * self.images + image)
        # The sign of a difference below zero, shifted along, is a mask of all bits.
        mask = rank.sub_(count[:, None].to(rank.dtype)).bitwise_right_shift_(31)
        flat = mask.to(self.pixels.dtype).bitwise_and_(self.differing.index_select(0, image))
        flat = flat.bitwise_xor_(self.pixels.index_select(0, image)).view(self.type)
        return flat.view(len(flat), *self.size, -1).movedim(-1, 1)


def _distinct(keys: Tensor, many: Sequence[Edit]) -> list[Tensor]:
    """The image, edit and count of each distinct edited image (D,), and which one each key has.

    The keys (B, 1 + E F) have the untouched image first.
    """
    own = _numbers("images", len(keys))[:, None].to(keys.device)  # equal sets of two images differ
    _, first, row = np.unique((keys + own).cpu().numpy(), return_index=True, return_inverse=True)
    # In the order of the images, so that neighbors read the same memory.
    order = np.argsort(first)
    images, columns = np.divmod(first[order], keys.shape[1])
    owner = np.repeat(np.arange(len(many)), [edit.counts.shape[1] for edit in many])
    of = np.concatenate([[0], owner])[columns]
    row = np.argsort(order)[row].reshape(keys.shape)
    counts = torch.cat([torch.zeros_like(keys[:, :1]), *(edit.counts for edit in many)], dim=1)
    image, edit, column, place = (
        torch.from_numpy(numbers).to(keys.device) for numbers in (images, of, columns, row)
    )
    return [image, edit, counts[image, column], place]
