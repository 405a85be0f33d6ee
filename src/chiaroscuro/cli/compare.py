"""`chiaroscuro compare`: one photo by several checkpoints, side by side."""

from pathlib import Path
from typing import Annotated

import typer

from chiaroscuro.choices import (
    EXPLAIN_MAPS,
    FITS,
    METHODS,
    ORDERS,
    RANKING_MAPS,
    SCORES,
    WHAT_IF_FRACTION,
    check_names,
    parse_fill,
    parse_rivals,
)
from chiaroscuro.cli import options
from chiaroscuro.errors import ChoiceError


def compare(
    image: Annotated[Path, typer.Argument(help="The photo.")],
    model: Annotated[
        list[str], typer.Option(help="A checkpoint, see 'chiaroscuro models'; give two or more.")
    ],
    target: Annotated[
        str, typer.Option(help="The class to explain: predicted (by the first), an index, a name.")
    ] = "predicted",
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            help=f"{', '.join(RANKING_MAPS)}; repeatable. Default: {', '.join(EXPLAIN_MAPS)}.",
        ),
    ] = None,
    rivals: options.PhotoRivals = "all",
    fit: Annotated[
        str | None, typer.Option(help=f"{', '.join(FITS)}. Default: each model's own.")
    ] = None,
    score: options.Score = "logit",
    method: options.Method = "gradient",
    change: Annotated[
        str | None,
        typer.Option(help="Also ask each what a change of its top pixels does: black, +0.1, ..."),
    ] = None,
    fraction: Annotated[
        float, typer.Option(help="The share of pixels that --change takes.")
    ] = WHAT_IF_FRACTION,
    by: Annotated[str, typer.Option(help="The map whose top pixels --change takes.")] = "active",
    device: options.Device = "cpu",
    threads: options.Threads = None,
    out: Annotated[Path, typer.Option(help="The folder for figure and page.")] = Path(
        "chiaroscuro-comparison"
    ),
    force: options.Force = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare checkpoints on one photo: what each says, its maps, and how they differ."""
    if len(model) < 2:
        raise ChoiceError("one model to compare: give --model at least twice")
    parse_rivals(rivals)
    asked = {
        "target": None if target == "predicted" else target,
        "maps": check_names("map", map_ or EXPLAIN_MAPS, RANKING_MAPS),
        "rivals": rivals,
        "fit": check_names("fit", [fit], FITS)[0] if fit else None,
        "score": check_names("score", [score], SCORES)[0],
        "method": check_names("method", [method], METHODS)[0],
    }
    taken = (change, fraction, check_names("map", [by], ORDERS)[0])
    if change is not None:
        parse_fill(change)
    from chiaroscuro.cli import compare_run

    compare_run.run(
        image,
        model,
        asked,
        taken,
        out,
        device,
        threads,
        overwrite=force,
        as_json=as_json,
        quiet=quiet,
    )
