"""Logits of one image as classes with names and probabilities."""

from torch import Tensor

from chiaroscuro.classifier import Classifier
from chiaroscuro.explanations.explanation import Prediction

TOP = 5


def top_predictions(
    classifier: Classifier, logits: Tensor, count: int = TOP
) -> tuple[Prediction, ...]:
    """The classes with the highest logits (K,), best first; ties in the order of the classes."""
    best = logits.sort(descending=True, stable=True).indices[:count].tolist()
    return tuple(prediction(classifier, logits, index) for index in best)


def prediction(classifier: Classifier, logits: Tensor, index: int) -> Prediction:
    """One class of logits (K,)."""
    exact = logits.detach().cpu().double()
    chance = classifier.probabilities(exact)
    return Prediction(index, classifier.label(index), float(exact[index]), float(chance[index]))
