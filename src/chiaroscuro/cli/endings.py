"""How a command ends: with what it found in print, or with one line after an interruption."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer


def print_result(
    found: Mapping[str, Any], lines: Iterable[str], folder: Path, *, as_json: bool, quiet: bool
) -> None:
    """Print what was found as one JSON object, or its lines and the page of its folder."""
    if as_json:
        typer.echo(json.dumps(found))
    elif not quiet:
        for line in lines:
            typer.echo(line)
        print_page(folder)


def print_page(folder: Path) -> None:
    """Print where the page of a folder is."""
    typer.echo(f"page: {(folder / 'index.html').resolve()}")


@contextmanager
def interruptible(told: str) -> Iterator[None]:
    """Turn an interruption into one line, with what to know of it, and exit status 130."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"interrupted: {told}", err=True)
        raise typer.Exit(130) from None
