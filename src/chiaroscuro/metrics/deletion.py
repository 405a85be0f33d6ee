"""Deletion: fill a map's highest pixels and see whether the prediction changes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from chiaroscuro import choices
from chiaroscuro.choices import PAPER_FRACTIONS, PROTOCOLS, Fill, Protocol, check_names
from chiaroscuro.classifier import Classifier
from chiaroscuro.edits import (
    check_map,
    filled,
    matched_counts,
    pixel_order,
    rising_numbers,
    tie_priority,
)
from chiaroscuro.errors import ChoiceError, InputError
from chiaroscuro.gradients.classes import Indices, resolve_target
from chiaroscuro.maps import scale
from chiaroscuro.metrics.edited import Edit, predict_edits

INVERTED = "inverted:"
"""Before a map's name: the control that takes its lowest pixels first."""


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

    def __repr__(self) -> str:
        first, last = self.fractions[0], self.fractions[-1]
        return (
            f"DeletionCurve({len(self.allegiance)} images, {len(self.fractions)} fractions from "
            f"{first:g} to {last:g}, area {self.area():.3f})"
        )

    def areas(self, *, by_range: bool = False) -> Tensor:
        """The area under each image's allegiance (B,): trapezoids over the fractions.

        As published it is not divided by the range of the fractions; `by_range` divides.
        Raises `InputError` for one fraction, which has no range to divide by.
        """
        span = self.fractions[-1] - self.fractions[0]
        if by_range and not span:
            raise InputError("one fraction has no range: ask for the area without by_range")
        fractions = torch.tensor(self.fractions, dtype=torch.float64)
        area = torch.trapezoid(self.allegiance.cpu().double(), fractions)
        return area / span if by_range else area

    def area(self, *, by_range: bool = False) -> float:
        """The mean of `areas`, which is the area under the mean allegiance; lower is better."""
        return float(self.areas(by_range=by_range).mean())


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
) -> Any:
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
    fractions = rising_numbers("fractions", fractions, "[0, 1)")
    chosen = check_names("protocol", protocols, PROTOCOLS)
    classifier.check_pixels(pixels)
    check_maps(maps, pixels)
    edits = _edits(pixels, maps, fractions, chosen, seed, controls=controls)
    curves: dict[str, dict[tuple[str, str], DeletionCurve]] = {}
    for fill in fills:
        changed = filled(pixels, fill, seed)
        clean, results = predict_edits(classifier, pixels, changed, list(edits.values()))
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
                changed=differing,
                removed=edit.counts,
            )
            for (key, edit), (logits, differing) in zip(edits.items(), results, strict=True)
        }
    return curves


def check_maps(maps: Mapping[str, Tensor], pixels: Tensor) -> None:
    """Raise `ChoiceError` for no map or one that orders nothing, `InputError` for other shapes."""
    if not maps:
        raise ChoiceError("no map is given: give at least one")
    expected = (len(pixels), *pixels.shape[2:])
    for name, values in maps.items():
        if name in choices.MAPS and name not in choices.RANKING_MAPS:
            raise ChoiceError(
                f"map {name!r} orders no pixels ({choices.MAPS[name].kind}): "
                f"delete by one of {', '.join(choices.RANKING_MAPS)}"
            )
        check_map(values, f"map {name!r}")
        if values.shape != expected:
            raise InputError(
                f"map {name!r} has shape {tuple(values.shape)}: expected the pixels' (B, H, W) = "
                f"{expected}"
            )


def _edits(
    pixels: Tensor,
    maps: Mapping[str, Tensor],
    fractions: Sequence[float],
    protocols: Sequence[str],
    seed: int,
    *,
    controls: bool,
) -> dict[tuple[str, str], Edit]:
    """Every order with its counts, by (protocol, name)."""
    priority = tie_priority(pixels, seed)
    orders = {name: pixel_order(values.detach(), priority) for name, values in maps.items()}
    edits: dict[tuple[str, str], Edit] = {}
    for protocol in protocols:
        if protocol == "paper":
            for name, order in orders.items():
                counts = paper_counts(maps[name].detach(), fractions, order)
                edits[protocol, name] = Edit(order, counts)
        else:
            counts = matched_counts(pixels[:, 0], fractions)
            inverted = {f"{INVERTED}{name}": order.flip(1) for name, order in orders.items()}
            others = {choices.RANDOM: priority, **inverted} if controls else {}
            for name, order in (orders | others).items():
                edits[protocol, name] = Edit(order, counts)
    return edits


def paper_counts(values: Tensor, fractions: Sequence[float], order: Tensor) -> Tensor:
    """How many pixels the published code fills at each fraction p: (B, F).

    The map is scaled to [0, 1] per image; the threshold is the value at position round(p H W) of
    the falling values (halves to even), and only pixels strictly above it are filled: the first
    ones of the map's `pixel_order`, never zeros, and at most round(p H W).

    >>> values = torch.tensor([[[0.0, 3.0], [3.0, 2.0]]])
    >>> paper_counts(values, [0, 0.25, 0.5, 0.75], pixel_order(values))
    tensor([[0, 0, 2, 3]])
    """
    scaled = scale(values, "magnitude").flatten(1)
    count = scaled.shape[1]
    shares = rising_numbers("fractions", fractions, "[0, 1)")
    positions = [round(fraction * count) for fraction in shares]
    if positions[-1] >= count:
        raise InputError(
            f"images of {count} pixels are too small for the published protocol at fraction "
            f"{fractions[-1]}: use the matched one"
        )
    falling = scaled.gather(1, order)
    # Falling values are negated, so that the search counts those strictly above each threshold.
    thresholds = -falling[:, positions]
    return torch.searchsorted((-falling).contiguous(), thresholds.contiguous())
