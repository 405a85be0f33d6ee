"""The short path: an image and a classifier to a saved, repeatable explanation."""

from chiaroscuro.explanations.again import Differences, explain_again
from chiaroscuro.explanations.batch import Outcome, explain_files
from chiaroscuro.explanations.explanation import (
    Explanation,
    ImageFacts,
    MapFacts,
    Prediction,
)
from chiaroscuro.explanations.single import explain

__all__ = [
    "Differences",
    "Explanation",
    "ImageFacts",
    "MapFacts",
    "Outcome",
    "Prediction",
    "explain",
    "explain_again",
    "explain_files",
]
