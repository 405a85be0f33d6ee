"""What a map is worth: deletion, linearity, localization, similarity, and intervals of means."""

from chiaroscuro.metrics.deletion import (
    DeletionCurve,
    curves_by_fill,
    deletion_curve,
    deletion_curves,
)
from chiaroscuro.metrics.linearity import Linearity, linearity
from chiaroscuro.metrics.localization import Localization, localization
from chiaroscuro.metrics.similarity import Similarity, map_similarity

__all__ = [
    "DeletionCurve",
    "Linearity",
    "Localization",
    "Similarity",
    "curves_by_fill",
    "deletion_curve",
    "deletion_curves",
    "linearity",
    "localization",
    "map_similarity",
]
