"""The paper's three tables with ours beside, and the matched protocol's."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from chiaroscuro.metrics.intervals import share_interval
from chiaroscuro.paper.cells import COLUMNS, EPOCHS, Cell
from chiaroscuro.paper.work import CellResult
from chiaroscuro.report import Table
from chiaroscuro.report.evaluation import interval_text

_NONE = "-"


def accuracy_table(results: Sequence[CellResult], missing: Mapping[str, str]) -> Table:
    """Table 1: test accuracy after the last epoch, on all test images."""
    rows = []
    for result in results:
        about, published = result.training, result.cell.published
        right = round(about["test_accuracy"] * about["test_images"])
        low, high = share_interval(right, about["test_images"])
        rows.append(
            [
                result.cell.title,
                f"{about['test_accuracy']:.4f} [{low:.4f}, {high:.4f}]",
                f"{published.accuracy:.4f}" if published else _NONE,
                f"{about['test_accuracy'] - published.accuracy:+.4f}" if published else _NONE,
                _epochs(about),
                f"{about['images']:,}",
                f"{about['test_images']:,}",
                _duration(about["seconds"]),
            ]
        )
    rows += [[title, f"not run: {why}", *[_NONE] * 6] for title, why in missing.items()]
    return Table(
        "Table 1. Test accuracy",
        ["network", "ours [95 %]", "paper", "difference", "epochs", "trained on", "tested on",
         "training time"],
        rows,
        "Last epoch, never chosen by test accuracy; Wilson's interval over test images.",
    )  # fmt: skip


def area_table(number: int, fill: str, results: Sequence[CellResult]) -> Table:
    """Tables 2 and 3: area under the test curve as published, beside the paper's."""
    rows = []
    for result, name in _rows(results, fill):
        ours = find_curve(result.summaries["test"], "paper", name, fill)["area"]
        theirs = result.cell.published.areas[name, fill] if result.cell.published else None
        rows.append(
            [
                result.cell.title,
                name,
                interval_text(ours),
                _NONE if theirs is None else f"{theirs:.2f}",
                _NONE
                if theirs is None
                else f"{ours['value'] - theirs:+.3f} "
                f"[{ours['low'] - theirs:+.3f}, {ours['high'] - theirs:+.3f}]",
                f"{result.summaries['test']['data']['images']:,}",
            ]
        )
    return Table(
        f"Table {number}. Area under the allegiance curve, {fill}-deletion, test images",
        ["network", "map", "ours [95 %]", "paper", "difference [95 %]", "images"],
        rows,
        "The published protocol; trapezoids over 0 to 0.9, not divided by 0.9; lower is better. "
        "Bootstrap intervals over images.",
    )


def matched_table(fill: str, results: Sequence[CellResult]) -> Table:
    """The same areas when every map loses the same number of pixels, with the random control."""
    rows = []
    for result in results:
        for name in (*COLUMNS[fill], "random"):
            found = [
                interval_text(find_curve(result.summaries[split], "matched", name, fill)["area"])
                for split in ("test", "train")
            ]
            rows.append([result.cell.title, name, *found])
    return Table(
        f"Matched protocol, {fill}-deletion",
        ["network", "map", "test [95 %]", "training [95 %]"],
        rows,
        "Exactly round(p H W) pixels for every map, ties in random order; no counterpart in the "
        "paper.",
    )


def find_curve(
    summary: Mapping[str, Any], protocol: str, name: str, fill: str
) -> Mapping[str, Any]:
    """One curve of a summary."""
    for row in summary["curves"]:
        if (row["protocol"], row["map"], row["fill"]) == (protocol, name, fill):
            found: Mapping[str, Any] = row
            return found
    raise KeyError(f"{protocol} {name} {fill}")


def _rows(results: Sequence[CellResult], fill: str) -> Iterator[tuple[CellResult, str]]:
    for result in results:
        for name in COLUMNS[fill]:
            yield result, name


def _epochs(about: Mapping[str, Any]) -> str:
    epochs = about["epochs"]
    return f"{epochs}" if epochs == EPOCHS else f"{epochs}, cut short (article {EPOCHS})"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


def cell_notes(results: Sequence[CellResult]) -> list[tuple[Cell, str]]:
    """What makes a cell differ from the paper's."""
    return [(result.cell, result.cell.note) for result in results if result.cell.note]
