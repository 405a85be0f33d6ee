"""How many pixels are changed, and how exact a linear prediction must be."""

from typing import Literal

Protocol = Literal["paper", "matched"]

PROTOCOLS: tuple[str, ...] = ("paper", "matched")
METRICS: dict[str, str] = {
    "deletion": "whether predictions hold when a map's highest pixels change",
    "sharpness": "how unequally a map's mass lies on its pixels, and how smooth it is",
}
"""What an evaluation can measure, with its meaning; `chiaroscuro.evaluation.METRICS` says how."""
PAPER_FRACTIONS: tuple[float, ...] = (
    0, 0.03, 0.05, 0.07, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9,
)  # fmt: skip
"""The shares of pixels that the paper deletes."""
WHAT_IF_FRACTION = 0.05
"""The share of pixels that a what-if changes."""
WHAT_IF_STEPS: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0)
"""The steps towards the changed image at which a what-if over many images compares changes."""
WHAT_IF_TOLERANCE = 0.25
"""A prediction is right if the actual change differs by at most this share of it."""
