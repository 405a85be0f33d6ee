"""A gradient method is a set of points with weights."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from chiaroscuro.errors import ChoiceError, unknown


@dataclass(frozen=True, eq=False)
class Points:
    """Where the gradient is asked, and how much each answer counts.

    `pixels` (P, B, C, H, W); `weights` (P, B). The attribution of class k for image b is
    sum_p weights[p, b] * dS_k/dx at pixels[p, b], times `factor` (B, C, H, W) if there is one.
    Every class sees the same points, and signs and rivals are taken on the attribution. Points may
    lie outside [0, 1].
    """

    pixels: Tensor
    weights: Tensor
    factor: Tensor | None = None

    def __post_init__(self) -> None:
        if self.factor is not None and self.factor.shape != self.pixels.shape[1:]:
            raise ChoiceError(
                f"points have a factor {tuple(self.factor.shape)}: expected (B, C, H, W) = "
                f"{tuple(self.pixels.shape[1:])} as their images"
            )
        if self.pixels.ndim != 5 or self.weights.shape != self.pixels.shape[:2]:
            raise ChoiceError(
                f"points have pixels {tuple(self.pixels.shape)} and weights "
                f"{tuple(self.weights.shape)}: expected (P, B, C, H, W) and (P, B)"
            )

    def __len__(self) -> int:
        return self.pixels.shape[0]

    def images(self, first: int, last: int) -> "Points":
        """The same points for images first..last-1 only."""
        factor = None if self.factor is None else self.factor[first:last]
        return Points(self.pixels[:, first:last], self.weights[:, first:last], factor)


def gradient_points(pixels: Tensor) -> Points:
    """The plain gradient: one point, the image itself, with weight 1."""
    return Points(pixels[None], torch.ones_like(pixels[None, :, 0, 0, 0]))


METHODS: dict[str, Callable[[Tensor], Points]] = {"gradient": gradient_points}
"""Every method by name: pixels (B, C, H, W) to `Points`."""


def resolve_points(method: str | Points, pixels: Tensor) -> Points:
    """The points of a named method, or explicit points checked against the pixels."""
    if isinstance(method, str):
        if method not in METHODS:
            raise unknown("method", method, METHODS)
        return METHODS[method](pixels)
    if method.pixels.shape[1:] != pixels.shape:
        raise ChoiceError(
            f"points are for images {tuple(method.pixels.shape[1:])}: "
            f"the pixels are {tuple(pixels.shape)}"
        )
    return method
