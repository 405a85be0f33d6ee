"""`chiaroscuro models`: what can be loaded, and what is installed."""

import json
from dataclasses import asdict
from typing import Annotated

import typer


def models(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List what --model takes, and which of it is installed here."""
    from chiaroscuro.catalog import list_models

    sources = list_models()
    if as_json:
        for source in sources:
            typer.echo(json.dumps(asdict(source)))
        return
    width = max(len(source.spec) for source in sources)
    for source in sources:
        state = f"{source.package} {source.installed}" if source.installed else "not installed"
        reach = "works offline" if source.offline else "weights are fetched once"
        typer.echo(f"{source.spec:<{width}}  {source.loads}")
        typer.echo(f"{'':<{width}}  [{state}; {reach}]")
