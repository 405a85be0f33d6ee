"""Networks trained on a set of images: the paper's, or any with a new last layer."""

from chiaroscuro.training.run import train
from chiaroscuro.training.settings import TrainingSettings

__all__ = ["TrainingSettings", "train"]
