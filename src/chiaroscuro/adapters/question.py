"""Which map another library gets, at any pixels, also outside [0, 1] after added noise."""

import copy
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn

from chiaroscuro import choices
from chiaroscuro.choices import Reduce, RivalRule, Rivals, Score, check_names
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ChoiceError, ImageError
from chiaroscuro.gradients import Method, Points, class_gradients
from chiaroscuro.gradients.classes import class_indices, resolve_target, target_indices
from chiaroscuro.guard import as_found, mark_eval
from chiaroscuro.maps import saliency_maps

_FAR = 25.0
"""Noise and normalized input stay within +-25; 8-bit pixels do not."""


class PixelNetwork(nn.Module):
    """A classifier as an `nn.Module`: pixels (B, C, H, W) to logits (B, K), normalized inside.

    It runs in eval mode and leaves the classifier's module unchanged, also when `train()` or
    `eval()` is called. Pixels may lie outside [0, 1]. Gradients pass through.

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    >>> PixelNetwork(Classifier(net, mean=0.5, std=0.25))(torch.zeros(5, 3, 2, 2)).shape
    torch.Size([5, 3])
    """

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.module = classifier.module
        self._classifier = classifier
        mark_eval(self)

    @property
    def classifier(self) -> Classifier:
        """The classifier around this module's own network, which may be a changed copy."""
        around = copy.copy(self._classifier)
        around.module = self.module
        return around

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits (B, K); raises `ModelError` when the module gives none."""
        with as_found(self.module):
            return self.classifier.logits(pixels)

    def train(self, mode: bool = True) -> Self:
        """Nothing: the network runs in eval mode, and its own flags stay."""
        return self


@dataclass(frozen=True)
class Question:
    """A map by name, with its rivals, method and score."""

    map: str
    rivals: RivalRule
    method: str | Method
    score: Score
    memory_budget: int | None = None

    def values(
        self, classifier: Classifier, pixels: Tensor, target: Any, reduce: Reduce = "max"
    ) -> Tensor:
        """The map at pixels (B, C, H, W), which may lie outside [0, 1]: (B, H, W).

        For `reduce="none"` (B, C, H, W). The predicted class and the top rivals are those of the
        pixels as they are; outside [0, 1] the method is the plain gradient.
        """

        def ask(pixels: Tensor, target: Any, rivals: RivalRule, method: Any) -> Tensor:
            gradients = class_gradients(
                classifier, pixels, target, rivals, method, self.score, self.memory_budget
            )
            return saliency_maps(gradients, [self.map], reduce=reduce)[self.map]

        is_batch = isinstance(pixels, Tensor) and pixels.ndim == 4
        if not is_batch or not bool(((pixels < 0) | (pixels > 1)).any()):
            return ask(pixels, target, self.rivals, self.method)
        self._check_outside(pixels)
        pixels, rule = pixels.detach(), self.rivals.resolve(classifier.class_index)
        with torch.no_grad():
            logits = PixelNetwork(classifier)(pixels)
        indices = target_indices(target, classifier)
        chosen = resolve_target(indices, logits, multi_label=classifier.multi_label)
        points = Points(pixels[None], torch.ones_like(pixels[None, :, 0, 0, 0]))
        inside = pixels.clamp(0, 1)
        if rule.count is None:
            return ask(inside, chosen, rule, points)
        rivals = class_indices(rule, logits, chosen)[:, 1:].tolist()
        maps = [
            ask(inside[[b]], chosen[[b]], RivalRule(classes=tuple(others)), points.images(b, b + 1))
            for b, others in enumerate(rivals)
        ]
        return torch.cat(maps)

    def _check_outside(self, pixels: Tensor) -> None:
        low, high = (float(value) for value in torch.aminmax(pixels))
        values = f"pixels have values from {low:.4g} to {high:.4g}"
        if not -_FAR <= low <= high <= _FAR:
            raise ImageError(f"{values}: expected floats in [0, 1]; divide 8-bit values by 255")
        if self.rivals.is_weighted:
            raise ChoiceError(
                f"{values}: outside [0, 1] rivals compete one by one, not as a mean ({self.rivals})"
            )
        name = self.method.name if isinstance(self.method, Method) else self.method
        if name != "gradient":
            raise ChoiceError(f"{values}: outside [0, 1] the only method is gradient, not {name}")


def make_question(
    name: str, rivals: Rivals, method: str | Method, score: Score, memory_budget: int | None
) -> Question:
    """The choices checked; raises `ChoiceError` for unknown ones and for maps of classes."""
    check_names("map", [name], choices.MAPS)
    if name not in choices.RANKING_MAPS:
        known = ", ".join(choices.RANKING_MAPS)
        raise ChoiceError(f"map {name!r} is no attribution: give one of {known}")
    if not isinstance(method, Method):
        check_names("method", [method], choices.METHODS)
    check_names("score", [score], choices.SCORES)
    return Question(name, choices.parse_rivals(rivals), method, score, memory_budget)
