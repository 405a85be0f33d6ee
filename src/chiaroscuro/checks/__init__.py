"""Whether maps can be believed: sanity checks of a classifier's maps, and localization."""

from importlib.util import find_spec

from chiaroscuro.errors import missing_extra

if find_spec("pyarrow") is None:
    raise missing_extra("checking maps over an image set", "pyarrow", "data")

from chiaroscuro.checks.localization import localize
from chiaroscuro.checks.sanity import check
from chiaroscuro.settings import CheckSettings, LocalizationSettings

__all__ = ["CheckSettings", "LocalizationSettings", "check", "localize"]
