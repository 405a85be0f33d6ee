"""Everything that is returned or saved, as frozen typed values, and the one store that keeps it.

No torch and no drawing: views read results, results know no view.
"""

from chiaroscuro.results.codec import facts_of
from chiaroscuro.results.explanations import (
    MOST_NAMED,
    ColorLimits,
    Comparison,
    Detail,
    Differences,
    Explanation,
    ExplanationChoices,
    Gallery,
    GalleryEntry,
    MapPair,
    MethodFacts,
    Pair,
    WhatIf,
    WhatIfChoices,
)
from chiaroscuro.results.facts import (
    CropBox,
    DataFacts,
    ImageFacts,
    Interval,
    LeftOut,
    MapFacts,
    ModelFacts,
    Prediction,
)
from chiaroscuro.results.folders import check_free, is_result, kind_in, staged
from chiaroscuro.results.kinds import FIGURE, KINDS, PAGE, Kind
from chiaroscuro.results.runs import Part, RunConfig, RunFolder, open_run, read_config
from chiaroscuro.results.store import load, save, verify

__all__ = [
    "FIGURE",
    "KINDS",
    "MOST_NAMED",
    "PAGE",
    "ColorLimits",
    "Comparison",
    "CropBox",
    "DataFacts",
    "Detail",
    "Differences",
    "Explanation",
    "ExplanationChoices",
    "Gallery",
    "GalleryEntry",
    "ImageFacts",
    "Interval",
    "Kind",
    "LeftOut",
    "MapFacts",
    "MapPair",
    "MethodFacts",
    "ModelFacts",
    "Pair",
    "Part",
    "Prediction",
    "RunConfig",
    "RunFolder",
    "WhatIf",
    "WhatIfChoices",
    "check_free",
    "facts_of",
    "is_result",
    "kind_in",
    "load",
    "open_run",
    "read_config",
    "save",
    "staged",
    "verify",
]
