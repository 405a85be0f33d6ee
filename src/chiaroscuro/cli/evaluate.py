"""`chiaroscuro evaluate`: deletion curves of a classifier's maps over an image set."""

from pathlib import Path
from typing import Annotated

import typer

from chiaroscuro.choices import (
    BASELINES,
    DEFAULT_MODEL,
    EDIT_MAPS,
    FILLS,
    METHODS,
    PAPER_MAPS,
    PROTOCOLS,
    RANKING_MAPS,
    SCORES,
    check_names,
)

_MAPS = ", ".join(RANKING_MAPS)
_EDIT_MAPS = ", ".join(EDIT_MAPS)


def evaluate(
    data: Annotated[
        str,
        typer.Argument(help="A folder, a Parquet file, cifar10, imagenette, or OWNER/NAME."),
    ],
    model: Annotated[
        str, typer.Option(help="What `chiaroscuro models` lists, such as torchvision:resnet18.")
    ] = DEFAULT_MODEL,
    out: Annotated[Path, typer.Option(help="The folder for rows, figures and page.")] = Path(
        "chiaroscuro-run"
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
    seed: Annotated[
        int, typer.Option(help="Draws images, tie breaks, the random control and intervals.")
    ] = 0,
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            help=f"{_MAPS}; or, made for each fill anew, {_EDIT_MAPS}; repeatable. "
            "Default: the article's five.",
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
    rivals: Annotated[
        str,
        typer.Option(
            help="all, top:N, runner-up, mean, softmax, or classes by index or name separated by ;"
        ),
    ] = "all",
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
    score: Annotated[str, typer.Option(help=f"One of {', '.join(SCORES)}.")] = "logit",
    colour_only: Annotated[
        bool, typer.Option("--colour-only", help="Leave files out that are not RGB.")
    ] = False,
    check: Annotated[
        Path | None,
        typer.Option(help="The folder of a `chiaroscuro check`, to show in the report."),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Images at a time. Default: by their size.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N, mps.")] = "cpu",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads. Default: PyTorch's own.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing run.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Measure maps by deletion: whether the prediction holds when a map's highest pixels go."""
    from chiaroscuro.cli import evaluate_run
    from chiaroscuro.runs import EvaluationSettings

    settings = EvaluationSettings(
        data=data,
        model=model,
        split=split,
        limit=limit,
        seed=seed,
        maps=tuple(map_ or PAPER_MAPS),
        fills=tuple(fill or ("black", "white")),
        protocols=PROTOCOLS
        if protocol == "both"
        else check_names("protocol", [protocol], (*PROTOCOLS, "both")),
        what_if=what_if,
        rivals=rivals,
        method=method,
        points=points,
        sigma=sigma,
        baseline=baseline,
        background=background,
        score=score,  # type: ignore[arg-type]  # checked by the settings
        colour_only=colour_only,
        batch=batch,
        threads=threads,
        device=device,
    )
    evaluate_run.run(
        settings,
        out,
        data_root,
        check,
        resume=resume,
        overwrite=force,
        as_json=as_json,
        quiet=quiet,
    )
