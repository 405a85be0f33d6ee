"""A classifier from a function in a file of the user's own."""

import copy
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

from torch import nn

from chiaroscuro import errors
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ModelError, encodable, first_line

_PREFIX = "chiaroscuro_factory_"


def load(path: str, function: str) -> Classifier:
    """`path/to/file.py:factory`: run the file, call its factory, take what it returns."""
    spec = f"{path}:{function}"
    source = Path(path)
    if not source.is_file():
        raise errors.MissingModelError(f"{spec}: no such file {source}")
    with _neighbors(source):
        make = getattr(_run(source, spec), function, None)
        if not callable(make):
            raise ModelError(f"{spec}: {source} has no function {function!r}")
        try:
            network = make()
        except errors.ChiaroscuroError:
            raise
        except (Exception, SystemExit) as error:
            raise ModelError(f"{spec}: the factory raised {_explained(error)}") from error
    if isinstance(network, nn.Module):
        network = Classifier(network)
    if not isinstance(network, Classifier):
        kind = type(network).__name__
        raise ModelError(f"{spec} returned a {kind}: expected an nn.Module or a Classifier")
    classifier = copy.copy(network)
    classifier.name = encodable(spec)
    classifier.origin = {"architecture": classifier.name, **classifier.origin}
    return classifier


def files_run() -> list[str]:
    """The files that factories of this process come from: another process needs their classes."""
    return [str(m.__file__) for name, m in sys.modules.items() if name.startswith(_PREFIX)]


def run_files(files: Iterable[str]) -> None:
    """Run files as `load` does, without calling a factory."""
    for file in files:
        with _neighbors(Path(file)):
            _run(Path(file), file)


def _run(source: Path, spec: str) -> ModuleType:
    """The file as a module, known to Python by its own name (dataclasses ask for that)."""
    name = f"{_PREFIX}{source.stem}"
    about = importlib.util.spec_from_file_location(name, source)
    assert about is not None
    module = importlib.util.module_from_spec(about)
    sys.modules[name] = module
    try:  # read now: bytecode that is kept may be of an older file, of the same size and second
        exec(compile(source.read_bytes(), source, "exec"), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ModelError(f"{spec}: {source} raised {_explained(error)}") from error
    return module


def _explained(error: BaseException) -> str:
    """An error's type and message, and what to do about the usual ones of checkpoints."""
    text, advice = str(error), ""
    if text.startswith("Error(s) in loading state_dict"):
        if '"state_dict"' in text:
            advice = ' (take the checkpoint\'s ["state_dict"])'
        elif ' "module.' in text:
            advice = ' (take the prefix "module." off the checkpoint\'s keys)'
        lines = (line.strip().split('", "') for line in text.splitlines())
        text = _first([_first(keys, '", "', '" and {} more.') for keys in lines], " ", "; {} more")
    else:
        text = first_line(error)
        advice = " (an empty or cut file?)" if isinstance(error, EOFError) else ""
    return f"{type(error).__name__}: {text}{advice}"


def _first(parts: list[str], between: str, end: str) -> str:
    """The first four parts, the others counted."""
    return between.join(parts[:4]) + (end.format(len(parts) - 4) if len(parts) > 4 else "")


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
