"""What comes of a call: three images a photo, whatever K is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from chiaroscuro.choices import RivalRule, Score
from chiaroscuro.errors import brief
from chiaroscuro.gradients.backward.program import restored
from chiaroscuro.gradients.reducers import Extremes


@dataclass(frozen=True)
class GradientChoices:
    """How class gradients were computed.

    `method` is "points" for explicit ones; `settings` are its settings in plain values.
    """

    rivals: RivalRule
    method: str
    score: Score
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ClassGradients:
    """The three images that every map is a function of, for B images.

    `logits` (B, K) and `target` (B,) at the untouched image; `target_gradient` (B, C, H, W) of the
    target's score per unit of pixel value; `rival_max` and `rival_min` (B, C, H, W) the
    element-wise extremes over `rivals` (B, R), the classes that were run. `rival_argmax` and
    `rival_argmin` (B, C, H, W), on request, hold the rival at the extreme: -1 where different
    rivals tie. `notes` say what is unusual about the network or its gradients.
    """

    logits: Tensor
    target: Tensor
    rivals: Tensor
    target_gradient: Tensor
    rival_max: Tensor
    rival_min: Tensor
    rival_argmax: Tensor | None
    rival_argmin: Tensor | None
    choices: GradientChoices
    notes: tuple[str, ...] = ()
    __repr__ = brief


def joined(
    logits: Tensor,
    target: Tensor,
    rivals: Tensor,
    groups: Sequence[Extremes],
    shape: torch.Size,
    choices: GradientChoices,
    notes: Sequence[str],
) -> ClassGradients:
    """The groups' values as images (B, C, H, W) of one result; `shape` is (C, H, W)."""
    target_gradient = _images([group.target for group in groups], shape)
    high = _images([group.high for group in groups], shape)
    low = _images([group.low for group in groups], shape)
    flat = ~target_gradient.flatten(1).any(dim=1)
    if bool(flat.any()):
        flat &= ~(high.flatten(1).any(dim=1) | low.flatten(1).any(dim=1))
    if zeros := ", ".join(map(str, flat.nonzero().flatten().tolist())):
        notes = [*notes, f"all gradients of image {zeros} are zero: the module rounds or saturates"]
    return ClassGradients(
        logits=logits,
        target=target,
        rivals=rivals,
        target_gradient=target_gradient,
        rival_max=high,
        rival_min=low,
        rival_argmax=_images_or_none([group.high_class for group in groups], shape),
        rival_argmin=_images_or_none([group.low_class for group in groups], shape),
        choices=choices,
        notes=tuple(notes),
    )


def _images(parts: Sequence[Tensor], shape: torch.Size) -> Tensor:
    return restored(torch.cat(list(parts)), shape).contiguous()


def _images_or_none(parts: Sequence[Tensor | None], shape: torch.Size) -> Tensor | None:
    """The groups' images, or None where none was requested."""
    present = [part for part in parts if part is not None]
    return _images(present, shape) if present else None
