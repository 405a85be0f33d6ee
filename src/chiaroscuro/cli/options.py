"""Commands whose command-line options are the fields of settings."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from typer.core import TyperCommand

from chiaroscuro.catalog import class_words
from chiaroscuro.choices import DEFAULT_MODEL
from chiaroscuro.cli.terminal import (
    INTERRUPTED,
    OUT_OF_TIME,
    PIPE_CLOSED,
    TERMINATED,
    OutOfTime,
    Terminated,
    say,
)
from chiaroscuro.errors import ChoiceError
from chiaroscuro.settings import PANELS, Option, Settings, option_of, raise_together

_SEVERAL = ("--classes",)
"""Options that take every word up to the next option."""
_STOPS: dict[type[KeyboardInterrupt], tuple[str, int]] = {
    Terminated: ("terminated", TERMINATED),
    OutOfTime: ("time is over", OUT_OF_TIME),
}
"""The word and the exit status of each way but Ctrl+C to stop a command before its end."""
_SIGNS: dict[Any, str] = {bool: "", int: "N", float: "X", Path: "PATH"}
"""What stands for a value in the help."""


class _Words(TyperCommand):
    """A command where `--classes A B` is `--classes A --classes B`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words, option = list[str](), ""
        for word in args:
            if word.startswith("-"):
                option = word if word in _SEVERAL else ""
            elif option and words[-1] != option:
                words.append(option)
            words.append(word)
        return super().parse_args(ctx, words)


@dataclass(frozen=True)
class Command:
    """One command: what runs it, the settings that define its options, and its words.

    `runner` is MODULE:FUNCTION in this package, imported when every value is checked, and called
    with an object of each of `groups`. `kept` says what an interruption leaves.
    """

    name: str
    runner: str
    groups: tuple[type[Settings], ...]
    help: str
    examples: tuple[str, ...]
    kept: str = "nothing was kept"

    def add_to(self, app: typer.Typer) -> None:
        """Let the application have it."""

        def run(**typed: Any) -> None:
            self.run({name: value for name, value in typed.items() if value not in (None, [])})

        options = [_parameter(f) for cls in self.groups for f in fields(cls)]
        options.sort(key=lambda option: ("", *PANELS).index(option[0]))
        run.__annotations__ = {}
        run.__signature__ = inspect.Signature([p for _, p in options])  # type: ignore[attr-defined]
        lines = ["Examples:", *(f"  chiaroscuro {self.name} {words}" for words in self.examples)]
        app.command(self.name, cls=_Words, help=self.help, epilog="\n\n".join(lines))(run)

    def run(self, values: dict[str, Any]) -> None:
        """Make the settings, all wrong values reported together, and call the runner."""
        settings, wrong = [], []
        for cls in self.groups:
            own = {f.name: values[f.name] for f in fields(cls) if f.name in values}
            try:
                settings.append(cls(**own))
            except ChoiceError as error:
                wrong.append(str(error))
        raise_together(wrong)
        module, _, function = self.runner.partition(":")
        try:
            getattr(import_module(f"chiaroscuro.cli.{module}"), function)(*settings)
        except KeyboardInterrupt as error:
            word, status = _STOPS.get(type(error), ("interrupted", INTERRUPTED))
            say(f"{word}: {self.kept}", err=True)
            raise typer.Exit(status) from None
        except BrokenPipeError:
            raise typer.Exit(PIPE_CLOSED) from None


def _parameter(described: "Field[Any]") -> tuple[str, inspect.Parameter]:
    """A field's heading ("" for a place on the line), and what a shell gives it."""
    about, required = option_of(described), described.default is MISSING
    kind = _shell_type(described.type)
    words = about.help + (" Repeatable." if "list" in str(kind) else "") + _default(described)
    panel = "" if about.flag == "" else about.panel
    info: Any = typer.Argument(help=words, metavar=described.name.upper().rstrip("S"))
    if panel:
        look: dict[str, Any] = {"rich_help_panel": panel, "show_default": False}
        look["metavar"] = _SIGNS.get(get_args(kind)[0] if get_args(kind) else kind, "TEXT")
        if about.offers or about.names:
            look["autocompletion"] = _completion(about)
        info = typer.Option(*flags(described), help=words, **look)
    return panel, inspect.Parameter(
        described.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if required else None,
        annotation=Annotated[kind if required else kind | None, info],
    )


def _completion(about: Option) -> Callable[..., list[str]]:
    """What a shell completes a value to; class names are those of the model on the line."""

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        named = ctx.params.get("model") or ctx.params.get("models") or DEFAULT_MODEL
        model = named if isinstance(named, str) else named[0]
        offers = about.offers(model) if callable(about.offers) else about.offers or about.names
        if callable(about.offers):
            offers = [*offers, *class_words(ctx.params.get("classes") or ())]
        return [word for word in offers if word.startswith(incomplete)]

    return complete


def flags(described: "Field[Any]") -> list[str]:
    """The names of a field's option."""
    own = described.name.removesuffix("s") if "tuple" in str(described.type) else described.name
    name, *letters = (option_of(described).flag or own).replace("_", "-").split(",")
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
