"""How a photo comes to a network's size, and a map to the eye."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, cast

from chiaroscuro.choices.names import as_int, check_names
from chiaroscuro.errors import ChoiceError

Fit = Literal["crop", "pad", "stretch"]
Scale = Literal["image", "shared"]

FITS: tuple[str, ...] = ("crop", "pad", "stretch")
INTERPOLATIONS: tuple[str, ...] = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
SCALES: tuple[str, ...] = ("image", "shared")
MAX_PIXELS = 89_478_485
"""Larger files are refused as decompression bombs (Pillow's own warning level)."""
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
        for name in ("size", "canvas"):
            object.__setattr__(self, name, _sides(name, getattr(self, name)))
        if (
            self.size
            and self.canvas
            and any(wide < narrow for wide, narrow in zip(self.canvas, self.size, strict=True))
        ):
            raise ChoiceError(f"canvas {self.canvas} is smaller than size {self.size}")

    def with_fit(self, fit: Fit | None) -> "Framing":
        """The same framing with another fit; None keeps this one."""
        return self if fit is None else replace(self, fit=fit)


def _sides(name: str, given: object) -> tuple[int, int] | None:
    """Height and width as Python's own integers."""
    if given is None:
        return None
    try:
        height, width = (as_int(name, side) for side in cast(Iterable[object], given))
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1:
        raise ChoiceError(f"{name} is {given}: expected (height, width) in pixels")
    if height * width > MAX_PIXELS:
        raise ChoiceError(f"{name} is {height} x {width}: expected at most {MAX_PIXELS:,} pixels")
    return height, width
