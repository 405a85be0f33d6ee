"""A gradient method is a set of points with weights."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from chiaroscuro.errors import ChoiceError


@dataclass(frozen=True, eq=False)
class Points:
    """Where the gradient is asked, and how much each answer counts.

    `pixels` (P, B, C, H, W); `weights` (P, B). The attribution of class k for image b is
    sum_p weights[p, b] * dS_k/dx at pixels[p, b], times `factor` if there is one: (B, C, H, W)
    multiplies the sum, (P, B, C, H, W) each point's gradient before it. Every class sees the same
    points, and signs and rivals are taken on the attribution. Points may lie outside [0, 1].
    """

    pixels: Tensor
    weights: Tensor
    factor: Tensor | None = None

    def __post_init__(self) -> None:
        shape = self.pixels.shape
        if self.factor is not None and self.factor.shape not in (shape, shape[1:]):
            raise ChoiceError(
                f"points have a factor {tuple(self.factor.shape)}: expected (B, C, H, W) = "
                f"{tuple(shape[1:])} as their images, or (P, B, C, H, W) = {tuple(shape)}"
            )
        if self.pixels.ndim != 5 or self.weights.shape != self.pixels.shape[:2]:
            raise ChoiceError(
                f"points have pixels {tuple(self.pixels.shape)} and weights "
                f"{tuple(self.weights.shape)}: expected (P, B, C, H, W) and (P, B)"
            )

    def __len__(self) -> int:
        return self.pixels.shape[0]

    @property
    def point_factor(self) -> Tensor | None:
        """The factor of each point (P, B, C, H, W), where each has its own."""
        return self.factor if self.factor is not None and self.factor.ndim == 5 else None

    @property
    def sum_factor(self) -> Tensor | None:
        """The factor of the sum (B, C, H, W), where there is one for all points."""
        return self.factor if self.factor is not None and self.factor.ndim == 4 else None

    def images(self, first: int, last: int) -> "Points":
        """The same points for images first..last-1 only."""
        factor = None if self.factor is None else self.factor[..., first:last, :, :, :]
        return Points(self.pixels[:, first:last], self.weights[:, first:last], factor)

    def part(self, first: int, last: int) -> "Points":
        """Points first..last-1 only, without the factor of the sum, which is not theirs."""
        factor = None if self.point_factor is None else self.point_factor[first:last]
        return Points(self.pixels[first:last], self.weights[first:last], factor)


class PointSource(Protocol):
    """Points of many images, made for a few images at a time."""

    def __len__(self) -> int:
        """How many points an image has."""

    def images(self, first: int, last: int) -> Points:
        """The points of images first..last-1."""
