"""How much a map is worth: deletion curves, and the intervals of their means."""

from chiaroscuro.metrics.curve import DeletionCurve
from chiaroscuro.metrics.deletion import deletion_curve, deletion_curves

__all__ = ["DeletionCurve", "deletion_curve", "deletion_curves"]
