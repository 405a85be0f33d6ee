"""How far the linear prediction of a pixel change is right: predicted against actual changes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from chiaroscuro.choices import WHAT_IF_STEPS, WHAT_IF_TOLERANCE
from chiaroscuro.classifier import Classifier
from chiaroscuro.device import device_profile
from chiaroscuro.edits import rising_numbers
from chiaroscuro.errors import InputError, brief
from chiaroscuro.gradients import logit_change
from chiaroscuro.gradients.classes import check_logits
from chiaroscuro.guard import as_found


@dataclass(frozen=True, eq=False)
class Linearity:
    """Predicted and actual logit changes of B pixel changes at S step sizes in (0, 1].

    `logits` (B, K) of the untouched images; `predicted_change` (B, K), to first order at step 1;
    `actual_change` (B, S, K) at every step; `changed` (B,): pixels whose value changes.
    """

    steps: tuple[float, ...]
    logits: Tensor
    predicted_change: Tensor
    actual_change: Tensor
    changed: Tensor
    __repr__ = brief

    def predicted_at_steps(self) -> Tensor:
        """The predicted change of every logit at every step, step * predicted_change: (B, S, K)."""
        steps = self.predicted_change.new_tensor(self.steps)
        return steps[:, None] * self.predicted_change[:, None]

    def flips(self) -> Tensor:
        """Whether the predicted class changes, at every step: (B, S)."""
        return self._flips(self.actual_change)

    def predicted_flips(self) -> Tensor:
        """Whether the predicted class changes according to first order, at every step: (B, S)."""
        return self._flips(self.predicted_at_steps())

    def within_tolerance(self, target: Tensor, tolerance: float = WHAT_IF_TOLERANCE) -> Tensor:
        """Whether the linear prediction is right for the logit of `target` (B,): (B, S).

        Predicted and actual change have one sign and differ by at most `tolerance` times the
        predicted one; differences within rounding of the logits count as 0.
        """
        column = target.to(self.logits.device).view(-1, 1, 1).expand(-1, len(self.steps), 1)
        predicted = self.predicted_at_steps().gather(2, column)[..., 0]
        actual = self.actual_change.gather(2, column)[..., 0]
        # So many roundings of the largest logit count as no difference.
        slack = 16 * torch.finfo(actual.dtype).eps * self.logits.abs().amax(dim=1, keepdim=True)
        near = (actual - predicted).abs() <= tolerance * predicted.abs() + slack
        return near & ((actual * predicted > 0) | (predicted.abs() <= slack))

    def valid_step(self, target: Tensor, tolerance: float = WHAT_IF_TOLERANCE) -> Tensor:
        """The last step before the first that is out of tolerance, else 0: (B,) in float64."""
        right = self.within_tolerance(target, tolerance).long().cumprod(dim=1).sum(dim=1)
        return torch.tensor([0.0, *self.steps], dtype=torch.float64)[right.cpu()]

    def _flips(self, change: Tensor) -> Tensor:
        after = (self.logits[:, None] + change).argmax(dim=2)
        return after != self.logits.argmax(dim=1)[:, None]


def linearity(
    classifier: Classifier, pixels: Tensor, edited: Tensor, steps: Sequence[float] = WHAT_IF_STEPS
) -> Linearity:
    """Predicted and actual logit changes on the line from `pixels` x to `edited` y.

    At step t: predicted(t) = t J (y - x), with the Jacobian J of all K logits S at x;
    actual(t) = S(x + t (y - x)) - S(x). Both images are (B, C, H, W) in [0, 1].

    Raises `ImageError`, `InputError` for another shape, `ChoiceError` for steps that do not rise
    within (0, 1], `ModelError`.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5))
    >>> x, y = torch.rand(2, 3, 2, 2), torch.zeros(2, 3, 2, 2)
    >>> result = linearity(Classifier(net), x, y, [0.5, 1])
    >>> torch.allclose(result.actual_change, result.predicted_at_steps(), atol=1e-5)
    True
    >>> result.changed.tolist(), result.valid_step(torch.tensor([0, 1])).tolist()
    ([4, 4], [1.0, 1.0])
    """
    chosen = rising_numbers("steps", steps, "(0, 1]")
    if edited.shape != pixels.shape:
        expected = f"expected that of the pixels, {tuple(pixels.shape)}"
        raise InputError(f"edited images have shape {tuple(edited.shape)}: {expected}")
    classifier.check_pixels(edited)
    predicted = logit_change(classifier, pixels, edited - pixels)
    rows = max(1, device_profile(pixels.device).forward_bytes // pixels[0].nbytes)

    def logits(images: Tensor) -> Tensor:
        return torch.cat([classifier.logits(part) for part in torch.split(images, rows)])

    with torch.no_grad(), as_found(classifier.module):
        clean = logits(pixels)
        # A step of 1 is the edited image itself, to the bit.
        after = [logits(torch.lerp(pixels, edited, step)) for step in chosen]
    for found in after:
        check_logits(found, " after the change")
    actual = torch.stack(after, dim=1) - clean[:, None]
    changed = (edited != pixels).any(dim=1).flatten(1).sum(dim=1)
    return Linearity(chosen, clean, predicted, actual, changed)
