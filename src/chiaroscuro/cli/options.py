"""Commands whose command-line options are the fields of settings."""

import inspect
from dataclasses import MISSING, Field, dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer

from chiaroscuro.choices.options import Settings, option_of, panel_of, raise_together
from chiaroscuro.cli.terminal import INTERRUPTED, PIPE_CLOSED, say
from chiaroscuro.errors import ChoiceError
from chiaroscuro.stopwatch import Stopwatch

PANELS = (
    "Network", "Images", "Question", "Gradient method", "Measure", "Training", "Statistics",
    "Machine", "Output",
)  # fmt: skip
"""The headings of `--help`, in order."""


class Command:
    """One command: the settings that define its options, what runs it, and its words.

    `runner` is MODULE:FUNCTION in this package, imported when every value is checked, and called
    with an object of each of `groups`. `kept` says what an interruption leaves.
    """

    def __init__(
        self,
        name: str,
        groups: tuple[type[Settings], ...],
        runner: str,
        help: str,
        *examples: str,
        kept: str = "nothing was kept",
    ) -> None:
        self.name, self.groups, self.runner = name, groups, runner
        self.help, self.examples, self.kept = help, examples, kept

    def add_to(self, app: typer.Typer) -> None:
        """Let the application have it."""

        def run(**typed: Any) -> None:
            self.run({name: value for name, value in typed.items() if value not in (None, [])})

        run.__annotations__ = {}
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [option.parameter for option in shell_options(self)]
        )
        lines = ["Examples:", *(f"  chiaroscuro {self.name} {words}" for words in self.examples)]
        app.command(self.name, help=self.help, epilog="\n\n".join(lines))(run)

    def run(self, values: dict[str, Any]) -> None:
        """Make the settings, all wrong values reported together, and call the runner."""
        settings, wrong = [], []
        for cls in self.groups:
            try:
                settings.append(
                    cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values})
                )
            except ChoiceError as error:
                wrong.append(str(error))
        raise_together(wrong)
        module, _, function = self.runner.partition(":")
        try:
            with Stopwatch().running():
                getattr(import_module(f"chiaroscuro.cli.{module}"), function)(*settings)
        except KeyboardInterrupt:
            say(f"interrupted: {self.kept}", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            raise typer.Exit(PIPE_CLOSED) from None


@dataclass(frozen=True)
class ShellOption:
    """A field as a shell has it: its names, words and heading ("" for a place on the line)."""

    name: str
    help: str
    panel: str
    is_required: bool
    parameter: inspect.Parameter


def shell_options(command: Command) -> list[ShellOption]:
    """What a command takes, places first, then options by their headings."""
    options = [_shell_option(cls, f) for cls in command.groups for f in fields(cls)]
    return sorted(options, key=lambda option: ("", *PANELS).index(option.panel))


def _shell_option(cls: type[Settings], described: "Field[Any]") -> ShellOption:
    about, required = option_of(described), described.default is MISSING
    kind = _shell_type(get_type_hints(cls)[described.name])
    words = about.help + (" Repeatable." if "list" in str(kind) else "") + _default(described)
    info: Any
    if about.flag == "":
        name, panel = described.name.upper().rstrip("S"), ""
        info = typer.Argument(help=words, metavar=name)
    else:
        flags, panel = _flags(described), panel_of(cls, described.name)
        name = ", ".join(flags)
        info = typer.Option(*flags, help=words, rich_help_panel=panel, show_default=False)
    parameter = inspect.Parameter(
        described.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if required else None,
        annotation=Annotated[kind if required else kind | None, info],
    )
    return ShellOption(name, words, panel, required, parameter)


def _flags(described: "Field[Any]") -> list[str]:
    name, *letters = (option_of(described).flag or described.name).replace("_", "-").split(",")
    switch = f"--{name}/--no-{name}" if described.default is True else f"--{name}"
    return [switch, *(f"-{letter}" for letter in letters)]


def _shell_type(kind: Any) -> Any:
    """What one word of a shell is read as; fields read the rest themselves."""
    if type(None) in get_args(kind):
        kind = get_args(kind)[0] if len(get_args(kind)) == 2 else str
    if getattr(kind, "__origin__", None) is tuple:
        inner = get_args(kind)
        return list[_shell_type(inner[0])] if inner[1] is Ellipsis else inner[0]  # type: ignore[misc]
    return kind if kind in (bool, int, float, str, Path) else str


def _default(described: "Field[Any]") -> str:
    """A field's default in words; none for a switch, or where the help says it."""
    default = described.default
    if default is MISSING or default is None or isinstance(default, bool):
        return ""
    return f" Default: {', '.join(map(str, default)) if isinstance(default, tuple) else default}."
