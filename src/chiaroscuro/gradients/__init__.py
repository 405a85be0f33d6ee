"""The class-gradient engine: the only place that differentiates with respect to pixels."""

from chiaroscuro.gradients.captum import CAPTUM as CAPTUM
from chiaroscuro.gradients.captum import PixelModule as PixelModule
from chiaroscuro.gradients.engine import class_gradients as class_gradients
from chiaroscuro.gradients.engine import reduce_gradients as reduce_gradients
from chiaroscuro.gradients.jacobian import logit_change as logit_change
from chiaroscuro.gradients.jacobian import target_gradients as target_gradients
from chiaroscuro.gradients.methods import METHODS as METHODS
from chiaroscuro.gradients.methods import Method as Method
from chiaroscuro.gradients.methods import Points as Points
from chiaroscuro.gradients.reducers import ClassGradients as ClassGradients
from chiaroscuro.gradients.reducers import GradientChoices as GradientChoices
from chiaroscuro.gradients.reducers import Reducer as Reducer
