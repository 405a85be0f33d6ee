"""Maps measured over whole image sets: batches to rows on disk, rows to figures."""

from importlib.util import find_spec

from chiaroscuro.errors import missing_extra

if find_spec("pyarrow") is None:
    raise missing_extra("evaluating", "pyarrow", "data")

from chiaroscuro.evaluation.metrics import METRICS, Metric, number_metric
from chiaroscuro.evaluation.run import evaluate
from chiaroscuro.settings import EvaluationSettings

__all__ = ["METRICS", "EvaluationSettings", "Metric", "evaluate", "number_metric"]
