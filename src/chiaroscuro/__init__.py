"""Which pixels want to be brighter, which darker, and for which class.

Public names are imported when first used, so that `import chiaroscuro` loads no torch.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chiaroscuro.allocator import tune_allocator as tune_allocator
    from chiaroscuro.checks import check as check
    from chiaroscuro.checks import localize as localize
    from chiaroscuro.choices import PAPER_MAPS as PAPER_MAPS
    from chiaroscuro.choices import CheckSettings as CheckSettings
    from chiaroscuro.choices import EvaluationSettings as EvaluationSettings
    from chiaroscuro.choices import LocalizationSettings as LocalizationSettings
    from chiaroscuro.choices import TrainingSettings as TrainingSettings
    from chiaroscuro.classifier import Classifier as Classifier
    from chiaroscuro.data import load_images as load_images
    from chiaroscuro.errors import ChiaroscuroError as ChiaroscuroError
    from chiaroscuro.errors import ChoiceError as ChoiceError
    from chiaroscuro.errors import ImageError as ImageError
    from chiaroscuro.errors import InputError as InputError
    from chiaroscuro.errors import MissingExtraError as MissingExtraError
    from chiaroscuro.errors import ModelError as ModelError
    from chiaroscuro.errors import ResultError as ResultError
    from chiaroscuro.evaluation import evaluate as evaluate
    from chiaroscuro.explanations import compare as compare
    from chiaroscuro.explanations import explain as explain
    from chiaroscuro.explanations import what_if as what_if
    from chiaroscuro.gradients import ClassGradients as ClassGradients
    from chiaroscuro.gradients import Method as Method
    from chiaroscuro.gradients import Points as Points
    from chiaroscuro.gradients import Reducer as Reducer
    from chiaroscuro.gradients import class_gradients as class_gradients
    from chiaroscuro.gradients import logit_change as logit_change
    from chiaroscuro.gradients import reduce_gradients as reduce_gradients
    from chiaroscuro.gradients import target_gradients as target_gradients
    from chiaroscuro.maps import EDIT_MAPS as EDIT_MAPS
    from chiaroscuro.maps import MAPS as MAPS
    from chiaroscuro.maps import edit_map as edit_map
    from chiaroscuro.maps import saliency_maps as saliency_maps
    from chiaroscuro.metrics import DeletionCurve as DeletionCurve
    from chiaroscuro.metrics import deletion_curve as deletion_curve
    from chiaroscuro.metrics import map_similarity as map_similarity
    from chiaroscuro.metrics.localization import localization as localization
    from chiaroscuro.models import load_classifier as load_classifier
    from chiaroscuro.models import save_classifier as save_classifier
    from chiaroscuro.results import Comparison as Comparison
    from chiaroscuro.results import Evaluation as Evaluation
    from chiaroscuro.results import Explanation as Explanation
    from chiaroscuro.results import Localization as Localization
    from chiaroscuro.results import SanityCheck as SanityCheck
    from chiaroscuro.results import WhatIf as WhatIf
    from chiaroscuro.results import load as load_result
    from chiaroscuro.training import train as train

_HOME = {
    "PAPER_MAPS": "choices",
    "Classifier": "classifier",
    "Comparison": "results",
    "compare": "explanations",
    "load_images": "data",
    "EDIT_MAPS": "maps",
    "edit_map": "maps",
    "ChiaroscuroError": "errors",
    "ChoiceError": "errors",
    "ImageError": "errors",
    "InputError": "errors",
    "MissingExtraError": "errors",
    "ModelError": "errors",
    "ResultError": "errors",
    "Explanation": "results",
    "explain": "explanations",
    "ClassGradients": "gradients",
    "class_gradients": "gradients",
    "logit_change": "gradients",
    "Reducer": "gradients",
    "reduce_gradients": "gradients",
    "target_gradients": "gradients",
    "MAPS": "maps",
    "saliency_maps": "maps",
    "DeletionCurve": "metrics",
    "deletion_curve": "metrics",
    "localization": "metrics",
    "map_similarity": "metrics",
    "load_classifier": "models",
    "save_classifier": "models",
    "tune_allocator": "allocator",
    "WhatIf": "results",
    "what_if": "explanations",
    "evaluate": "evaluation",
    "check": "checks",
    "localize": "checks",
    "train": "training",
    "CheckSettings": "choices",
    "EvaluationSettings": "choices",
    "LocalizationSettings": "choices",
    "TrainingSettings": "choices",
    "Evaluation": "results",
    "Localization": "results",
    "SanityCheck": "results",
    "Method": "gradients",
    "Points": "gradients",
    "load_result": "results:load",
}

__all__ = [
    "EDIT_MAPS",
    "MAPS",
    "PAPER_MAPS",
    "CheckSettings",
    "ChiaroscuroError",
    "ChoiceError",
    "ClassGradients",
    "Classifier",
    "Comparison",
    "DeletionCurve",
    "Evaluation",
    "EvaluationSettings",
    "Explanation",
    "ImageError",
    "InputError",
    "Localization",
    "LocalizationSettings",
    "Method",
    "MissingExtraError",
    "ModelError",
    "Points",
    "Reducer",
    "ResultError",
    "SanityCheck",
    "TrainingSettings",
    "WhatIf",
    "check",
    "class_gradients",
    "compare",
    "deletion_curve",
    "edit_map",
    "evaluate",
    "explain",
    "load_classifier",
    "load_images",
    "load_result",
    "localization",
    "localize",
    "logit_change",
    "map_similarity",
    "reduce_gradients",
    "saliency_maps",
    "save_classifier",
    "target_gradients",
    "train",
    "tune_allocator",
    "what_if",
]
__version__ = version("chiaroscuro")


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'chiaroscuro' has no attribute {name!r}")
    module, _, inside = _HOME[name].partition(":")
    return getattr(import_module(f"chiaroscuro.{module}"), inside or name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
