"""How a photo comes to a network's size, and a map to the eye."""

from dataclasses import dataclass, replace
from typing import Literal

from chiaroscuro.choices.names import check_names
from chiaroscuro.errors import ChoiceError

Fit = Literal["crop", "pad", "stretch"]
Scale = Literal["image", "shared"]

FITS: tuple[str, ...] = ("crop", "pad", "stretch")
INTERPOLATIONS: tuple[str, ...] = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
SCALES: tuple[str, ...] = ("image", "shared")
SMOOTHING = 0.02
"""Standard deviation of the smoothed view's Gaussian, as a share of the picture's shorter side."""


@dataclass(frozen=True, slots=True)
class Framing:
    """How a photo becomes pixels of a network's size.

    `size` (H, W) in pixels; None takes photos as they are. `fit`: "crop" scales the photo until it
    covers `canvas` (H, W) and cuts `size` out of the middle, "stretch" scales both sides to
    `canvas` and cuts too, "pad" scales it into `size` and fills the rest with mid-gray. `canvas` is
    `size` unless given.
    """

    size: tuple[int, int] | None = None
    canvas: tuple[int, int] | None = None
    fit: Fit = "crop"
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        check_names("fit", [self.fit], FITS)
        check_names("interpolation", [self.interpolation], INTERPOLATIONS)
        for name, sides in (("size", self.size), ("canvas", self.canvas)):
            if sides is not None and (len(sides) != 2 or min(sides) < 1):
                raise ChoiceError(f"{name} is {sides}: expected (height, width) in pixels")
        if (
            self.size
            and self.canvas
            and any(wide < narrow for wide, narrow in zip(self.canvas, self.size, strict=True))
        ):
            raise ChoiceError(f"canvas {self.canvas} is smaller than size {self.size}")

    def with_fit(self, fit: Fit | None) -> "Framing":
        """The same framing with another fit; None keeps this one."""
        return self if fit is None else replace(self, fit=fit)
