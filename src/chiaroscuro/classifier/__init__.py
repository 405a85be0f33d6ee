"""An image classifier, and what libraries say of theirs."""

from chiaroscuro.classifier.classifier import Classifier, Picture, weights_digest

__all__ = ["Classifier", "Picture", "weights_digest"]
