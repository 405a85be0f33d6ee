"""Runs of a toy network: its settings, and what it leaves behind."""

from pathlib import Path

import pyarrow as pa
from pyarrow import parquet

from chiaroscuro import Classifier
from chiaroscuro.runs import EvaluationSettings
from tests.toys import small_cnn

CLASSES = ["cat", "dog", "owl"]


def toy_classifier(**options):
    given = {"size": 12, "labels": CLASSES, "name": "toy", **options}
    return Classifier(small_cnn(3), **given)


def settings(data, **options):
    given = {"batch": 4, "resamples": 60, "flips": 199, **options}
    return EvaluationSettings(data=str(data), **given)


def rows_of(run: Path) -> pa.Table:
    return pa.concat_tables(parquet.read_table(file) for file in sorted(run.glob("rows/*")))


def bytes_of(run: Path) -> dict[str, bytes]:
    skipped = {"manifest.json"}
    files = (file for file in run.rglob("*") if file.is_file() and file.name not in skipped)
    return {file.relative_to(run).as_posix(): file.read_bytes() for file in files}
