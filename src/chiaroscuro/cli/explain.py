"""`chiaroscuro explain`: photos to saved explanations."""

from pathlib import Path
from typing import Annotated, Any

import typer

from chiaroscuro.choices import (
    DEFAULT_MODEL,
    DEFAULT_OUT,
    EXPLAIN_MAPS,
    FITS,
    MAPS,
    SCALES,
    SCORES,
    check_names,
    parse_rivals,
)
from chiaroscuro.errors import ChoiceError
from chiaroscuro.stopwatch import Stopwatch


def explain(
    images: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="IMAGE", help="Photos, folders or globs. Without any: two packaged photos."
        ),
    ] = None,
    model: Annotated[
        str, typer.Option(help="See 'chiaroscuro models'.", show_default=True)
    ] = DEFAULT_MODEL,
    target: Annotated[
        str, typer.Option(help="The class to explain: predicted, an index, or any of its names.")
    ] = "predicted",
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
    rivals: Annotated[
        str | None,
        typer.Option(help="all, or top:N for the N best other classes. Default: all."),
    ] = None,
    fit: Annotated[
        str | None,
        typer.Option(
            help=f"How a photo is brought to the model's size: {', '.join(FITS)}. "
            "Default: the model's own."
        ),
    ] = None,
    score: Annotated[
        str, typer.Option(help=f"What is differentiated: {', '.join(SCORES)}.")
    ] = "logit",
    scale: Annotated[
        str, typer.Option(help="Colours per image, or shared by all: image, shared.")
    ] = "image",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N, mps.")] = "cpu",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads. Default: PyTorch's own.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the results go.")] = Path(DEFAULT_OUT),
    force: Annotated[bool, typer.Option("--force", help="Replace existing explanations.")] = False,
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
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Explain photos: what the network says, and which pixels speak for it, brighter or darker."""
    check_names("scale", [scale], SCALES)
    check_names("score", [score], SCORES)
    parse_rivals("all" if rivals is None else rivals)
    if rival and rivals is not None:
        raise ChoiceError("--rival and --rivals exclude each other: give one of them")
    watch = Stopwatch()
    with watch.stage("import"):
        from chiaroscuro.cli import explain_run

    if again is not None:
        if images:
            raise ChoiceError("--again repeats a saved explanation: give it without photos")
        explain_run.repeat(again, device, threads, as_json=as_json, quiet=quiet)
        return
    options: dict[str, Any] = {
        "target": None if target == "predicted" else target,
        "maps": check_names("map", map_ or EXPLAIN_MAPS, MAPS),
        "rivals": rival or rivals or "all",
        "fit": check_names("fit", [fit], FITS)[0] if fit else None,
        "score": score,
    }
    default = not rival and rivals is None
    jobs = explain_run.plan_jobs(images or [], options, default_rivals=default, quiet=quiet)
    explain_run.run(
        jobs, model, out, device, threads,
        overwrite=force, scale=scale, as_json=as_json, quiet=quiet,
        watch=watch if profile else None,
    )  # fmt: skip
