"""How a photo comes to a network's size, and a map to the eye."""

from typing import Literal

Fit = Literal["crop", "pad", "stretch"]
Scale = Literal["image", "shared"]

FITS: tuple[str, ...] = ("crop", "pad", "stretch")
INTERPOLATIONS: tuple[str, ...] = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")
SCALES: tuple[str, ...] = ("image", "shared")
SMOOTHING = 0.02
"""Standard deviation of the smoothed view's Gaussian, as a share of the picture's shorter side."""
