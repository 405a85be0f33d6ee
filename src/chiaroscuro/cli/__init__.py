"""The `chiaroscuro` command: rows of a table, options made from settings, and what runs them."""

import platform
from functools import partial

import typer

from chiaroscuro.catalog import versions
from chiaroscuro.cli.commands import COMMANDS
from chiaroscuro.cli.terminal import guarded

app = typer.Typer(
    name="chiaroscuro",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in COMMANDS:
    command.add_to(app)


@app.callback(invoke_without_command=True)
def version(show: bool = typer.Option(False, "--version", help="Print versions and exit.")) -> None:
    """Which pixels want to be brighter, which darker, and for which class."""
    if show:
        known = {"chiaroscuro": "", **versions(), "platform": platform.platform()}
        typer.echo("\n".join(f"{name} {number}" for name, number in known.items()))
        raise typer.Exit


def main() -> None:
    """Run the command; every failure is one line on standard error and an exit status."""
    guarded(partial(app, standalone_mode=False))
