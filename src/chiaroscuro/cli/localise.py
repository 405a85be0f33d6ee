"""`chiaroscuro localise`: whether maps point at the object, where boxes or masks exist."""

from pathlib import Path
from typing import Annotated

import typer

from chiaroscuro.choices import DEFAULT_MODEL, METHODS, RANKING_MAPS, SCORES


def localise(
    data: Annotated[
        str,
        typer.Argument(help="A folder, a Parquet file, cifar10, imagenette, or OWNER/NAME."),
    ],
    regions: Annotated[
        str,
        typer.Option(help="Boxes as .csv, .json or .parquet, or a folder of PNG masks."),
    ],
    model: Annotated[
        str, typer.Option(help="What `chiaroscuro models` lists, such as torchvision:resnet18.")
    ] = DEFAULT_MODEL,
    out: Annotated[Path, typer.Option(help="The folder for rows and page.")] = Path(
        "chiaroscuro-localisation"
    ),
    data_root: Annotated[
        Path | None, typer.Option(help="A folder with a data set's folder, in place of its name.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Default: test, then validation, then train.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="So many images, drawn with the seed.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Draws images and intervals.")] = 0,
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", help=f"{', '.join(RANKING_MAPS)}; repeatable. Default: all."),
    ] = None,
    method: Annotated[str, typer.Option(help=f"One of {', '.join(METHODS)}.")] = "gradient",
    rivals: Annotated[
        str, typer.Option(help="top:N, all, or classes by index or name separated by ;")
    ] = "top:10",
    score: Annotated[str, typer.Option(help=f"One of {', '.join(SCORES)}.")] = "logit",
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
    batch: Annotated[
        int | None, typer.Option(min=1, help="Images at a time. Default: by their size.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N, mps.")] = "cpu",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads. Default: PyTorch's own.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing result.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Measure whether maps point at the object: the highest pixel and the energy in its region."""
    from chiaroscuro.checks.settings import LocalisationSettings
    from chiaroscuro.cli import localise_run

    settings = LocalisationSettings(
        data=data,
        regions=regions,
        model=model,
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
        device=device,
    )
    localise_run.run(settings, out, data_root, overwrite=force, as_json=as_json, quiet=quiet)
