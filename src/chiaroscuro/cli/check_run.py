"""What `chiaroscuro check` does once its words are parsed; imports torch."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from chiaroscuro.checks import CheckSettings, check
from chiaroscuro.cli.preparation import load, prepare
from chiaroscuro.cli.progress import progress_bars


def run(
    settings: CheckSettings,
    out: Path,
    data_root: Path | None,
    *,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Check, show progress, print the verdicts and the page's path."""
    prepare(settings.threads, quiet=quiet)
    try:
        with progress_bars(quiet=quiet) as bars:
            classifier = load(settings.model, settings.device)
            summary = check(
                classifier, settings, out, overwrite=overwrite, data_root=data_root,
                on_images=lambda *told: bars.show("images", *told),
            )  # fmt: skip
    except KeyboardInterrupt:
        typer.echo("interrupted: nothing was kept", err=True)
        raise typer.Exit(130) from None
    if as_json:
        typer.echo(json.dumps(summary))
    elif not quiet:
        for line in _lines(summary):
            typer.echo(line)
        typer.echo(f"page: {(out / 'index.html').resolve()}")


def _lines(summary: Mapping[str, Any]) -> Iterator[str]:
    """What a terminal shows: images, layers, and the verdicts of every map."""
    data = summary["data"]
    yield (
        f"{data['images']} images of {data['source']} {data['split']}, "
        f"{len(summary['layers'])} steps from the output to the input"
    )
    for entry in summary["maps"]:
        said = entry["verdict"]
        words = "; ".join(said[question]["words"] for question in ("weights", "class", "noise"))
        yield f"{entry['method']}, {entry['map']}: {words}"
