"""How much a map is worth: deletion curves, and the intervals of their means."""

from chiaroscuro.metrics.curve import DeletionCurve
from chiaroscuro.metrics.deletion import curves_by_fill, deletion_curve, deletion_curves
from chiaroscuro.metrics.forecast import Forecast, forecast

__all__ = [
    "DeletionCurve",
    "Forecast",
    "curves_by_fill",
    "deletion_curve",
    "deletion_curves",
    "forecast",
]
