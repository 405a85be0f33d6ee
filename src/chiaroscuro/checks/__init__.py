"""What maps say over image sets: sanity checks, localization, and which classes compete."""

import chiaroscuro.evaluation  # noqa: F401  # its error names the extra
from chiaroscuro.checks.localization import localize
from chiaroscuro.checks.pairs import confusions
from chiaroscuro.checks.sanity import check
from chiaroscuro.settings import CheckSettings, LocalizationSettings

__all__ = ["CheckSettings", "LocalizationSettings", "check", "confusions", "localize"]
