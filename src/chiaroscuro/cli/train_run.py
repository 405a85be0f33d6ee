"""What `chiaroscuro train` does once its words are parsed; imports torch."""

from pathlib import Path

import typer

from chiaroscuro.cli.endings import interruptible
from chiaroscuro.cli.preparation import check_device, prepare
from chiaroscuro.cli.progress import epoch_line, progress_bars, training_watcher
from chiaroscuro.training import TrainingSettings, train
from chiaroscuro.training.log import LOG, read_log


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
    prepare(threads, quiet=quiet)
    check_device(device)
    told = "go on with the same command and --resume"
    with interruptible(told), progress_bars(quiet=quiet) as bars:
        train(
            settings, out, resume=resume, overwrite=overwrite, device=device,
            data_root=data_root, watcher=training_watcher(bars, quiet=quiet),
        )  # fmt: skip
    if not quiet:
        typer.echo(f"{epoch_line(read_log(out / LOG)[-1])} -> {out}")
