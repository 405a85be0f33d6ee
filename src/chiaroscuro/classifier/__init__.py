"""An image classifier, and what libraries say of theirs."""

from chiaroscuro.classifier.classifier import Classifier, Picture

__all__ = ["Classifier", "Picture"]
