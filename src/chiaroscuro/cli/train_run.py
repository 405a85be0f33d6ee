"""What `chiaroscuro train` does once its words are parsed; imports torch."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from chiaroscuro.cli.preparation import prepare
from chiaroscuro.training import TrainingSettings, train
from chiaroscuro.training.log import EpochRow, read_log
from chiaroscuro.training.run import Watcher


def run(
    settings: TrainingSettings,
    out: Path,
    data_root: Path | None,
    device: str,
    threads: int | None,
    *,
    resume: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Train, show progress, print the last epoch's figures and the folder."""
    prepare(threads)
    with _watcher(quiet=quiet) as watcher:
        try:
            train(
                settings, out, resume=resume, overwrite=overwrite, device=device,
                data_root=data_root, watcher=watcher,
            )  # fmt: skip
        except KeyboardInterrupt:
            typer.echo("interrupted: go on with the same command and --resume", err=True)
            raise typer.Exit(130) from None
    if not quiet:
        typer.echo(f"{_line(read_log(out / 'log.csv')[-1])} -> {out}")


def _line(row: EpochRow) -> str:
    tested = "" if row.test_accuracy is None else f", test accuracy {row.test_accuracy:.4f}"
    return (
        f"epoch {row.epoch}: loss {row.loss:.4f}, train accuracy {row.train_accuracy:.4f}{tested}"
        f" ({row.seconds:.1f} s)"
    )


@contextmanager
def _watcher(*, quiet: bool) -> Iterator[Watcher]:
    """Bars on a terminal; a line per epoch elsewhere."""
    console = Console(file=sys.stderr)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
    )  # fmt: skip
    disabled = quiet or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=disabled) as progress:
        tasks = {"steps": progress.add_task("getting ready", total=None)}

        def on_image(what: str, done: int, total: int | None) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=total)
            progress.update(tasks[what], completed=done, total=total)

        def on_batch(epoch: int, epochs: int, batch: int, batches: int) -> None:
            progress.update(
                tasks["steps"],
                description=f"epoch {epoch} of {epochs}",
                completed=(epoch - 1) * batches + batch,
                total=epochs * batches,
            )

        def on_epoch(row: EpochRow) -> None:
            if not quiet:
                progress.console.print(_line(row), highlight=False)

        yield Watcher(on_image, on_batch, on_epoch)
