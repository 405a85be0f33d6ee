"""A classifier from a function in a file of the user's own."""

import copy
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

from torch import nn

from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import (
    ChiaroscuroError,
    MissingModelError,
    ModelError,
    encodable,
    first_line,
)


def load(path: str, function: str) -> Classifier:
    """`path/to/file.py:factory`: run the file, call its factory, take what it returns."""
    spec = f"{path}:{function}"
    source = Path(path)
    if not source.is_file():
        raise MissingModelError(f"{spec}: no such file {source}")
    with _neighbors(source):
        make = getattr(_run(source, spec), function, None)
        if not callable(make):
            raise ModelError(f"{spec}: {source} has no function {function!r}")
        try:
            network = make()
        except ChiaroscuroError:
            raise
        except (Exception, SystemExit) as error:
            raise ModelError(f"{spec}: the factory raised {_explained(error)}") from error
    if isinstance(network, nn.Module):
        network = Classifier(network)
    if not isinstance(network, Classifier):
        raise ModelError(
            f"{spec} returned a {type(network).__name__}: expected an nn.Module or a Classifier"
        )
    classifier = copy.copy(network)
    classifier.name = encodable(spec)
    classifier.origin = {"architecture": classifier.name, **classifier.origin}
    return classifier


def files_run() -> list[str]:
    """The files that factories of this process come from: another process needs their classes."""
    modules = (module for name, module in sys.modules.items() if name.startswith(_PREFIX))
    return [str(module.__file__) for module in modules]


def run_files(files: Iterable[str]) -> None:
    """Run files as `load` does, without calling a factory."""
    for file in files:
        with _neighbors(Path(file)):
            _run(Path(file), file)


_PREFIX = "chiaroscuro_factory_"


def _run(source: Path, spec: str) -> ModuleType:
    """The file as a module, known to Python by its own name (dataclasses ask for that)."""
    name = f"{_PREFIX}{source.stem}"
    about = importlib.util.spec_from_file_location(name, source)
    assert about is not None
    assert about.loader is not None
    module = importlib.util.module_from_spec(about)
    sys.modules[name] = module
    try:
        about.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ModelError(f"{spec}: {source} raised {_explained(error)}") from error
    return module


def _explained(error: BaseException) -> str:
    """An error's type and message, and what to do about the usual ones of checkpoints."""
    kind, text = type(error).__name__, str(error)
    if isinstance(error, EOFError):
        return f"{kind}: {first_line(error)} (an empty or cut file?)"
    if not text.startswith("Error(s) in loading state_dict"):
        return f"{kind}: {first_line(error)}"
    head, *lines = (line.strip() for line in text.splitlines())
    listed = [_listed(line) for line in lines[:_MOST]]
    more = [f"and {len(lines) - _MOST} more"] if len(lines) > _MOST else []
    advice = ""
    if '"state_dict"' in text:
        advice = ' (take the checkpoint\'s ["state_dict"])'
    elif ' "module.' in text:
        advice = ' (take the prefix "module." off the checkpoint\'s keys)'
    return f"{kind}: {' '.join([head, *listed, *more])}{advice}"


_MOST = 4
"""So many keys are listed, the others counted."""


def _listed(line: str) -> str:
    """A line of a state dict's error with its first keys."""
    keys = line.split('", "')
    if len(keys) <= _MOST:
        return line
    return '", "'.join(keys[:_MOST]) + f'" and {len(keys) - _MOST} more.'


@contextmanager
def _neighbors(source: Path) -> Iterator[None]:
    """Files next to the source can be imported inside."""
    folder = str(source.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with suppress(ValueError):  # the file itself may have removed it
            sys.path.remove(folder)
