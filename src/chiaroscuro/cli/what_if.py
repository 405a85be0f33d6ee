"""`chiaroscuro what-if`: one photo with a map's first pixels changed."""

from pathlib import Path
from typing import Annotated

import typer

from chiaroscuro.choices import (
    DEFAULT_MODEL,
    FILLS,
    FITS,
    ORDERS,
    WHAT_IF_FRACTION,
    WHAT_IF_TOLERANCE,
    check_names,
    parse_fill,
    parse_method,
    parse_rivals,
)
from chiaroscuro.cli import options


def what_if(
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="A photo.")],
    map_: Annotated[
        str, typer.Option("--map", help=f"Whose highest pixels change: {', '.join(ORDERS)}.")
    ] = "active",
    fraction: Annotated[
        float, typer.Option(help="The share of pixels that change.")
    ] = WHAT_IF_FRACTION,
    change: Annotated[
        str,
        typer.Option(help=f"What they become: {', '.join(FILLS)} (brighter:0.1 or +0.1)."),
    ] = "black",
    model: options.Model = DEFAULT_MODEL,
    target: options.Target = "predicted",
    rivals: options.PhotoRivals = "all",
    method: options.Method = "gradient",
    points: options.Points = None,
    sigma: options.Sigma = None,
    baseline: options.Baseline = None,
    background: options.Background = None,
    fit: options.Fit = None,
    tolerance: Annotated[
        float,
        typer.Option(
            help="The share by which real and foretold change may differ and still agree."
        ),
    ] = WHAT_IF_TOLERANCE,
    seed: Annotated[int, typer.Option(help="Breaks ties, draws random order and noise.")] = 0,
    device: options.Device = "cpu",
    threads: options.Threads = None,
    out: options.Out = Path("chiaroscuro-what-if"),
    force: options.Force = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what-if.json, nothing else.")
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Change a map's highest pixels: what first order foretells for every class, and what comes."""
    check_names("map", [map_], ORDERS)
    parse_rivals(rivals)
    fill = parse_fill(change)
    made = parse_method(method, points, sigma, baseline, background)
    chosen = check_names("fit", [fit], FITS)[0] if fit else None
    from chiaroscuro.cli import what_if_run

    what_if_run.run(
        image, model, out, device, threads,
        map=map_, fraction=fraction, change=fill, fit=chosen, rivals=rivals, method=made,
        tolerance=tolerance, seed=seed, target=None if target == "predicted" else target,
        overwrite=force, as_json=as_json, quiet=quiet,
    )  # fmt: skip
