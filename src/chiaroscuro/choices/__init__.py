"""Names, defaults and frozen configurations, without torch.

`--help`, pages and saved results read these, so they load in milliseconds. What a name *does* lives
in the table of the module named beside it; tests hold both to the same names.
"""

from chiaroscuro.choices.fills import FILLS, Fill, FillChoice, parse_fill
from chiaroscuro.choices.maps import (
    CONTRAST_MAPS,
    EDIT_MAPS,
    EXPLAIN_MAPS,
    MAPS,
    MEASURED_MAPS,
    NORMALIZATIONS,
    ORDERS,
    PAPER_MAPS,
    RANDOM,
    RANKING_MAPS,
    REDUCTIONS,
    Helps,
    Kind,
    MapChoice,
    Normalize,
    Reduce,
)
from chiaroscuro.choices.methods import (
    BASELINES,
    METHODS,
    SCORES,
    MethodChoice,
    MethodOptions,
    OwnScore,
    Score,
    parse_method,
)
from chiaroscuro.choices.names import as_float, as_int, check_names
from chiaroscuro.choices.options import method_name, settings_from, takes
from chiaroscuro.choices.pictures import (
    FITS,
    INTERPOLATIONS,
    MAX_PIXELS,
    SCALES,
    SMOOTHING,
    Fit,
    Framing,
    Scale,
)
from chiaroscuro.choices.protocols import (
    METRICS,
    PAPER_FRACTIONS,
    PROTOCOLS,
    WHAT_IF_FRACTION,
    WHAT_IF_STEPS,
    WHAT_IF_TOLERANCE,
    Protocol,
)
from chiaroscuro.choices.results import DEFAULT_MODEL, DEFAULT_OUT
from chiaroscuro.choices.rivals import RIVAL_WORDS, Class, RivalRule, Rivals, parse_rivals
from chiaroscuro.choices.settings import (
    CHECKPOINT,
    PRECISIONS,
    TARGETS,
    CheckSettings,
    CompareSettings,
    EvaluationSettings,
    ExplainSettings,
    LocalizationSettings,
    TrainingSettings,
    WhatIfSettings,
)

__all__ = [
    "BASELINES", "CHECKPOINT", "CONTRAST_MAPS", "DEFAULT_MODEL", "DEFAULT_OUT", "EDIT_MAPS",
    "EXPLAIN_MAPS", "FILLS", "FITS", "INTERPOLATIONS", "MAPS", "MAX_PIXELS", "MEASURED_MAPS",
    "METHODS", "METRICS", "NORMALIZATIONS", "ORDERS", "PAPER_FRACTIONS", "PAPER_MAPS", "PRECISIONS",
    "PROTOCOLS", "RANDOM", "RANKING_MAPS", "REDUCTIONS", "RIVAL_WORDS", "SCALES", "SCORES",
    "SMOOTHING", "TARGETS", "WHAT_IF_FRACTION", "WHAT_IF_STEPS", "WHAT_IF_TOLERANCE",
    "CheckSettings", "Class", "CompareSettings", "EvaluationSettings", "ExplainSettings", "Fill",
    "FillChoice", "Fit", "Framing", "Helps", "Kind", "LocalizationSettings", "MapChoice",
    "MethodChoice", "MethodOptions", "Normalize", "OwnScore", "Protocol", "Reduce", "RivalRule",
    "Rivals", "Scale", "Score", "TrainingSettings", "WhatIfSettings", "as_float", "as_int",
    "check_names", "method_name", "parse_fill", "parse_method", "parse_rivals", "settings_from",
    "takes",
]  # fmt: skip
