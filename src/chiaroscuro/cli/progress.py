"""Progress on a terminal: a bar for each kind of thing, with its rate and the time left."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from chiaroscuro.training.log import EpochRow
from chiaroscuro.training.run import Watcher


class Bars:
    """Bars by what they count, each begun when it is first told of."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._waiting: TaskID | None = progress.add_task("getting ready", total=None, rate="")
        self._tasks: dict[str, tuple[TaskID, float]] = {}

    def show(
        self, what: str, done: int, total: int | None, before: int = 0, unit: str = ""
    ) -> None:
        """Tell that `done` of `total` are done, `before` of them in an earlier session."""
        if self._waiting is not None:
            self.progress.remove_task(self._waiting)
            self._waiting = None
        if what not in self._tasks:
            self._tasks[what] = (
                self.progress.add_task(what, total=total, rate=""), time.perf_counter(),
            )  # fmt: skip
        task, began = self._tasks[what]
        seconds = time.perf_counter() - began
        rate = f"{(done - before) / seconds:.1f}/s" if done > before else ""
        self.progress.update(task, completed=done, total=total, rate=rate)


@contextmanager
def progress_bars(*, quiet: bool) -> Iterator[Bars]:
    """Bars on standard error, gone when done; none when quiet or not on a terminal."""
    console = Console(file=sys.stderr)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    disabled = quiet or not console.is_terminal
    with Progress(
        *columns, console=console, transient=True, disable=disabled, redirect_stdout=False
    ) as progress:
        yield Bars(progress)


def training_watcher(bars: Bars, *, quiet: bool) -> Watcher:
    """Bars for images read and steps learned, and a line for every epoch."""

    def on_batch(epoch: int, epochs: int, batch: int, batches: int) -> None:
        bars.show(f"steps of {epochs} epochs", (epoch - 1) * batches + batch, epochs * batches)

    def on_epoch(row: EpochRow) -> None:
        if not quiet:
            bars.progress.console.print(epoch_line(row), highlight=False)

    return Watcher(bars.show, on_batch, on_epoch)


def epoch_line(row: EpochRow) -> str:
    """One epoch in a line."""
    tested = "" if row.test_accuracy is None else f", test accuracy {row.test_accuracy:.4f}"
    return (
        f"epoch {row.epoch}: loss {row.loss:.4f}, train accuracy {row.train_accuracy:.4f}{tested}"
        f" ({row.seconds:.1f} s)"
    )
