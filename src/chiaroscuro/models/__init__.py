"""Where classifiers come from: `load_classifier(spec)`, and trained folders."""

from chiaroscuro.models.folder import save_classifier
from chiaroscuro.models.loading import LIBRARIES, PACKAGED, load_classifier, runs_code

__all__ = ["LIBRARIES", "PACKAGED", "load_classifier", "runs_code", "save_classifier"]
