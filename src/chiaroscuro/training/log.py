"""The training's log: one row an epoch, as CSV."""

import csv
from dataclasses import asdict, dataclass, fields
from pathlib import Path

LOG = "log.csv"


@dataclass(frozen=True, slots=True)
class EpochRow:
    """One epoch: mean loss and accuracy while learning, and accuracy on the test images after."""

    epoch: int
    loss: float
    train_accuracy: float
    test_accuracy: float | None
    seconds: float


def write_log(file: Path, rows: list[EpochRow]) -> None:
    """Write all rows anew; a reader never sees half a log."""
    new = file.with_suffix(".new")
    with new.open("w", newline="") as target:
        writer = csv.DictWriter(target, [field.name for field in fields(EpochRow)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    new.replace(file)


def read_log(file: Path) -> list[EpochRow]:
    """The rows of a log; none where there is no log."""
    if not file.is_file():
        return []
    with file.open(newline="") as source:
        return [
            EpochRow(
                int(row["epoch"]),
                float(row["loss"]),
                float(row["train_accuracy"]),
                float(row["test_accuracy"]) if row["test_accuracy"] else None,
                float(row["seconds"]),
            )
            for row in csv.DictReader(source)
        ]
