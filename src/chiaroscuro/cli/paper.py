"""`chiaroscuro paper`: the paper's tables and figures beside our own."""

from pathlib import Path
from typing import Annotated

import typer

from chiaroscuro.cli import options


def paper(
    data_root: Annotated[
        Path | None,
        typer.Option(help="A folder with cifar10/ and imagenette/. Default: data sets by name."),
    ] = None,
    cell: Annotated[
        list[str] | None,
        typer.Option(help="One experiment, such as cifar10-cnn; repeatable. Default: all."),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Few epochs on few images: to see it work.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="The folder of networks, runs and report; what is there is reused."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Default: the paper's 50.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="So many test images, seeded. Default: all.")
    ] = None,
    train_limit: Annotated[
        int, typer.Option(min=1, help="So many training images for their curves, seeded.")
    ] = 5000,
    seed: Annotated[int, typer.Option(help="Draws images, tie breaks and intervals.")] = 0,
    threads: options.Threads = None,
    quiet: options.Quiet = False,
) -> None:
    """Make the paper's tables and figures anew, each number beside the published one."""
    from chiaroscuro.cli import paper_run
    from chiaroscuro.paper import PaperSettings

    settings = PaperSettings(
        cells=tuple(cell or ()),
        data_root=data_root,
        quick=quick,
        epochs=epochs,
        test_limit=limit,
        train_limit=train_limit,
        seed=seed,
    )
    default = Path("chiaroscuro-paper-quick" if quick else "chiaroscuro-paper")
    paper_run.run(settings, out or default, threads, quiet=quiet)
