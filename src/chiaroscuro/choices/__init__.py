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
    EditMethod,
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
from chiaroscuro.choices.names import check_names
from chiaroscuro.choices.pictures import FITS, INTERPOLATIONS, SCALES, SMOOTHING, Fit, Scale
from chiaroscuro.choices.protocols import (
    PAPER_FRACTIONS,
    PROTOCOLS,
    WHAT_IF_FRACTION,
    WHAT_IF_STEPS,
    WHAT_IF_TOLERANCE,
    Protocol,
)
from chiaroscuro.choices.results import DEFAULT_MODEL, DEFAULT_OUT, EXPLANATION_FILE, WHAT_IF_FILE
from chiaroscuro.choices.rivals import RivalRule, Rivals, is_rival_word, parse_rivals

__all__ = [
    "BASELINES",
    "CONTRAST_MAPS",
    "DEFAULT_MODEL",
    "DEFAULT_OUT",
    "EDIT_MAPS",
    "EXPLAIN_MAPS",
    "EXPLANATION_FILE",
    "FILLS",
    "FITS",
    "INTERPOLATIONS",
    "MAPS",
    "MEASURED_MAPS",
    "METHODS",
    "NORMALIZATIONS",
    "ORDERS",
    "PAPER_FRACTIONS",
    "PAPER_MAPS",
    "PROTOCOLS",
    "RANDOM",
    "RANKING_MAPS",
    "REDUCTIONS",
    "SCALES",
    "SCORES",
    "SMOOTHING",
    "WHAT_IF_FILE",
    "WHAT_IF_FRACTION",
    "WHAT_IF_STEPS",
    "WHAT_IF_TOLERANCE",
    "EditMethod",
    "Fill",
    "FillChoice",
    "Fit",
    "Helps",
    "Kind",
    "MapChoice",
    "MethodChoice",
    "MethodOptions",
    "Normalize",
    "OwnScore",
    "Protocol",
    "Reduce",
    "RivalRule",
    "Rivals",
    "Scale",
    "Score",
    "check_names",
    "is_rival_word",
    "parse_fill",
    "parse_method",
    "parse_rivals",
]
