"""An image classifier, and what libraries say of theirs."""

from chiaroscuro.classifier.classifier import Classifier as Classifier
from chiaroscuro.classifier.reading import Picture as Picture
