"""The page of a training: its curve, and what accuracy it came to."""

from collections.abc import Sequence
from pathlib import Path

from chiaroscuro.render.sheets import Chart, Curve, Row, Sheet, save_sheet
from chiaroscuro.report.pages import data_uri, filled, plain, write_page
from chiaroscuro.results.models import TrainingRecord

CURVE = "curve.png"


def write(
    record: TrainingRecord,
    classes: int,
    loss: Sequence[float],
    train_accuracy: Sequence[float],
    test_accuracy: Sequence[float],
    folder: Path,
) -> None:
    """Write the curve and the page; figures of epochs 1, 2, ..., none where nothing was tested."""
    settings, epochs = record.settings, range(1, len(loss) + 1)
    name = f"{settings.architecture} on {Path(settings.data).resolve().name}"
    accuracies = [Curve("train accuracy", epochs, train_accuracy)]
    tested = "no images to test on"
    if test_accuracy:
        accuracies.append(Curve("test accuracy", epochs, test_accuracy))
        tested = f"test accuracy {test_accuracy[-1]:.4f}"
    count = f"{len(epochs)} epoch{'s' if len(epochs) > 1 else ''}"
    charts = [
        Chart("", accuracies, "epoch", "accuracy", (0, 1.03), percent_x=False),
        Chart("", [Curve("train loss", epochs, loss)], "epoch", "loss", (0, None), percent_x=False),
    ]
    rows = [Row([chart], height) for chart, height in zip(charts, (3, 2), strict=True)]
    kept = f"{count}, the last one kept; {tested}"
    save_sheet(Sheet(rows, name, kept, width=7.4), folder / CURVE)
    last = record.train_accuracy if record.test_accuracy is None else record.test_accuracy
    at_chance = last <= 1.5 / classes
    write_page(
        folder,
        "training",
        title=f"Training of {name}",
        docs="how-to/train-a-model",
        asked=f"How well does {settings.architecture} learn {record.images:,} images of {classes} "
        f"classes in {count}?",
        found=[
            f"The last epoch is kept: {tested}, accuracy in training {train_accuracy[-1]:.4f}, "
            f"loss {loss[-1]:.4g}."
        ],
        warnings=[f"The accuracy is that of guessing, 1 in {classes}: nothing was learned."]
        if at_chance
        else [],
        curve=data_uri((folder / CURVE).read_bytes()),
        probed=record.settings.probe is not None,
        epochs=epochs,
        loss=loss,
        train_accuracy=train_accuracy,
        test_accuracy=test_accuracy,
        rows=filled(
            [
                *((key.replace("_", " "), plain(value)) for key, value in settings.plain().items()),
                ("seconds", f"{record.seconds:g}"),
                ("versions", plain(record.versions)),
            ]
        ),
    )
