"""Networks trained on a set of images: the paper's, or any with a new last layer."""

from chiaroscuro.settings import TrainingSettings
from chiaroscuro.training.run import train

__all__ = ["TrainingSettings", "train"]
