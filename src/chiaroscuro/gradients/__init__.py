"""The class-gradient engine: the only place that differentiates with respect to pixels."""

from chiaroscuro.gradients.backward import CAPTUM
from chiaroscuro.gradients.engine import class_gradients
from chiaroscuro.gradients.methods import METHODS, Method
from chiaroscuro.gradients.own import own_gradient
from chiaroscuro.gradients.pixel_module import PixelModule
from chiaroscuro.gradients.points import Points
from chiaroscuro.gradients.result import ClassGradients, GradientChoices
from chiaroscuro.gradients.tangents import logit_change

__all__ = [
    "CAPTUM",
    "METHODS",
    "ClassGradients",
    "GradientChoices",
    "Method",
    "PixelModule",
    "Points",
    "class_gradients",
    "logit_change",
    "own_gradient",
]
