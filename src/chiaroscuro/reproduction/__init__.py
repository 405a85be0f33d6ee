"""The paper's networks, tables and figures, computed from images next to its own numbers."""

from chiaroscuro.reproduction.experiments import EXPERIMENTS as EXPERIMENTS
from chiaroscuro.reproduction.experiments import Experiment as Experiment
from chiaroscuro.reproduction.experiments import ReproductionSettings as ReproductionSettings
from chiaroscuro.reproduction.experiments import ReproductionWatcher as ReproductionWatcher
from chiaroscuro.reproduction.run import reproduce as reproduce
