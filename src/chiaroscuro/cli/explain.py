"""`chiaroscuro explain`: photos to saved explanations."""

from pathlib import Path
from typing import Annotated, Any

import typer

from chiaroscuro.choices import (
    CONTRAST_MAPS,
    DEFAULT_MODEL,
    DEFAULT_OUT,
    EXPLAIN_MAPS,
    FITS,
    MAPS,
    SCALES,
    SCORES,
    check_names,
    parse_method,
    parse_rivals,
)
from chiaroscuro.cli import options
from chiaroscuro.errors import ChoiceError
from chiaroscuro.stopwatch import Stopwatch


def explain(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE", help="Photos, folders or globs. Without any: two packaged photos."
        ),
    ] = None,
    model: options.Model = DEFAULT_MODEL,
    target: options.Target = "predicted",
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            help=f"A map to make; repeat for more. Known: {', '.join(MAPS)}. "
            f"Default: {', '.join(EXPLAIN_MAPS)}.",
        ),
    ] = None,
    rival: Annotated[
        list[str] | None,
        typer.Option(help="A class to compare with, by index or name; repeat for more."),
    ] = None,
    rivals: Annotated[str | None, typer.Option(help=f"{options.RIVALS} Default: all.")] = None,
    why_not: Annotated[
        str | None,
        typer.Option(
            help="Why this class and not that one: compare with it alone, and show the margin."
        ),
    ] = None,
    method: options.Method = "gradient",
    points: options.Points = None,
    sigma: options.Sigma = None,
    baseline: options.Baseline = None,
    background: options.Background = None,
    fit: options.Fit = None,
    score: options.Score = "logit",
    scale: Annotated[
        str, typer.Option(help="Colors per image, or shared by all: image, shared.")
    ] = "image",
    device: options.Device = "cpu",
    threads: options.Threads = None,
    out: options.Out = Path(DEFAULT_OUT),
    force: options.Force = False,
    again: Annotated[
        Path | None,
        typer.Option(help="Repeat the explanation in this folder and report differences."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per image, nothing else.")
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Tell where the time went, on standard error.")
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Explain photos: what the network says, and which pixels speak for it, brighter or darker."""
    check_names("scale", [scale], SCALES)
    check_names("score", [score], SCORES)
    parse_rivals("all" if rivals is None else rivals)
    chosen_method = parse_method(method, points, sigma, baseline, background)
    given = [
        name
        for name, value in (("--rival", rival), ("--rivals", rivals), ("--why-not", why_not))
        if value
    ]
    if len(given) > 1:
        raise ChoiceError(f"{' and '.join(given)} exclude each other: give one of them")
    watch = Stopwatch()
    with watch.stage("import"):
        from chiaroscuro.cli import explain_run

    if again is not None:
        if images:
            raise ChoiceError("--again repeats a saved explanation: give it without photos")
        explain_run.repeat(again, device, threads, as_json=as_json, quiet=quiet)
        return
    asked: dict[str, Any] = {
        "target": None if target == "predicted" else target,
        "maps": check_names("map", map_ or (CONTRAST_MAPS if why_not else EXPLAIN_MAPS), MAPS),
        "rivals": [why_not] if why_not else rival or rivals or "all",
        "method": chosen_method,
        "fit": check_names("fit", [fit], FITS)[0] if fit else None,
        "score": score,
    }
    default = not given
    jobs = explain_run.plan_jobs(images or [], asked, default_rivals=default, quiet=quiet)
    explain_run.run(
        jobs, model, out, device, threads,
        overwrite=force, scale=scale, as_json=as_json, quiet=quiet,
        watch=watch if profile else None,
    )  # fmt: skip
