"""Which map another library gets, at any pixels, also outside [0, 1] after added noise."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from chiaroscuro.adapters.network import PixelNetwork
from chiaroscuro.choices import (
    METHODS,
    RANKING_MAPS,
    SCORES,
    Reduce,
    RivalRule,
    Score,
    check_names,
    parse_rivals,
)
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ChoiceError, ImageError
from chiaroscuro.gradients import Method, Points, class_gradients
from chiaroscuro.maps import MAPS, saliency_maps

Rivals = str | Sequence[int] | RivalRule

_FAR = 25.0
"""Noise and normalized input stay within +-25; 8-bit pixels do not."""


@dataclass(frozen=True)
class Question:
    """A map by name, with its rivals, method and score."""

    map: str
    rivals: RivalRule
    method: str | Method
    score: Score
    memory_budget: int | None = None

    @property
    def method_name(self) -> str:
        """The method without its settings."""
        return self.method.name if isinstance(self.method, Method) else self.method

    def values(
        self, classifier: Classifier, pixels: Tensor, target: Any, reduce: Reduce = "max"
    ) -> Tensor:
        """The map at pixels (B, C, H, W): (B, H, W), or (B, C, H, W) for `reduce="none"`.

        Pixels may lie outside [0, 1]: the predicted class and the top rivals are then those of the
        pixels as they are. Raises `ChoiceError` for a method other than the gradient there, and
        `ImageError` for pixels so far outside that they must be of another scale.
        """
        if _engine_decides(pixels):
            return self._map(classifier, pixels, target, self.rivals, self.method, reduce)
        pixels = pixels.detach()
        self._check_outside(pixels)
        with torch.no_grad():
            logits = PixelNetwork(classifier)(pixels)
        if target is None and not classifier.multi_label:
            target = logits.argmax(dim=1)
        classes = _one_each(target, len(pixels))
        if self.rivals.count is None or len(classes) != len(pixels):
            return self._map(classifier, pixels, target, self.rivals, None, reduce)
        parts = [
            self._map(classifier, image[None], own, _top(row, own, self.rivals), None, reduce)
            for image, row, own in zip(pixels, logits, classes, strict=True)
        ]
        return torch.cat(parts)

    def _map(
        self,
        classifier: Classifier,
        pixels: Tensor,
        target: Any,
        rivals: RivalRule,
        method: str | Method | None,
        reduce: Reduce,
    ) -> Tensor:
        """One call of the engine; without a method the gradient at these pixels."""
        points: str | Method | Points
        if method is None:
            points = Points(pixels[None], torch.ones_like(pixels[None, :, 0, 0, 0]))
            pixels = pixels.clamp(0, 1)
        else:
            points = method
        gradients = class_gradients(
            classifier, pixels, target, rivals, points, self.score, self.memory_budget
        )
        return saliency_maps(gradients, [self.map], reduce=reduce)[self.map]

    def _check_outside(self, pixels: Tensor) -> None:
        low, high = (float(value) for value in torch.aminmax(pixels))
        if not (isfinite(low) and isfinite(high)):
            raise ImageError("pixels hold NaN or infinite values: expected floats in [0, 1]")
        if low < -_FAR or high > _FAR:
            raise ImageError(
                f"pixels have values from {low:.4g} to {high:.4g}: expected floats in [0, 1], "
                "with some noise at most; divide 8-bit values by 255"
            )
        if self.rivals.is_weighted:
            raise ChoiceError(
                f"pixels have values from {low:.4g} to {high:.4g}: outside [0, 1] rivals compete "
                f"one by one, not as a mean ({self.rivals}); clamp them, or give other rivals"
            )
        if self.method_name != "gradient":
            raise ChoiceError(
                f"pixels have values from {low:.4g} to {high:.4g}: outside [0, 1] the only method "
                f"is gradient, not {self.method_name}; clamp them, or give method='gradient'"
            )


def make_question(
    name: str, rivals: Rivals, method: str | Method, score: Score, memory_budget: int | None
) -> Question:
    """The choices checked; raises `ChoiceError` for unknown ones and for maps of classes."""
    check_names("map", [name], MAPS)
    if name not in RANKING_MAPS:
        raise ChoiceError(f"map {name!r} is no attribution: give one of {', '.join(RANKING_MAPS)}")
    if not isinstance(method, Method):
        check_names("method", [method], METHODS)
    check_names("score", [score], SCORES)
    return Question(name, parse_rivals(rivals), method, score, memory_budget)


def _engine_decides(pixels: Any) -> bool:
    """Whether the pixels are in [0, 1], or no images at all, which the engine refuses."""
    if not isinstance(pixels, Tensor) or pixels.ndim != 4 or pixels.numel() == 0:
        return True
    return bool(((pixels >= 0) & (pixels <= 1)).all())


def _one_each(target: Any, images: int) -> list[Any]:
    """The target of each image; another count stays as it is, for the engine to refuse."""
    classes = torch.as_tensor(target).flatten().tolist() if target is not None else [None]
    return classes * images if len(classes) == 1 else classes


def _top(logits: Tensor, own: int, rule: RivalRule) -> RivalRule:
    """The rule's N highest logits (K,) other than the target, as a list of classes."""
    ranked = logits.argsort(descending=True, stable=True).tolist()
    return RivalRule(classes=tuple([k for k in ranked if k != own][: rule.count]))
