"""The paper's networks, tables and figures, computed from images next to its own numbers."""

from chiaroscuro.reproduction.experiments import EXPERIMENTS, Experiment
from chiaroscuro.reproduction.run import ReproductionSettings, ReproductionWatcher, reproduce

__all__ = ["EXPERIMENTS", "Experiment", "ReproductionSettings", "ReproductionWatcher", "reproduce"]
