"""What a finished training says of itself: the origin of its weights, and its curve."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from chiaroscuro.catalog import versions
from chiaroscuro.choices import TrainingSettings
from chiaroscuro.render.training import TrainingCurve
from chiaroscuro.results import TrainingRecord
from chiaroscuro.results.codec import to_plain
from chiaroscuro.training.log import EpochRow
from chiaroscuro.training.network import Network
from chiaroscuro.training.pixels import PixelStore


def curve(settings: TrainingSettings, rows: Sequence[EpochRow]) -> TrainingCurve:
    """The log as a picture shows it, under the network's and the data's names."""
    tested = [row.test_accuracy for row in rows if row.test_accuracy is not None]
    return TrainingCurve(
        f"{settings.architecture} on {Path(settings.data).resolve().name}",
        [row.loss for row in rows],
        [row.train_accuracy for row in rows],
        tested,
    )


def origin(
    network: Network,
    settings: TrainingSettings,
    store: PixelStore,
    test: PixelStore | None,
    rows: Sequence[EpochRow],
    seconds: float,
) -> dict[str, Any]:
    """What results will say of these weights."""
    last = rows[-1]
    record = TrainingRecord(
        settings=settings,
        images=len(store),
        test_images=len(test) if test else None,
        left_out=len(store.broken),
        loss=last.loss,
        train_accuracy=last.train_accuracy,
        test_accuracy=last.test_accuracy,
        seconds=seconds,
        versions=versions(),
    )
    return {
        "architecture": network.architecture,
        "weights": f"trained on {settings.data} for {settings.epochs} epochs, last epoch kept",
        "license": "that of the data, and of a pre-trained body where there is one",
        "training": to_plain(record)[0],
    }
