"""Whether maps can be believed: sanity checks of a classifier's maps, and localisation."""

from chiaroscuro.checks.pointing import localise
from chiaroscuro.checks.sanity import check
from chiaroscuro.checks.settings import CheckSettings, LocalisationSettings

__all__ = ["CheckSettings", "LocalisationSettings", "check", "localise"]
