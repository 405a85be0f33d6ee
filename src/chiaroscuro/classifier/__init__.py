"""An image classifier, and what libraries say of theirs."""

from chiaroscuro.classifier.classifier import Classifier
from chiaroscuro.classifier.reading import Picture

__all__ = ["Classifier", "Picture"]
