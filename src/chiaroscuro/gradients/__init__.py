"""The class-gradient engine: the only place that differentiates with respect to pixels."""

from chiaroscuro.gradients.engine import ClassGradients, GradientChoices, class_gradients
from chiaroscuro.gradients.points import METHODS, Points

__all__ = ["METHODS", "ClassGradients", "GradientChoices", "Points", "class_gradients"]
