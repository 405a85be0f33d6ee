"""Whole image sets: batches to rows on disk, rows to a summary, a page and its figures."""

from chiaroscuro.runs.evaluation import evaluate
from chiaroscuro.runs.settings import EvaluationSettings

__all__ = ["EvaluationSettings", "evaluate"]
