"""`chiaroscuro evaluate`: deletion curves of a classifier's maps over an image set."""

from pathlib import Path
from typing import Annotated

import typer

from chiaroscuro.choices import (
    DEFAULT_MODEL,
    EDIT_MAPS,
    FILLS,
    PAPER_MAPS,
    PROTOCOLS,
    RANKING_MAPS,
)
from chiaroscuro.cli import options

_MAPS = ", ".join(RANKING_MAPS)
_EDIT_MAPS = ", ".join(EDIT_MAPS)


def evaluate(
    data: options.DataArgument,
    model: options.Model = DEFAULT_MODEL,
    out: options.RunFolder = Path("chiaroscuro-run"),
    data_root: options.DataRoot = None,
    split: options.Split = None,
    limit: options.Limit = None,
    seed: Annotated[
        int, typer.Option(help="Draws images, tie breaks, the random control and intervals.")
    ] = 0,
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            help=f"{_MAPS}; or, made for each fill anew, {_EDIT_MAPS}; repeatable. "
            "Default: the paper's five.",
        ),
    ] = None,
    fill: Annotated[
        list[str] | None,
        typer.Option(
            help=f"What deleted pixels become: {', '.join(FILLS)} (brighter:0.1 or +0.1); "
            "repeatable. Default: black and white."
        ),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(help="paper (as published), matched (the same count for every map), both."),
    ] = "both",
    what_if: Annotated[
        float | None,
        typer.Option(
            help="Hold what first order foretells against what comes, too: for a change of this "
            "share of the pixels, such as 0.05, by every map and fill."
        ),
    ] = None,
    rivals: options.SetRivals = "all",
    method: options.Method = "gradient",
    points: options.Points = None,
    sigma: options.Sigma = None,
    baseline: options.Baseline = None,
    background: options.Background = None,
    score: options.Score = "logit",
    rgb_only: options.RgbOnly = False,
    check: Annotated[
        Path | None,
        typer.Option(help="The folder of a `chiaroscuro check`, to show in the report."),
    ] = None,
    batch: options.Batch = None,
    device: options.Device = "cpu",
    threads: options.Threads = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run.")
    ] = False,
    force: options.Force = False,
    as_json: options.SummaryAsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure maps by deletion: whether the prediction holds when a map's highest pixels go."""
    from chiaroscuro.cli import evaluate_run
    from chiaroscuro.runs import EvaluationSettings

    settings = EvaluationSettings(
        data=data,
        split=split,
        limit=limit,
        seed=seed,
        maps=tuple(map_ or PAPER_MAPS),
        fills=tuple(fill or ("black", "white")),
        protocols=PROTOCOLS if protocol == "both" else (protocol,),
        what_if=what_if,
        rivals=rivals,
        method=method,
        points=points,
        sigma=sigma,
        baseline=baseline,
        background=background,
        score=score,  # type: ignore[arg-type]  # checked by the settings
        rgb_only=rgb_only,
        batch=batch,
        threads=threads,
    )
    evaluate_run.run(
        settings,
        model,
        device,
        out,
        data_root,
        check,
        resume=resume,
        overwrite=force,
        as_json=as_json,
        quiet=quiet,
    )
