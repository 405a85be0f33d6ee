"""Which pixels want to be brighter, which darker, and for which class.

Public names are imported when first used, so that `import chiaroscuro` loads no torch.
"""

import logging
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chiaroscuro.allocator import tune_allocator as tune_allocator
    from chiaroscuro.checks import check as check
    from chiaroscuro.checks import confusions as confusions
    from chiaroscuro.checks import localize as localize
    from chiaroscuro.choices import PAPER_MAPS as PAPER_MAPS
    from chiaroscuro.classifier import Classifier as Classifier
    from chiaroscuro.data.loading import load_images as load_images
    from chiaroscuro.errors import ChiaroscuroError as ChiaroscuroError
    from chiaroscuro.errors import ChoiceError as ChoiceError
    from chiaroscuro.errors import ImageError as ImageError
    from chiaroscuro.errors import InputError as InputError
    from chiaroscuro.errors import MissingExtraError as MissingExtraError
    from chiaroscuro.errors import ModelError as ModelError
    from chiaroscuro.errors import ResultError as ResultError
    from chiaroscuro.evaluation import evaluate as evaluate
    from chiaroscuro.evaluation.convert import convert_maps as convert_maps
    from chiaroscuro.evaluation.export import export_maps as export_maps
    from chiaroscuro.evaluation.export import merge_maps as merge_maps
    from chiaroscuro.explanations import compare as compare
    from chiaroscuro.explanations import explain as explain
    from chiaroscuro.explanations import smallest_edit as smallest_edit
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
    from chiaroscuro.metrics import relevance_gain as relevance_gain
    from chiaroscuro.metrics.agreement import localization as localization
    from chiaroscuro.models import load_classifier as load_classifier
    from chiaroscuro.models import save_classifier as save_classifier
    from chiaroscuro.notebook import overlay as overlay
    from chiaroscuro.notebook import plot_maps as plot_maps
    from chiaroscuro.regions import Region as Region
    from chiaroscuro.results import load as load_result  # noqa: F401
    from chiaroscuro.results.changes import SmallestEdit as SmallestEdit
    from chiaroscuro.results.changes import WhatIf as WhatIf
    from chiaroscuro.results.confusions import Confusions as Confusions
    from chiaroscuro.results.copying import copy_result as copy_result
    from chiaroscuro.results.explanations import Comparison as Comparison
    from chiaroscuro.results.explanations import Explanation as Explanation
    from chiaroscuro.results.maps import MapExport as MapExport
    from chiaroscuro.results.measurements import Evaluation as Evaluation
    from chiaroscuro.results.measurements import Localization as Localization
    from chiaroscuro.results.measurements import SanityCheck as SanityCheck
    from chiaroscuro.results.runs import merge_runs as merge_runs
    from chiaroscuro.settings import CheckSettings as CheckSettings
    from chiaroscuro.settings import ConfusionSettings as ConfusionSettings
    from chiaroscuro.settings import EvaluationSettings as EvaluationSettings
    from chiaroscuro.settings import LocalizationSettings as LocalizationSettings
    from chiaroscuro.settings import MapExportSettings as MapExportSettings
    from chiaroscuro.settings import ProbeSettings as ProbeSettings
    from chiaroscuro.settings import TrainingSettings as TrainingSettings
    from chiaroscuro.smallest import SmallestEdits as SmallestEdits
    from chiaroscuro.smallest import smallest_edits as smallest_edits
    from chiaroscuro.training import train as train
    from chiaroscuro.training.probe import MapProbe as MapProbe

_NAMES = {
    "allocator": ["tune_allocator"], "choices": ["PAPER_MAPS"],
    "checks": ["check", "confusions", "localize"],
    "classifier": ["Classifier"], "data.loading": ["load_images"], "evaluation": ["evaluate"],
    "evaluation.convert": ["convert_maps"], "evaluation.export": ["export_maps", "merge_maps"],
    "results.confusions": ["Confusions"], "results.copying": ["copy_result"],
    "results.maps": ["MapExport"], "results.runs": ["merge_runs"],
    "errors": ["ChiaroscuroError", "ChoiceError", "ImageError", "InputError", "MissingExtraError",
               "ModelError", "ResultError"],
    "explanations": ["compare", "explain", "smallest_edit", "what_if"], "training": ["train"],
    "training.probe": ["MapProbe"],
    "gradients": ["ClassGradients", "Method", "Points", "Reducer", "class_gradients",
                  "logit_change", "reduce_gradients", "target_gradients"],
    "maps": ["EDIT_MAPS", "MAPS", "edit_map", "saliency_maps"],
    "metrics": ["DeletionCurve", "deletion_curve", "localization", "map_similarity",
                "relevance_gain"],
    "models": ["load_classifier", "save_classifier"],
    "notebook": ["overlay", "plot_maps"], "regions": ["Region"], "results": ["load_result"],
    "results.changes": ["SmallestEdit", "WhatIf"],
    "results.explanations": ["Comparison", "Explanation"],
    "results.measurements": ["Evaluation", "Localization", "SanityCheck"],
    "smallest": ["SmallestEdits", "smallest_edits"],
    "settings": ["CheckSettings", "ConfusionSettings", "EvaluationSettings", "LocalizationSettings",
                 "MapExportSettings", "ProbeSettings", "TrainingSettings"],
}  # fmt: skip
"""Every public name by the module that it is imported from."""
_HOME = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_HOME)  # noqa: PLE0605
__version__ = version("chiaroscuro")
logging.getLogger(__name__).addHandler(logging.NullHandler())  # else Python prints what is logged


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'chiaroscuro' has no attribute {name!r}")
    return getattr(import_module(f"chiaroscuro.{_HOME[name]}"), name.replace("load_result", "load"))


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
