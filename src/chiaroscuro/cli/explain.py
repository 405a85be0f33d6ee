"""`chiaroscuro explain`: photos to saved explanations."""

from pathlib import Path
from typing import Annotated, Any

import typer

from chiaroscuro.choices import (
    BASELINES,
    CONTRAST_MAPS,
    DEFAULT_MODEL,
    DEFAULT_OUT,
    EXPLAIN_MAPS,
    FITS,
    MAPS,
    METHODS,
    SCALES,
    SCORES,
    check_names,
    parse_method,
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
        typer.Option(
            help="all; top:N, the N best other classes; runner-up; mean or softmax, one weighted "
            "mean of them; or weights by index, 3=0.7,5=0.3. Default: all."
        ),
    ] = None,
    why_not: Annotated[
        str | None,
        typer.Option(
            help="Why this class and not that one: compare with it alone, and show the margin."
        ),
    ] = None,
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
    options: dict[str, Any] = {
        "target": None if target == "predicted" else target,
        "maps": check_names("map", map_ or (CONTRAST_MAPS if why_not else EXPLAIN_MAPS), MAPS),
        "rivals": [why_not] if why_not else rival or rivals or "all",
        "method": chosen_method,
        "fit": check_names("fit", [fit], FITS)[0] if fit else None,
        "score": score,
    }
    default = not given
    jobs = explain_run.plan_jobs(images or [], options, default_rivals=default, quiet=quiet)
    explain_run.run(
        jobs, model, out, device, threads,
        overwrite=force, scale=scale, as_json=as_json, quiet=quiet,
        watch=watch if profile else None,
    )  # fmt: skip
