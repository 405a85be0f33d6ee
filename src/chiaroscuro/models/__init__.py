"""Where classifiers come from: `load_classifier(spec)`, and trained folders."""

from chiaroscuro.models.folder import save_classifier
from chiaroscuro.models.loading import LIBRARIES, PACKAGED, load_classifier

__all__ = ["LIBRARIES", "PACKAGED", "load_classifier", "save_classifier"]
