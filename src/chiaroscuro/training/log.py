"""The training's log: one row per epoch, as CSV."""

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from chiaroscuro.results.folders import write_file

LOG = "log.csv"


@dataclass(frozen=True, slots=True)
class EpochRow:
    """One epoch: mean loss and accuracy while learning, and accuracy on the test images after."""

    epoch: int
    loss: float
    train_accuracy: float
    test_accuracy: float | None
    seconds: float


def write_log(file: Path, rows: Sequence[EpochRow]) -> None:
    """Write all rows; a reader never sees half a log."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(EpochRow)])
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    write_file(file, text.getvalue().encode())


def read_log(file: Path) -> list[EpochRow]:
    """The rows of a log; none where there is no log."""
    if not file.is_file():
        return []
    with file.open(newline="") as source:
        return [
            EpochRow(
                epoch=int(row["epoch"]),
                loss=float(row["loss"]),
                train_accuracy=float(row["train_accuracy"]),
                test_accuracy=float(row["test_accuracy"]) if row["test_accuracy"] else None,
                seconds=float(row["seconds"]),
            )
            for row in csv.DictReader(source)
        ]
