"""One batch of images to rows: the function that every engine runs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from chiaroscuro.choices import (
    EDIT_MAPS,
    EvaluationSettings,
    RivalRule,
    parse_rivals,
)
from chiaroscuro.classifier import Classifier
from chiaroscuro.data import Batch
from chiaroscuro.edits import filled
from chiaroscuro.explanations.methods import make_method
from chiaroscuro.gradients import Method, class_gradients
from chiaroscuro.maps import edit_map, saliency_maps
from chiaroscuro.metrics import DeletionCurve, Linearity, curves_by_fill
from chiaroscuro.runs.columns import WORD, image_rows, in_image_order
from chiaroscuro.runs.what_if import WHAT_IF_SCHEMA, WhatIfKey, forecasts, what_if_table

Key = tuple[str, str, str]
"""Protocol, map and fill."""

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("label", pa.int32()),
        ("predicted", pa.int32()),
        ("explained", pa.int32()),
        ("protocol", WORD),
        ("map", WORD),
        ("fill", WORD),
        ("allegiance", pa.list_(pa.bool_())),
        ("probability", pa.list_(pa.float32())),
        ("logit", pa.list_(pa.float32())),
        ("changed", pa.list_(pa.int32())),
        ("pixels", pa.int32()),
    ]
)
"""One row an image, protocol, map and fill; the lists have one entry a fraction.

`label` is the data set's class or null, `predicted` and `explained` are the model's; `changed` are
pixels that really became others, of `pixels` in all.
"""


@dataclass(frozen=True, eq=False)
class Measured:
    """Images of one size with what was found of them: what rows and examples are made of.

    `logits` (B, K) and `target` (B,) of the untouched images; `maps` by name for every fill, of
    which only edit maps depend on the fill.
    """

    places: Sequence[int]
    pixels: Tensor
    logits: Tensor
    target: Tensor
    maps: Mapping[str, Mapping[str, Tensor]]
    curves: dict[Key, DeletionCurve]
    forecasts: Mapping[WhatIfKey, Linearity] = field(default_factory=dict)


def measure(
    classifier: Classifier, batch: Batch, settings: EvaluationSettings
) -> Iterator[Measured]:
    """Predict, explain and delete a batch's images, those of one size together."""
    rule = rival_rule(classifier, settings.rivals)
    method = make_method(settings.method_options, classifier)
    for places, pixels in image_stacks(classifier, batch):
        logits, target, saliency = _explained(classifier, pixels, rule, method, settings)
        maps = {
            fill: _maps_of(fill, classifier, pixels, target, saliency, settings)
            for fill in settings.fills
        }
        curves = _curves(classifier, pixels, maps, target, settings)
        told = _told(classifier, pixels, maps, settings)
        yield Measured(places, pixels, logits, target, maps, curves, told)


def _curves(
    classifier: Classifier,
    pixels: Tensor,
    maps: Mapping[str, Mapping[str, Tensor]],
    target: Tensor,
    settings: EvaluationSettings,
) -> dict[Key, DeletionCurve]:
    """Every curve; maps that are the same for every fill are put in order once."""
    together = [[fill] for fill in settings.fills] if settings.edit_maps else [settings.fills]
    return {
        (protocol, name, fill): curve
        for fills in together
        for fill, found in curves_by_fill(
            classifier, pixels, maps[fills[0]], fills, settings.fractions, settings.protocols,
            target=target, seed=settings.seed,
        ).items()
        for (protocol, name), curve in found.items()
    }  # fmt: skip


def _told(
    classifier: Classifier,
    pixels: Tensor,
    maps: Mapping[str, Mapping[str, Tensor]],
    settings: EvaluationSettings,
) -> dict[WhatIfKey, Linearity]:
    """The what-ifs of every map and fill, where the run asks for them."""
    if settings.what_if is None:
        return {}
    return {
        (name, fill): one
        for fill in settings.fills
        for name, one in forecasts(
            classifier, pixels, maps[fill], fill, settings.what_if, settings.seed
        ).items()
    }


def _explained(
    classifier: Classifier,
    pixels: Tensor,
    rule: RivalRule,
    method: Method,
    settings: EvaluationSettings,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Logits, predicted classes, and the maps that are the same for every fill."""
    if not settings.saliency_maps:  # no class has to compete, so one forward pass is enough
        with torch.no_grad():
            logits = classifier(pixels)
        return logits, logits.argmax(dim=1), {}
    found = class_gradients(classifier, pixels, rivals=rule, method=method, score=settings.score)
    return found.logits, found.target, saliency_maps(found, settings.saliency_maps)


def _maps_of(
    fill: str,
    classifier: Classifier,
    pixels: Tensor,
    target: Tensor,
    saliency: Mapping[str, Tensor],
    settings: EvaluationSettings,
) -> dict[str, Tensor]:
    """The maps that order pixels for one fill, as the settings list them."""
    changed = filled(pixels, fill, settings.seed) if settings.edit_maps else pixels
    maps = {}
    for name in settings.maps:
        if name not in EDIT_MAPS:
            maps[name] = saliency[name]
            continue
        source = torch.Generator().manual_seed(settings.seed)
        maps[name] = edit_map(classifier, pixels, changed, name, target=target, generator=source)
    return maps


def image_stacks(classifier: Classifier, batch: Batch) -> Iterator[tuple[list[int], Tensor]]:
    """The places of a batch's images of each size, and their pixels beside the module."""
    weight = next(classifier.module.parameters(), torch.zeros(()))
    for places in _by_size(batch):
        stacked = np.stack([batch.pixels[place] for place in places])
        pixels = torch.from_numpy(stacked).to(weight.device)
        yield places, pixels.to(weight.dtype) if weight.is_floating_point() else pixels


def rival_rule(classifier: Classifier, rivals: str) -> RivalRule:
    """The rule of the settings' rivals, classes by index."""
    return parse_rivals(rivals).resolve(classifier.class_index)


def batch_rows(batch: Batch, measured: Sequence[Measured]) -> pa.Table:
    """The rows of a batch, image by image, in the order of the images."""
    tables = [_table(batch, part) for part in measured]
    return in_image_order(tables, [part.places for part in measured], SCHEMA)


def what_if_rows(batch: Batch, measured: Sequence[Measured]) -> pa.Table:
    """The what-if rows of a batch, image by image, in the order of the images."""
    tables = [
        what_if_table([batch.ids[place] for place in part.places], part.target, part.forecasts)
        for part in measured
    ]
    return in_image_order(tables, [part.places for part in measured], WHAT_IF_SCHEMA)


def _by_size(batch: Batch) -> list[list[int]]:
    sizes: dict[tuple[int, ...], list[int]] = {}
    for place, pixels in enumerate(batch.pixels):
        sizes.setdefault(pixels.shape, []).append(place)
    return list(sizes.values())


def _table(batch: Batch, found: Measured) -> pa.Table:
    protocols, names, fills = zip(*found.curves, strict=True)
    return image_rows(
        SCHEMA,
        {
            "id": [batch.ids[place] for place in found.places],
            "label": [batch.labels[place] for place in found.places],
            "predicted": found.logits.argmax(dim=1).tolist(),
            "explained": found.target.tolist(),
            "pixels": [found.pixels[0, 0].numel()] * len(found.places),
        },
        {"protocol": protocols, "map": names, "fill": fills},
        {
            name: torch.stack([getattr(c, name) for c in found.curves.values()], 1).cpu().numpy()
            for name in ("allegiance", "probability", "logit", "changed")
        },
    )
