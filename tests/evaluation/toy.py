"""Runs of a toy network: short calls, and what they leave behind."""

from pathlib import Path

import pyarrow as pa
import torch
from pyarrow import parquet

from chiaroscuro import Classifier, save_classifier
from chiaroscuro.evaluation import evaluate
from chiaroscuro.models.folder import basic_cnn
from chiaroscuro.results import KINDS
from chiaroscuro.settings import EvaluationSettings
from tests.toys import small_cnn

CLASSES = ["cat", "dog", "owl"]
FAST = {"batch": 4, "resamples": 60, "flips": 199}
MARKER = KINDS["evaluation"].marker


def toy_classifier(**options):
    given = {"size": 12, "labels": CLASSES, "name": "toy", **options}
    return Classifier(small_cnn(3), **given)


def saved_cnn(folder: Path) -> Path:
    """A folder that --model takes: a basic CNN of 32 px without a training."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier = Classifier(basic_cnn(3), size=32, labels=CLASSES)
    options = {"architecture": "basic-cnn", "arguments": {"classes": 3}}
    return Path(save_classifier(classifier, folder, **options))


def settings(data, **options):
    return EvaluationSettings(data=str(data), **{**FAST, **options})


def run(data, out, classifier=None, **options):
    """Evaluate the toy quickly."""
    return evaluate(classifier or toy_classifier(), data, out, **{**FAST, **options})


def rows_of(out: Path, metric: str = "deletion") -> pa.Table:
    return pa.concat_tables(parquet.read_table(file) for file in sorted(out.glob(f"{metric}/*")))


def bytes_of(out: Path) -> dict[str, bytes]:
    files = (file for file in out.rglob("*") if file.is_file())
    return {file.relative_to(out).as_posix(): file.read_bytes() for file in files}
