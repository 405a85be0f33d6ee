"""What `chiaroscuro localise` does once its words are parsed; imports torch."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer

from chiaroscuro.checks import LocalisationSettings, localise
from chiaroscuro.cli.preparation import load, prepare
from chiaroscuro.cli.progress import progress_bars
from chiaroscuro.report.evaluation import interval_text
from chiaroscuro.report.localisation import against_chance


def run(
    settings: LocalisationSettings,
    out: Path,
    data_root: Path | None,
    *,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Localise, show progress, print the figures and the page's path."""
    prepare(settings.threads, quiet=quiet)
    try:
        with progress_bars(quiet=quiet) as bars:
            classifier = load(settings.model, settings.device)
            summary = localise(
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
    """What a terminal shows: images, and both measures of every map beside a random order."""
    data = summary["data"]
    left_out = f", {data['left_out_count']} left out" if data["left_out_count"] else ""
    yield f"{data['images']} images of {data['source']} {data['split']}{left_out}"
    for entry in summary["maps"]:
        found = (
            f"{word} {interval_text(entry[measure])} ({against_chance(entry, measure)})"
            for measure, word in (("hit", "hit"), ("energy", "energy"))
        )
        yield f"{entry['map']}: {', '.join(found)}"
    chance, energy, centre = (
        interval_text(summary["maps"][0][name])
        for name in ("chance_hit", "chance_energy", "centre_hit")
    )
    yield f"random order: hit {chance}, energy {energy}; middle pixel: hit {centre}"
