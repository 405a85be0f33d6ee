"""What a change of pixels does to every logit, beside what first order foretells."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from chiaroscuro.choices import WHAT_IF_STEPS, WHAT_IF_TOLERANCE
from chiaroscuro.classifier import Classifier
from chiaroscuro.edits import apply_edit, check_fractions, matched_counts, pixel_rank
from chiaroscuro.errors import ChoiceError, InputError
from chiaroscuro.gradients import logit_change
from chiaroscuro.guard import as_found

_CHUNK_BYTES = 8 << 20
"""Pixels predicted at a time: more leaves the cache, less leaves cores idle."""
_ROUNDING = 16
"""Differences of so many roundings of the largest logit are none."""


@dataclass(frozen=True, eq=False)
class Forecast:
    """B changes of images, each gone a part of the way at S steps in (0, 1].

    `logits` (B, K) at the untouched images; `predicted` (B, K), the change of every logit to first
    order at step 1, so that step t foretells t times it; `real` (B, S, K), the change that came.
    `changed` (B,): pixels whose value became another.
    """

    steps: tuple[float, ...]
    logits: Tensor
    predicted: Tensor
    real: Tensor
    changed: Tensor

    def foretold(self) -> Tensor:
        """The change of every logit that first order foretells at every step: (B, S, K)."""
        steps = self.predicted.new_tensor(self.steps)
        return steps[:, None] * self.predicted[:, None]

    def flipped(self) -> Tensor:
        """Whether the predicted class is another, at every step: (B, S)."""
        return self._flips(self.real)

    def flips_foretold(self) -> Tensor:
        """Whether it would be another if first order held, at every step: (B, S)."""
        return self._flips(self.foretold())

    def kept(self, target: Tensor, tolerance: float = WHAT_IF_TOLERANCE) -> Tensor:
        """Whether the target's logit (B,) keeps its promise at every step: (B, S).

        Kept: real and foretold change have one sign, and differ by at most `tolerance` of the
        foretold one; differences within rounding of the logits count as none.
        """
        column = target.to(self.real.device).view(-1, 1, 1).expand(-1, len(self.steps), 1)
        real, told = (change.gather(2, column)[..., 0] for change in (self.real, self.foretold()))
        size = self.logits.abs().amax(dim=1, keepdim=True)
        slack = _ROUNDING * torch.finfo(real.dtype).eps * size
        near = (real - told).abs() <= tolerance * told.abs() + slack
        return near & ((real * told > 0) | (told.abs() <= slack))

    def _flips(self, change: Tensor) -> Tensor:
        after = (self.logits[:, None] + change).argmax(dim=2)
        return after != self.logits.argmax(dim=1)[:, None]


def forecast(
    classifier: Classifier,
    pixels: Tensor,
    edited: Tensor,
    steps: Sequence[float] = WHAT_IF_STEPS,
) -> Forecast:
    """Foretell and measure the way from `pixels` x to `edited` y, both (B, C, H, W) in [0, 1].

    foretold(t) = t J (y - x), with the Jacobian J of all K logits at x; real(t) = S(x + t (y - x))
    - S(x). Raises `ImageError`, `InputError` for another shape, `ChoiceError` for steps that do not
    rise within (0, 1], `ModelError`.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5))
    >>> found = forecast(Classifier(net), torch.rand(2, 3, 2, 2), torch.zeros(2, 3, 2, 2), [0.5, 1])
    >>> torch.allclose(found.real, found.foretold(), atol=1e-5), found.changed.tolist()
    (True, [4, 4])
    """
    chosen = check_steps(steps)
    if edited.shape != pixels.shape:
        raise InputError(
            f"edited images have shape {tuple(edited.shape)}: expected that of the pixels, "
            f"{tuple(pixels.shape)}"
        )
    classifier.check_pixels(edited)
    predicted = logit_change(classifier, pixels, edited - pixels)
    with torch.no_grad(), as_found(classifier.module):
        # A step of 1 is the edited image itself, to the bit.
        ways = (pixels, *(torch.lerp(pixels, edited, step) for step in chosen))
        logits = [_logits(classifier, way) for way in ways]
    return Forecast(
        steps=chosen,
        logits=logits[0],
        predicted=predicted,
        real=torch.stack([found - logits[0] for found in logits[1:]], dim=1),
        changed=(edited != pixels).any(dim=1).flatten(1).sum(dim=1),
    )


def check_steps(steps: Sequence[float]) -> tuple[float, ...]:
    """Steps as a tuple; raises `ChoiceError` unless they rise within (0, 1]."""
    chosen = tuple(map(float, steps))
    if not chosen or chosen[0] <= 0 or chosen[-1] > 1 or list(chosen) != sorted(set(chosen)):
        raise ChoiceError(f"steps are {list(steps)}: expected rising numbers in (0, 1]")
    return chosen


def top_edit(pixels: Tensor, filled: Tensor, order: Tensor, fraction: float) -> Tensor:
    """Images (B, C, H, W) with the first round(fraction H W) pixels of each order (B, N) filled."""
    (share,) = check_fractions([fraction])
    counts = matched_counts(pixels[:, 0], [share])[:, 0]
    return apply_edit(pixels, filled, pixel_rank(order), counts)


def _logits(classifier: Classifier, pixels: Tensor) -> Tensor:
    rows = max(1, _CHUNK_BYTES // (pixels[0].numel() * pixels.element_size()))
    return torch.cat([classifier.logits(part) for part in torch.split(pixels, rows)])
