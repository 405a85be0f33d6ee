"""The command-line reference: `python -m chiaroscuro.cli.reference > docs/reference/cli.md`."""

from collections.abc import Iterator

from chiaroscuro.cli.commands import COMMANDS
from chiaroscuro.cli.options import PANELS, Command, shell_options

HEAD = """# Command line

`chiaroscuro COMMAND --help` says the same. Made from the settings that the library takes, by
`python -m chiaroscuro.cli.reference > docs/reference/cli.md`.
"""


def reference() -> str:
    """The page, in Markdown."""
    return "\n".join([HEAD, *(line for command in COMMANDS for line in _section(command))])


def _section(command: Command) -> Iterator[str]:
    options = list(shell_options(command))
    places = " ".join(o.name if o.is_required else f"[{o.name}]" for o in options if not o.panel)
    yield f"## chiaroscuro {command.name}\n"
    yield f"{command.help}\n"
    yield "```sh"
    yield f"chiaroscuro {command.name} {places} [OPTIONS]".replace("  ", " ")
    yield from (f"chiaroscuro {command.name} {words}".rstrip() for words in command.examples)
    yield "```\n"
    for panel in ("", *PANELS):
        listed = [option for option in options if option.panel == panel]
        if listed:
            yield f"| {panel or 'Arguments'} | |\n|---|---|"
            yield from (f"| `{o.name}` | {o.help.replace('|', chr(92) + '|')} |" for o in listed)
            yield ""


if __name__ == "__main__":
    print(reference(), end="")
