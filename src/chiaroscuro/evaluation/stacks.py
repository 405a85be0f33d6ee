"""A batch's images of one size with their target classes and maps: what metrics measure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chiaroscuro.choices import EDIT_MAPS, RivalRule, parse_rivals
from chiaroscuro.classifier import Classifier
from chiaroscuro.data import Batch
from chiaroscuro.edits import filled
from chiaroscuro.gradients import class_gradients
from chiaroscuro.maps import edit_map, saliency_maps
from chiaroscuro.metrics import DeletionCurve, curves_by_fill
from chiaroscuro.settings import EvaluationSettings

Key = tuple[str, str, str]
"""Protocol, map and fill."""


@dataclass(frozen=True, eq=False)
class Stack:
    """Images of one size, at their `places` in a batch.

    `pixels` (B, C, H, W); `logits` (B, K) and `target` (B,) of the untouched images; `maps` (B, H,
    W) by fill and name, of which only edit maps depend on the fill.
    """

    classifier: Classifier
    settings: EvaluationSettings
    places: Sequence[int]
    ids: Sequence[str]
    labels: Sequence[int | None]
    pixels: Tensor
    logits: Tensor
    target: Tensor
    maps: Mapping[str, Mapping[str, Tensor]]

    @cached_property
    def curves(self) -> dict[Key, DeletionCurve]:
        """Every deletion curve; maps that are the same for every fill are sorted once."""
        chosen = self.settings
        together = [[fill] for fill in chosen.fills] if chosen.edit_maps else [chosen.fills]
        return {
            (protocol, name, fill): curve
            for fills in together
            for fill, curves in curves_by_fill(
                self.classifier,
                self.pixels,
                self.maps[fills[0]],
                fills,
                chosen.fractions,
                chosen.protocols,
                target=self.target,
                seed=chosen.seed,
            ).items()
            for (protocol, name), curve in curves.items()
        }

    def saliency(self) -> dict[str, Tensor]:
        """The maps that are the same for every fill."""
        some = next(iter(self.maps.values()))
        return {name: values for name, values in some.items() if name not in EDIT_MAPS}


def measure(
    classifier: Classifier, batch: Batch, settings: EvaluationSettings, method: Any
) -> Iterator[Stack]:
    """The stacks of a batch, images of one size together.

    The target is the predicted class, of a multi-label classifier the one with the highest logit.
    """
    rule = rival_rule(classifier, settings.rivals)
    for places, pixels in image_stacks(classifier, batch):
        logits, target, saliency = _explained(classifier, pixels, rule, method, settings)
        maps = {
            fill: _maps_of(fill, classifier, pixels, target, saliency, settings)
            for fill in settings.fills
        }
        ids = [batch.ids[place] for place in places]
        labels = [batch.labels[place] for place in places]
        yield Stack(classifier, settings, places, ids, labels, pixels, logits, target, maps)


def _explained(
    classifier: Classifier,
    pixels: Tensor,
    rule: RivalRule,
    method: Any,
    settings: EvaluationSettings,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Logits, target classes, and the maps that are the same for every fill."""
    target = None
    if classifier.multi_label or not settings.saliency_maps:
        with torch.no_grad():
            logits = classifier(pixels)
        target = logits.argmax(dim=1)
        if not settings.saliency_maps:  # no class has to compete, so one forward pass is enough
            return logits, target, {}
    gradients = class_gradients(
        classifier, pixels, target, rivals=rule, method=method, score=settings.score
    )
    return gradients.logits, gradients.target, saliency_maps(gradients, settings.saliency_maps)


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
    """The places of a batch's images of each size, and their pixels, as the module takes them."""
    weight = next(classifier.module.parameters(), torch.zeros(()))
    sizes: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(batch.pixels):
        sizes.setdefault(image.shape, []).append(place)
    for places in sizes.values():
        stacked = np.stack([batch.pixels[place] for place in places])
        pixels = torch.from_numpy(stacked).to(weight.device)
        yield places, pixels.to(weight.dtype) if weight.is_floating_point() else pixels


def rival_rule(classifier: Classifier, rivals: str) -> RivalRule:
    """The rule of the settings' rivals, classes by index; raises `ChoiceError` for unknown ones."""
    return parse_rivals(rivals).resolve(classifier.class_index)
