"""The `chiaroscuro` command."""

import sys

import typer

from chiaroscuro.cli.check import check
from chiaroscuro.cli.compare import compare
from chiaroscuro.cli.evaluate import evaluate
from chiaroscuro.cli.explain import explain
from chiaroscuro.cli.localize import localize
from chiaroscuro.cli.models import models
from chiaroscuro.cli.paper import paper
from chiaroscuro.cli.train import train
from chiaroscuro.cli.what_if import what_if
from chiaroscuro.errors import ChiaroscuroError

app = typer.Typer(
    name="chiaroscuro",
    help="Which pixels want to be brighter, which darker, and for which class.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command()(explain)
app.command()(what_if)
app.command()(compare)
app.command()(evaluate)
app.command()(check)
app.command()(localize)
app.command()(models)
app.command()(train)
app.command()(paper)


@app.callback(invoke_without_command=True)
def version(
    show: bool = typer.Option(False, "--version", help="Print the version and leave."),
) -> None:
    """Which pixels want to be brighter, which darker, and for which class."""
    if show:
        import chiaroscuro

        typer.echo(f"chiaroscuro {chiaroscuro.__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command; an error of ours is one line on standard error and exit status 1."""
    try:
        app()
    except ChiaroscuroError as error:
        typer.echo(f"chiaroscuro: {error}", err=True)
        sys.exit(1)
