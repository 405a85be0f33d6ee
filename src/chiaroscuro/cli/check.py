"""`chiaroscuro check`: whether maps depend on the weights, the class, and not on noise."""

from pathlib import Path
from typing import Annotated

import typer

from chiaroscuro.choices import DEFAULT_MODEL, METHODS, RANKING_MAPS, SCORES


def check(
    data: Annotated[
        str,
        typer.Option(help="A folder, a Parquet file, cifar10, imagenette, or OWNER/NAME."),
    ],
    model: Annotated[
        str, typer.Option(help="What `chiaroscuro models` lists, such as torchvision:resnet18.")
    ] = DEFAULT_MODEL,
    out: Annotated[Path, typer.Option(help="The folder for rows, figures and page.")] = Path(
        "chiaroscuro-check"
    ),
    data_root: Annotated[
        Path | None, typer.Option(help="A folder with a data set's folder, in place of its name.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Default: test, then validation, then train.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many images, drawn with the seed.")] = 64,
    seed: Annotated[int, typer.Option(help="Draws images, weights, noise and orders.")] = 0,
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", help=f"{', '.join(RANKING_MAPS)}; repeatable. Default: all."),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help=f"{', '.join(METHODS)}; repeatable. Default: gradient."),
    ] = None,
    rivals: Annotated[
        str, typer.Option(help="top:N, all, or classes by index or name separated by ;")
    ] = "top:10",
    score: Annotated[str, typer.Option(help=f"One of {', '.join(SCORES)}.")] = "logit",
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
    colour_only: Annotated[
        bool, typer.Option("--colour-only", help="Leave files out that are not RGB.")
    ] = False,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Images at a time. Default: by their size.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N, mps.")] = "cpu",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads. Default: PyTorch's own.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing check.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Check that maps change with the weights and the class, and not with a little noise."""
    from chiaroscuro.checks.settings import CheckSettings
    from chiaroscuro.cli import check_run

    settings = CheckSettings(
        data=data,
        model=model,
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
        colour_only=colour_only,
        batch=batch,
        threads=threads,
        device=device,
    )
    check_run.run(settings, out, data_root, overwrite=force, as_json=as_json, quiet=quiet)
