"""The class-gradient engine: the only place that differentiates with respect to pixels."""

from chiaroscuro.gradients.captum.methods import CAPTUM
from chiaroscuro.gradients.captum.pixel_module import PixelModule
from chiaroscuro.gradients.engine import class_gradients, reduce_gradients
from chiaroscuro.gradients.methods import METHODS, Method, Points
from chiaroscuro.gradients.reducers import Reducer
from chiaroscuro.gradients.result import ClassGradients, GradientChoices
from chiaroscuro.gradients.tangents import logit_change
from chiaroscuro.gradients.target import target_gradients

__all__ = [
    "CAPTUM",
    "METHODS",
    "ClassGradients",
    "GradientChoices",
    "Method",
    "PixelModule",
    "Points",
    "Reducer",
    "class_gradients",
    "logit_change",
    "reduce_gradients",
    "target_gradients",
]
