"""What `chiaroscuro evaluate` does once its words are parsed; imports torch."""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from chiaroscuro.cli.preparation import load, prepare
from chiaroscuro.runs import EvaluationSettings, evaluate
from chiaroscuro.runs.evaluation import OnImages


def run(
    settings: EvaluationSettings,
    out: Path,
    data_root: Path | None,
    *,
    resume: bool,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Evaluate, show progress, print the areas and the page's path."""
    prepare(settings.threads)
    try:
        with _progress(quiet=quiet) as on_images:
            classifier = load(settings.model, settings.device)
            summary = evaluate(
                classifier, settings, out, resume=resume, overwrite=overwrite,
                data_root=data_root, on_images=on_images,
            )  # fmt: skip
    except KeyboardInterrupt:
        typer.echo("interrupted: go on with the same command and --resume", err=True)
        raise typer.Exit(130) from None
    if as_json:
        typer.echo(json.dumps(summary))
    elif not quiet:
        for line in _lines(summary):
            typer.echo(line)
        typer.echo(f"page: {(out / 'index.html').resolve()}")


def _lines(summary: Mapping[str, Any]) -> Iterator[str]:
    """What a terminal shows: images, accuracy, and the area of every map."""
    data, accuracy = summary["data"], summary["accuracy"]
    right = (
        f"accuracy {accuracy['value']:.4f} [{accuracy['low']:.4f}, {accuracy['high']:.4f}]"
        if accuracy
        else f"no accuracy: {summary['accuracy_note']}"
    )
    left_out = f", {data['broken_count']} left out" if data["broken_count"] else ""
    yield f"{data['images']} images of {data['source']} {data['split']}{left_out}; {right}"
    for protocol in summary["choices"]["protocols"]:
        for fill in summary["choices"]["fills"]:
            found = ", ".join(
                f"{row['map']} {row['area']['value']:.3f}"
                for row in summary["curves"]
                if (row["protocol"], row["fill"]) == (protocol, fill)
                and not row["map"].startswith("inverted:")
            )
            yield f"area, {protocol}, {fill}: {found}"


@contextmanager
def _progress(*, quiet: bool) -> Iterator[OnImages]:
    """One bar of images, with images a second and the time left."""
    console = Console(file=sys.stderr)
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
    )  # fmt: skip
    disabled = quiet or not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=disabled) as progress:
        task = progress.add_task("loading the model", total=None, rate="")

        def on_images(done: int, total: int | None, before: int) -> None:
            elapsed = progress.tasks[0].elapsed or 0.0
            rate = f"{(done - before) / elapsed:.1f} images/s" if done > before else ""
            progress.update(task, description="images", completed=done, total=total, rate=rate)

        yield on_images
