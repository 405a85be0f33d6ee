"""`chiaroscuro localize`: whether maps point at the object, where boxes or masks exist."""

from pathlib import Path
from typing import Annotated

import typer

from chiaroscuro.choices import DEFAULT_MODEL, RANKING_MAPS
from chiaroscuro.cli import options


def localize(
    data: options.DataArgument,
    regions: Annotated[
        str,
        typer.Option(help="Boxes as .csv, .json or .parquet, or a folder of PNG masks."),
    ],
    model: options.Model = DEFAULT_MODEL,
    out: Annotated[Path, typer.Option(help="The folder for rows and page.")] = Path(
        "chiaroscuro-localization"
    ),
    data_root: options.DataRoot = None,
    split: options.Split = None,
    limit: options.Limit = None,
    seed: Annotated[int, typer.Option(help="Draws images and intervals.")] = 0,
    map_: options.RankingMaps = None,
    method: options.Method = "gradient",
    rivals: options.SetRivals = "top:10",
    score: options.Score = "logit",
    target: Annotated[
        str,
        typer.Option(
            help="The class explained: predicted, or the data's, by name (label) or number (index)."
        ),
    ] = "predicted",
    tolerance: Annotated[
        int, typer.Option(min=0, help="Pixels that a hit may be beside the region.")
    ] = 0,
    smoothing: Annotated[
        float, typer.Option(help="A Gaussian over each map, as a share of the shorter side.")
    ] = 0.0,
    batch: options.Batch = None,
    device: options.Device = "cpu",
    threads: options.Threads = None,
    force: options.Force = False,
    as_json: options.SummaryAsJson = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure whether maps point at the object: the highest pixel and the energy in its region."""
    from chiaroscuro.choices import LocalizationSettings
    from chiaroscuro.cli import localize_run

    settings = LocalizationSettings(
        data=data,
        regions=regions,
        split=split,
        limit=limit,
        seed=seed,
        maps=tuple(map_ or RANKING_MAPS),
        method=method,
        rivals=rivals,
        score=score,  # type: ignore[arg-type]  # checked by the settings
        target=target,
        tolerance=tolerance,
        smoothing=smoothing,
        batch=batch,
        threads=threads,
    )
    localize_run.run(
        settings, model, device, out, data_root, overwrite=force, as_json=as_json, quiet=quiet
    )
