"""What a command prints where, and how it ends."""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer.exceptions import TyperException

from chiaroscuro.errors import ChiaroscuroError, printable, quiet_libraries, ran_out_of_memory

if TYPE_CHECKING:
    from PIL.Image import Image
    from rich.text import Text

    from chiaroscuro.results.explanations import Explanation

INTERRUPTED, PIPE_CLOSED, TERMINATED, OUT_OF_TIME, LEFT_OUT = 130, 141, 143, 75, 3
"""Exit statuses after Ctrl+C, a closed pipe, SIGTERM, when time was over, and when all was done but
for images that cannot be used."""


class Terminated(KeyboardInterrupt):
    """The process was asked to end, as a cluster does before it takes the machine."""


class OutOfTime(KeyboardInterrupt):
    """The time that was asked for is over: an interruption like Ctrl+C, by the clock."""


def say(text: object, *, err: bool = False) -> None:
    """Print one line; what would steer a terminal is escaped. Standard error may be closed."""
    with suppress(OSError) if err else nullcontext():
        typer.echo(printable(text), err=err)


def guarded(run: Callable[[], object]) -> None:
    """Run a command and end the process: every failure is one line and an exit status.

    1: an error of ours, or standard output cannot be written; 2: words that are no options;
    130: Ctrl+C, of which a second one ends the process at once; 143: SIGTERM, the same; 141: the
    reader of standard output has closed it.
    """
    quiet_libraries()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # names that the encoding does not have
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(_flushed(_status(run)))


def _status(run: Callable[[], object]) -> int:
    """Run a command and report its failure; returns its exit status."""
    try:
        code = run()
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else int(left.code is not None)
    except TyperException as error:
        return _misused(error)
    except KeyboardInterrupt as error:
        is_asked = isinstance(error, Terminated)
        say("terminated" if is_asked else "interrupted", err=True)
        return TERMINATED if is_asked else INTERRUPTED
    except BrokenPipeError:
        return PIPE_CLOSED
    except (ChiaroscuroError, OSError) as error:
        say(f"chiaroscuro: {error}", err=True)
        return 1
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise
        say("chiaroscuro: out of memory: give a smaller --batch, or fewer --workers", err=True)
        return 1
    return code if isinstance(code, int) else 0


def _misused(error: Any) -> int:
    """Say in one line which words the command does not know; without any, its help was shown."""
    if type(error).__name__ != "NoArgsIsHelpError":
        text, context = error.format_message(), getattr(error, "ctx", None)
        asked = f"; see {context.command_path} -h" if context else ""
        say(f"chiaroscuro: {text[:1].lower()}{text[1:].rstrip('.')}{asked}", err=True)
    status: int = error.exit_code
    return status


def _flushed(code: int) -> int:
    """The status once standard output is written, or cannot be."""
    try:
        sys.stdout.flush()
    except OSError as error:
        # What stays in the buffer would fail again, with a traceback, as Python ends.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return PIPE_CLOSED
        if code == 0:
            say(f"chiaroscuro: standard output: {error.strerror or error}", err=True)
        return code or 1
    return code


def _interrupt(number: int, *_: object) -> None:
    """The first Ctrl+C raises `KeyboardInterrupt`; the second one ends the process, with a line."""

    def end(*_: object) -> None:
        os.write(2, b"interrupted\n" if number == signal.SIGINT else b"terminated\n")
        os._exit(128 + number)

    signal.signal(number, end)
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def show(explanations: Sequence["Explanation"]) -> None:
    """A small picture and probability bars of each, where standard output is a color terminal."""
    from rich.console import Console

    console = Console(file=sys.stdout, highlight=False)
    colors = console.color_system in ("256", "truecolor") and not console.no_color
    if not (explanations and colors and console.encoding.startswith("utf")):
        return
    if not sys.stdout.isatty():
        return
    from chiaroscuro.notebook import overlay

    for one in explanations:
        name = "signed" if "signed" in one.maps else next(iter(one.maps))
        console.print(f"\n{printable(Path(one.image.source).name)}, {name}:", markup=False)
        console.print(_half_blocks(overlay(one, name), min(48, console.width)), end="")
        for class_ in one.predictions:
            bar = f"{_BLOCK * round(24 * class_.probability):<24}"
            said = f"{bar} {100 * class_.probability:5.1f} % {printable(class_.label)}"
            bold = "bold" if class_.index == one.target.index else ""
            console.print(said, style=bold, markup=False, overflow="ellipsis", no_wrap=True)


_BLOCK, _UPPER = "\N{FULL BLOCK}", "\N{UPPER HALF BLOCK}"


def _half_blocks(picture: "Image", width: int) -> "Text":
    """A picture of so many letters a line; each shows a pixel above another one."""
    from rich.style import Style
    from rich.text import Text

    rows = max(1, round(width * picture.height / picture.width / 2))
    data = picture.convert("RGB").resize((width, 2 * rows)).tobytes()
    hues = [f"#{data[n : n + 3].hex()}" for n in range(0, len(data), 3)]
    text = Text()
    for row in range(rows):
        for n in range(2 * row * width, (2 * row + 1) * width):
            text.append(_UPPER, Style(color=hues[n], bgcolor=hues[n + width]))
        text.append("\n")
    return text
