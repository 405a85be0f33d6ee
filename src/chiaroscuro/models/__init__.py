"""Where classifiers come from: `load_classifier(spec)`, and trained folders."""

from chiaroscuro.models.folder import save_classifier
from chiaroscuro.models.listing import ModelSource, list_models
from chiaroscuro.models.loading import load_classifier

__all__ = ["ModelSource", "list_models", "load_classifier", "save_classifier"]
