"""A batch's images of one size with their target classes and maps: what metrics measure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chiaroscuro.choices import FITTED_MAPS, parse_rivals
from chiaroscuro.classifier import Classifier
from chiaroscuro.data.images import Batch
from chiaroscuro.edits import filled
from chiaroscuro.gradients import class_gradients
from chiaroscuro.gradients.classes import check_logits
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
        curves: dict[Key, DeletionCurve] = {}
        for fills in [[fill] for fill in chosen.fills] if chosen.edit_maps else [chosen.fills]:
            by_fill = curves_by_fill(
                self.classifier,
                self.pixels,
                self.maps[fills[0]],
                fills,
                chosen.fractions,
                chosen.protocols,
                target=self.target,
                seed=chosen.seed,
            )
            for fill, found in by_fill.items():
                curves |= {(protocol, name, fill): c for (protocol, name), c in found.items()}
        return curves

    def saliency(self) -> dict[str, Tensor]:
        """The maps that are the same for every fill."""
        some = next(iter(self.maps.values()))
        return {name: values for name, values in some.items() if name not in FITTED_MAPS}


def measure(
    classifier: Classifier, batch: Batch, settings: EvaluationSettings, method: Any
) -> Iterator[Stack]:
    """The stacks of a batch, images of one size together.

    The target is the predicted class, of a multi-label classifier the one with the highest logit.
    """
    rule = parse_rivals(settings.rivals).resolve(classifier.class_index)
    for places, pixels in image_stacks(classifier, batch):
        target, saliency = None, {}
        if classifier.multi_label or not settings.saliency_maps:
            with torch.no_grad():
                logits = classifier(pixels)
            check_logits(logits)
            target = logits.argmax(dim=1)
        if settings.saliency_maps:  # else no class has to compete, so one forward pass is enough
            gradients = class_gradients(
                classifier, pixels, target, rivals=rule, method=method, score=settings.score
            )
            logits, target = gradients.logits, gradients.target
            saliency = dict(saliency_maps(gradients, settings.saliency_maps))
        assert target is not None
        maps: dict[str, dict[str, Tensor]] = {}
        for fill in settings.fills:
            found = dict(saliency)
            for name in settings.edit_maps:
                if name not in FITTED_MAPS and maps:
                    found[name] = maps[settings.fills[0]][name]
                    continue
                changed = filled(pixels, fill, settings.seed)
                source = torch.Generator().manual_seed(settings.seed)
                found[name] = edit_map(
                    classifier, pixels, changed, name, target=target, generator=source
                )
            maps[fill] = {name: found[name] for name in settings.maps}
        ids = [batch.ids[place] for place in places]
        labels = [batch.labels[place] for place in places]
        yield Stack(classifier, settings, places, ids, labels, pixels, logits, target, maps)


def image_stacks(
    classifier: Classifier, batch: Batch, chosen: Sequence[int] | None = None
) -> Iterator[tuple[list[int], Tensor]]:
    """The places of a batch's images of each size, and their pixels, as the module takes them."""
    weight = next(classifier.module.parameters(), torch.zeros(()))
    sizes: dict[tuple[int, ...], list[int]] = {}
    for place in range(len(batch.ids)) if chosen is None else chosen:
        sizes.setdefault(batch.pixels[place].shape, []).append(place)
    for places in sizes.values():
        images = [batch.pixels[place] for place in places]
        # From pinned memory, so that a GPU's copy waits for nobody while more is decoded.
        on_gpu = weight.device.type == "cuda"
        pixels = torch.empty(len(images), *images[0].shape, pin_memory=on_gpu)
        np.stack(images, out=pixels.numpy())
        dtype = weight.dtype if weight.is_floating_point() else pixels.dtype
        yield places, pixels.to(weight.device, dtype, non_blocking=on_gpu)
