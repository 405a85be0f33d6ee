"""Whether maps can be believed: sanity checks of a classifier's maps, and localization."""

import chiaroscuro.evaluation  # noqa: F401  # its error names the extra
from chiaroscuro.checks.localization import localize
from chiaroscuro.checks.sanity import check
from chiaroscuro.settings import CheckSettings, LocalizationSettings

__all__ = ["CheckSettings", "LocalizationSettings", "check", "localize"]
