"""One image and one classifier or several: explain, change, compare, replay; and whole folders."""

from chiaroscuro.explanations.change import what_if
from chiaroscuro.explanations.comparison import compare, what_if_detail
from chiaroscuro.explanations.folder import Outcome, PhotoJob, explain_files
from chiaroscuro.explanations.recompute import replay
from chiaroscuro.explanations.single import explain

__all__ = [
    "Outcome",
    "PhotoJob",
    "compare",
    "explain",
    "explain_files",
    "replay",
    "what_if",
    "what_if_detail",
]
