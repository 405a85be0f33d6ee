"""How much a map is worth: deletion curves, and the intervals of their means."""

from chiaroscuro.metrics.curve import DeletionCurve
from chiaroscuro.metrics.deletion import curves_by_fill, deletion_curve, deletion_curves

__all__ = ["DeletionCurve", "curves_by_fill", "deletion_curve", "deletion_curves"]
