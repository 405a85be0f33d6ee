"""The command-line reference: `python -m chiaroscuro.cli.reference > docs/reference/cli.md`."""

from collections.abc import Iterator
from typing import Any

import typer

from chiaroscuro.cli import app
from chiaroscuro.cli.commands import COMMANDS
from chiaroscuro.cli.options import Command
from chiaroscuro.settings import PANELS

HEAD = """# Command line

`chiaroscuro COMMAND --help` says the same. Made from the settings that the library takes, by
`python -m chiaroscuro.cli.reference > docs/reference/cli.md`.
"""


def reference() -> str:
    """The page, in Markdown."""
    commands: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return "\n".join([HEAD, *(s for c in COMMANDS for s in _section(c, commands[c.name].params))])


def _section(command: Command, parameters: list[Any]) -> Iterator[str]:
    places = [p for p in parameters if p.param_type_name == "argument"]
    words = " ".join(p.metavar if p.required else f"[{p.metavar}]" for p in places)
    yield f"## chiaroscuro {command.name}\n"
    yield f"{command.help}\n"
    yield "```sh"
    yield f"chiaroscuro {command.name} {words} [OPTIONS]".replace("  ", " ")
    yield from (f"chiaroscuro {command.name} {words}".rstrip() for words in command.examples)
    yield "```\n"
    for panel in ("", *PANELS):
        if listed := [p for p in parameters if (p.rich_help_panel or "") == panel]:
            yield f"| {panel or 'Arguments'} | |\n|---|---|"
            for p in listed:
                name = (
                    p.metavar if p in places else "/".join([", ".join(p.opts), *p.secondary_opts])
                )
                yield f"| `{name}` | {p.help.replace('|', chr(92) + '|')} |"
            yield ""


if __name__ == "__main__":
    print(reference(), end="")
