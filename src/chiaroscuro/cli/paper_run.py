"""What `chiaroscuro paper` does once its words are parsed; imports torch."""

from pathlib import Path

import typer

from chiaroscuro.cli.endings import interruptible, print_page
from chiaroscuro.cli.preparation import prepare
from chiaroscuro.cli.progress import progress_bars, training_watcher
from chiaroscuro.paper import Cell, PaperSettings, reproduce
from chiaroscuro.paper.reproduction import PaperWatcher


def run(settings: PaperSettings, out: Path, threads: int | None, *, quiet: bool) -> None:
    """Reproduce, show progress, print the page's path; exit status 1 if a cell could not be run."""
    prepare(threads, quiet=quiet)

    def on_cell(cell: Cell) -> None:
        if not quiet:
            typer.echo(cell.title, err=True)

    def on_missing(cell: Cell, reason: str) -> None:
        typer.echo(f"chiaroscuro: {cell.name}: {reason}", err=True)

    with interruptible("go on with the same command"), progress_bars(quiet=quiet) as bars:
        training = training_watcher(bars, quiet=quiet)
        missing = reproduce(settings, out, PaperWatcher(training, on_cell, bars.show, on_missing))
    if not quiet:
        print_page(out)
    if missing:
        raise typer.Exit(1)
