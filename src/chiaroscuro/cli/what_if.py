"""`chiaroscuro what-if`: one photo with a map's first pixels changed."""

from pathlib import Path
from typing import Annotated

import typer

from chiaroscuro.choices import (
    BASELINES,
    DEFAULT_MODEL,
    FILLS,
    FITS,
    METHODS,
    ORDERS,
    WHAT_IF_FRACTION,
    WHAT_IF_TOLERANCE,
    check_names,
    parse_fill,
    parse_method,
    parse_rivals,
)


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
    model: Annotated[str, typer.Option(help="See 'chiaroscuro models'.")] = DEFAULT_MODEL,
    target: Annotated[
        str, typer.Option(help="The class to explain: predicted, an index, or any of its names.")
    ] = "predicted",
    rivals: Annotated[str, typer.Option(help="all, or top:N for the N best others.")] = "all",
    method: Annotated[
        str, typer.Option(help=f"How class gradients are made: {', '.join(METHODS)}.")
    ] = "gradient",
    points: Annotated[
        int | None, typer.Option(help="Places where a method asks the gradient. Default: its own.")
    ] = None,
    sigma: Annotated[
        float | None, typer.Option(help="smoothgrad's noise, in units of pixel value: 0.15.")
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(help=f"Where integrated-gradients begins: {', '.join(BASELINES)}."),
    ] = None,
    background: Annotated[
        str | None,
        typer.Option(help="Photos that expected-gradients begins from: a folder or glob."),
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(
            help=f"How the photo is brought to the model's size: {', '.join(FITS)}. "
            "Default: the model's own."
        ),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            help="The share by which real and foretold change may differ and still agree."
        ),
    ] = WHAT_IF_TOLERANCE,
    seed: Annotated[int, typer.Option(help="Breaks ties, draws random order and noise.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N, mps.")] = "cpu",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads. Default: PyTorch's own.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the results go.")] = Path("chiaroscuro-what-if"),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing result.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what-if.json, nothing else.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
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
