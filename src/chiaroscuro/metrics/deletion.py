"""Deletion: take a map's highest pixels away and see whether the prediction holds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import torch
from torch import Tensor

from chiaroscuro.choices import (
    MAPS,
    PAPER_FRACTIONS,
    PROTOCOLS,
    RANDOM,
    RANKING_MAPS,
    Fill,
    Protocol,
    check_names,
)
from chiaroscuro.classifier import Classifier
from chiaroscuro.edits import (
    check_fractions,
    check_map,
    filled,
    matched_counts,
    pixel_order,
    tie_priority,
)
from chiaroscuro.errors import ChoiceError, InputError
from chiaroscuro.maps import scale
from chiaroscuro.metrics.edited import Edit, Outcome, predict_edits

INVERTED = "inverted:"


@dataclass(frozen=True, eq=False)
class DeletionCurve:
    """What deleting a map's highest pixels did to B images at F fractions.

    `allegiance` (B, F): whether the predicted class is still that of the untouched image.
    `probability` and `logit` (B, F) of the target class. `changed` (B, F): pixels whose value
    really became another; `removed` (B, F): pixels that the mask took.
    """

    fractions: tuple[float, ...]
    allegiance: Tensor
    probability: Tensor
    logit: Tensor
    changed: Tensor
    removed: Tensor

    def areas(self, *, by_range: bool = False) -> Tensor:
        """The area under each image's allegiance (B,): trapezoids over the fractions.

        As published it is not divided by the range of the fractions; `by_range` divides.
        """
        area = torch.trapezoid(
            self.allegiance.double(),
            torch.tensor(self.fractions, dtype=torch.float64, device=self.allegiance.device),
        )
        return area / (self.fractions[-1] - self.fractions[0]) if by_range else area

    def area(self, *, by_range: bool = False) -> float:
        """The mean of `areas`, which is the area under the mean allegiance; lower is better."""
        return float(self.areas(by_range=by_range).mean())


@overload
def deletion_curve(
    classifier: Classifier,
    pixels: Tensor,
    maps: Tensor,
    fill: str | Fill,
    fractions: Sequence[float] = PAPER_FRACTIONS,
    protocol: Protocol = "paper",
    *,
    target: Tensor | None = None,
    seed: int = 0,
) -> DeletionCurve: ...


@overload
def deletion_curve(
    classifier: Classifier,
    pixels: Tensor,
    maps: Mapping[str, Tensor],
    fill: str | Fill,
    fractions: Sequence[float] = PAPER_FRACTIONS,
    protocol: Protocol = "paper",
    *,
    target: Tensor | None = None,
    seed: int = 0,
) -> dict[str, DeletionCurve]: ...


def deletion_curve(
    classifier: Classifier,
    pixels: Tensor,
    maps: Tensor | Mapping[str, Tensor],
    fill: str | Fill,
    fractions: Sequence[float] = PAPER_FRACTIONS,
    protocol: Protocol = "paper",
    *,
    target: Tensor | None = None,
    seed: int = 0,
) -> DeletionCurve | dict[str, DeletionCurve]:
    """What becomes of the prediction when each map's highest pixels change as `fill` says.

    `pixels` (B, C, H, W) in [0, 1]; `maps` one map (B, H, W), or maps by name, then a dict comes
    back. `protocol` "paper" deletes as the published code does: the pixels strictly above the value
    at place round(p H W) of the scaled map, so never its zeros. "matched" deletes exactly
    round(p H W) pixels of every map, ties in a random order drawn from `seed`; a dict then also
    gets the controls "random" and "inverted:NAME". `target` (B,) is the target class, default
    the predicted one; allegiance is to the predicted class of the untouched image either way.

    Raises `ImageError` for other pixels, `InputError` for maps that do not fit them, `ChoiceError`
    for unknown choices and for maps that order nothing (class maps, the printed forms).
    Source: arXiv:2309.12913, section 4.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(75, 3))
    >>> pixels = torch.rand(2, 3, 5, 5)
    >>> curve = deletion_curve(Classifier(net), pixels, pixels.amax(1), "black", [0, 0.2, 0.6])
    >>> curve.allegiance.shape, curve.removed.tolist()
    (torch.Size([2, 3]), [[0, 5, 15], [0, 5, 15]])
    """
    (chosen,) = check_names("protocol", [protocol], PROTOCOLS)
    alone = isinstance(maps, Tensor)
    curves = deletion_curves(
        classifier,
        pixels,
        {"map": maps} if isinstance(maps, Tensor) else maps,
        fill,
        fractions,
        [chosen],
        target=target,
        seed=seed,
        controls=not alone,
    )
    if alone:
        return curves[chosen, "map"]
    return {name: curve for (_, name), curve in curves.items()}


def deletion_curves(
    classifier: Classifier,
    pixels: Tensor,
    maps: Mapping[str, Tensor],
    fill: str | Fill,
    fractions: Sequence[float] = PAPER_FRACTIONS,
    protocols: Iterable[str] = PROTOCOLS,
    *,
    target: Tensor | None = None,
    seed: int = 0,
    controls: bool = True,
) -> dict[tuple[str, str], DeletionCurve]:
    """The curves of `deletion_curve` for several protocols at once, by (protocol, name).

    An edited image that several of them come to is predicted once. `controls`: the matched protocol
    brings its random and inverted orders.
    """
    (curves,) = curves_by_fill(
        classifier, pixels, maps, [fill], fractions, protocols,
        target=target, seed=seed, controls=controls,
    ).values()  # fmt: skip
    return curves


def curves_by_fill(
    classifier: Classifier,
    pixels: Tensor,
    maps: Mapping[str, Tensor],
    fills: Sequence[str | Fill],
    fractions: Sequence[float] = PAPER_FRACTIONS,
    protocols: Iterable[str] = PROTOCOLS,
    *,
    target: Tensor | None = None,
    seed: int = 0,
    controls: bool = True,
) -> dict[str, dict[tuple[str, str], DeletionCurve]]:
    """The curves of `deletion_curves` for several fills; orders and counts serve all of them."""
    fractions = check_fractions(fractions)
    chosen = check_names("protocol", protocols, PROTOCOLS)
    classifier.check_pixels(pixels)
    _check_maps(maps, pixels)
    edits = _edits(pixels, maps, fractions, chosen, seed, controls=controls)
    curves = {}
    for fill in fills:
        changed = filled(pixels, fill, seed)
        clean, outcomes = predict_edits(classifier, pixels, changed, list(edits.values()))
        explained = clean.argmax(dim=1) if target is None else target.to(clean.device)
        curves[str(fill)] = {
            key: _curve(classifier, clean, explained, edit, outcome, fractions)
            for (key, edit), outcome in zip(edits.items(), outcomes, strict=True)
        }
    return curves


def _check_maps(maps: Mapping[str, Tensor], pixels: Tensor) -> None:
    if not maps:
        raise ChoiceError("no map is given: give at least one")
    for name, values in maps.items():
        if name in MAPS and name not in RANKING_MAPS:
            raise ChoiceError(
                f"map {name!r} orders no pixels ({MAPS[name].kind}): "
                f"delete by one of {', '.join(RANKING_MAPS)}"
            )
        if values.shape != (len(pixels), *pixels.shape[2:]):
            raise InputError(
                f"map {name!r} has shape {tuple(values.shape)}: expected (B, H, W) = "
                f"{(len(pixels), *pixels.shape[2:])} as the pixels"
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
            for name, values in maps.items():
                counts = paper_counts(values.detach(), fractions, orders[name])
                edits[protocol, name] = Edit(orders[name], counts)
            continue
        counts = matched_counts(pixels[:, 0], fractions)
        inverted = {f"{INVERTED}{name}": order.flip(1) for name, order in orders.items()}
        others = {RANDOM: priority, **inverted} if controls else {}
        for name, order in {**orders, **others}.items():
            edits[protocol, name] = Edit(order, counts)
    return edits


def paper_counts(values: Tensor, fractions: Sequence[float], order: Tensor | None = None) -> Tensor:
    """How many pixels the published code deletes at each fraction p: (B, F).

    The map is scaled to [0, 1] per image; the threshold is the value at place round(p H W) of the
    descending values (halves to even), and only pixels strictly above it go. So they are the first
    so many of `pixel_order`, never zeros, and at most round(p H W). An `order` that is known saves
    sorting anew. Raises `InputError` for images
    so small that a place runs off the end. Source: arXiv:2309.12913, published code.

    >>> paper_counts(torch.tensor([[[0.0, 3.0], [3.0, 2.0]]]), [0, 0.25, 0.5, 0.75])
    tensor([[0, 0, 2, 3]])
    """
    check_map(values)
    scaled = scale(values, "magnitude").flatten(1)
    places = [round(fraction * scaled.shape[1]) for fraction in check_fractions(fractions)]
    if places[-1] >= scaled.shape[1]:
        raise InputError(
            f"images of {scaled.shape[1]} pixels are too small for the published protocol at "
            f"fraction {fractions[-1]}: use the matched one"
        )
    if order is None:
        order = scaled.argsort(dim=1, descending=True)
    falling = scaled.gather(1, order)
    thresholds = falling[:, places]
    # Falling values are negated, so that the search counts those strictly above each threshold.
    return torch.searchsorted((-falling).contiguous(), (-thresholds).contiguous())


def _curve(
    classifier: Classifier,
    clean: Tensor,
    explained: Tensor,
    edit: Edit,
    outcome: Outcome,
    fractions: tuple[float, ...],
) -> DeletionCurve:
    column = explained.view(-1, 1, 1).expand(-1, len(fractions), 1)
    chances = classifier.probabilities(outcome.logits)
    return DeletionCurve(
        fractions=fractions,
        allegiance=outcome.logits.argmax(dim=2) == clean.argmax(dim=1)[:, None],
        probability=chances.gather(2, column)[..., 0],
        logit=outcome.logits.gather(2, column)[..., 0],
        changed=outcome.changed,
        removed=edit.counts,
    )
