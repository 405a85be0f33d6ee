"""What can go wrong, as one tree.

    ChiaroscuroError
    ├── InputError (ValueError)           what was handed in
    │   ├── ChoiceError                   a name or value outside what is known or allowed
    │   ├── ImageError                    a file or array that cannot be read as pixels in [0, 1]
    │   │   └── MissingImageError         a photo that does not exist (also MissingFileError)
    │   └── MissingFileError (FileNotFoundError)
    ├── ModelError                        a network that cannot be loaded or is no classifier
    │   ├── MissingModelError (FileNotFoundError)
    │   ├── MissingExtraError (ImportError)   a library that is not installed
    │   └── NotFiniteError                logits or gradients of an image are NaN or infinite
    └── ResultError                       a result folder that cannot be written or read
        ├── MissingResultError (FileNotFoundError)
        ├── ExistingResultError (FileExistsError)
        ├── OtherConfigurationError       a run that was begun otherwise than it is now
        └── UnwritableResultError (OSError)

The builtin in brackets is a base too, so `except ValueError` works as Python users expect. The
command line catches `ChiaroscuroError` alone and prints it as one line. A message says what was
wrong, what came, what was expected and what to do.
"""

import dataclasses
import difflib
import re
import warnings
from collections.abc import Iterable
from typing import Any

_LONGEST = 2000


class ChiaroscuroError(Exception):
    """Base of every error that this package raises on purpose; its text steers no terminal.

    What came may be as long as a file: of a long text the middle is left out.
    """

    def __str__(self) -> str:
        text = printable(super().__str__())
        half = _LONGEST // 2
        return text if len(text) <= _LONGEST else f"{text[:half]} [...] {text[-half:]}"


class InputError(ChiaroscuroError, ValueError):
    """What was handed in cannot be used."""


class MissingFileError(InputError, FileNotFoundError):
    """A file or folder that was named does not exist."""


class ImageError(InputError):
    """A file or array cannot be read as pixels in [0, 1]."""


class MissingImageError(ImageError, MissingFileError):
    """A photo does not exist."""


class ChoiceError(InputError):
    """A name or value is outside what is known or allowed."""


class ModelError(ChiaroscuroError):
    """A network cannot be loaded, or does not behave as an image classifier."""


class MissingModelError(ModelError, FileNotFoundError):
    """A network's file or folder does not exist."""


class MissingExtraError(ModelError, ImportError):
    """A library that this needs is not installed."""


class NotFiniteError(ModelError):
    """Logits or gradients of an image are NaN or infinite."""


class ResultError(ChiaroscuroError):
    """A result folder cannot be written or read."""


class MissingResultError(ResultError, FileNotFoundError):
    """No result lies in a folder."""


class ExistingResultError(ResultError, FileExistsError):
    """Something lies where a result would be written."""


class OtherConfigurationError(ResultError):
    """A folder holds a run that was begun otherwise; `said` is how."""

    said = ""


class UnwritableResultError(ResultError, OSError):
    """A result cannot be written: no permission, no space, no folder."""


def unwritable(place: object, error: OSError) -> ResultError:
    """The error for a place that cannot be written; one of ours stays itself."""
    if isinstance(error, ResultError):
        return error
    return UnwritableResultError(f"{place}: cannot be written ({error.strerror or error})")


def unknown(kind: str, name: object, known: Iterable[str], instead: str = "") -> ChoiceError:
    """The error for a name that is not in a table: near matches, then all names or `instead`."""
    names = list(known)
    word = str(name).lower()
    within = sorted((len(n), n) for n in names if word in n.split())  # "tiger cat" for "cat"
    near = [n for _, n in within[:5]] or difflib.get_close_matches(word, names)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    listed = instead or f"known are {', '.join(names)}"
    return ChoiceError(f"unknown {kind} {str(name)!r}: {hint}{listed}")


def missing_extra(what: str, package: str, extra: str) -> MissingExtraError:
    """The error for a feature whose optional library is not installed."""
    return MissingExtraError(
        f"{what} needs {package}, which is not installed: run pip install 'chiaroscuro[{extra}]'"
    )


def quiet_libraries() -> None:
    """In a process of our own: what is wrong with a picture, or memory, is said once, by us."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    warnings.filterwarnings("ignore", "coroutine .* was never awaited")  # Zarr's, without memory


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type: 500 characters; all lines after a ":"."""
    lines = [line for raw in str(error).splitlines() if (line := raw.strip())]
    lines = lines or [type(error).__name__]
    text = " ".join(lines) if lines[0].endswith(":") else lines[0]
    return text if len(text) <= 500 else f"{text[:500]}..."


_REFUSALS = ("DefaultCPUAllocator: can't allocate memory", "can't start new thread")


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or what caused it, is a device's or the system's refusal of memory."""
    cause: BaseException | None = error
    while cause is not None:
        refused = any(words in str(cause) for words in _REFUSALS)
        if refused or isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError":
            return True
        cause = cause.__cause__
    return False


def brief(value: Any) -> str:
    """A dataclass as one line, arrays by their shapes: the `repr` of results that hold arrays."""
    held = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    shown = (
        f"{name}={tuple(getattr(one, 'shape', ())) or repr(one)}" for name, one in held.items()
    )
    return f"{type(value).__name__}({', '.join(shown)})"


def encodable(text: object) -> str:
    """Text that UTF-8 can hold: surrogates, of names of files that are none, become escapes."""
    return str(text).encode("utf-8", "backslashreplace").decode()


_STEERING = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: object) -> str:
    r"""Text for a terminal or a page: what would steer it, or is no Unicode, becomes an escape.

    Control characters, line and paragraph separators, overrides of the writing direction, and the
    surrogates of file names that are not UTF-8.

    >>> print(printable("\x1b[2Jcat.png"))
    \x1b[2Jcat.png
    """
    return _STEERING.sub(lambda match: ascii(match[0])[1:-1], str(text))
