"""Everything that is returned or saved, as frozen typed values, and the one store that keeps it.

No torch and no drawing: views read results, results know no view.
"""

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
from chiaroscuro.results.kinds import KINDS, Kind
from chiaroscuro.results.runs import Part, RunConfig, RunFolder, open_run, read_config
from chiaroscuro.results.store import load, save, verify

__all__ = [
    "KINDS",
    "CropBox",
    "DataFacts",
    "ImageFacts",
    "Interval",
    "Kind",
    "LeftOut",
    "MapFacts",
    "ModelFacts",
    "Part",
    "Prediction",
    "RunConfig",
    "RunFolder",
    "check_free",
    "is_result",
    "kind_in",
    "load",
    "open_run",
    "read_config",
    "save",
    "staged",
    "verify",
]
