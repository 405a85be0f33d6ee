"""`chiaroscuro check`: whether maps depend on the weights, the class, and not on noise."""

from pathlib import Path
from typing import Annotated

import typer

from chiaroscuro.choices import DEFAULT_MODEL, METHODS, RANKING_MAPS
from chiaroscuro.cli import options


def check(
    data: options.DataOption,
    model: options.Model = DEFAULT_MODEL,
    out: options.RunFolder = Path("chiaroscuro-check"),
    data_root: options.DataRoot = None,
    split: options.Split = None,
    limit: Annotated[int, options.LIMIT] = 64,
    seed: Annotated[int, typer.Option(help="Draws images, weights, noise and orders.")] = 0,
    map_: options.RankingMaps = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help=f"{', '.join(METHODS)}; repeatable. Default: gradient."),
    ] = None,
    rivals: options.SetRivals = "top:10",
    score: options.Score = "logit",
    depths: Annotated[
        int, typer.Option(min=0, help="Steps from output to input; 0: one for every layer.")
    ] = 12,
    draws: Annotated[int, typer.Option(min=1, help="Random weights, so many times.")] = 2,
    noise: Annotated[
        float, typer.Option(help="Standard deviation of the input noise; pixels are in [0, 1].")
    ] = 0.02,
    share: Annotated[
        float, typer.Option(help="The share of pixels that count as a map's highest.")
    ] = 0.1,
    reference: Annotated[
        bool, typer.Option(help="Also check a method that is known to fail.")
    ] = True,
    rgb_only: options.RgbOnly = False,
    batch: options.Batch = None,
    device: options.Device = "cpu",
    threads: options.Threads = None,
    force: options.Force = False,
    as_json: options.SummaryAsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Check that maps change with the weights and the class, and not with a little noise."""
    from chiaroscuro.choices import CheckSettings
    from chiaroscuro.cli import check_run

    settings = CheckSettings(
        data=data,
        split=split,
        limit=limit,
        seed=seed,
        maps=tuple(map_ or RANKING_MAPS),
        methods=tuple(method or ("gradient",)),
        rivals=rivals,
        score=score,  # type: ignore[arg-type]  # checked by the settings
        depths=depths or None,
        draws=draws,
        noise=noise,
        share=share,
        reference=reference,
        rgb_only=rgb_only,
        batch=batch,
        threads=threads,
    )
    check_run.run(
        settings, model, device, out, data_root, overwrite=force, as_json=as_json, quiet=quiet
    )
