"""Whole image sets: batches to rows on disk, rows to a summary, a page and its figures."""

from importlib.util import find_spec

from chiaroscuro.errors import missing_extra

if find_spec("pyarrow") is None:
    raise missing_extra("evaluating", "pyarrow", "data")

from chiaroscuro.choices import EvaluationSettings
from chiaroscuro.runs.evaluation import evaluate

__all__ = ["EvaluationSettings", "evaluate"]
