"""Break one line at a time and show that the tests notice: `make mutants`.

Each mutant is one line of the source with another meaning. It is put into a copy of the package,
and its tests run against that copy in a forked process (the heavy libraries are
imported once). They must be green on an unbroken copy first. A mutant that leaves them green has
survived: the exit status is then 1.
"""

import os
import shutil
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).parent.parent
_CRASHED = 70
LIST = Path(__file__).with_name("mutants.toml")


@dataclass(frozen=True)
class Mutant:
    """One edit: `old` occurs once in `file`; `tests` are the files expected to turn red."""

    file: str
    old: str
    new: str
    tests: str


def read_mutants() -> list[Mutant]:
    """The listed mutants."""
    rows = tomllib.loads(LIST.read_text())["mutant"]
    return [Mutant(**row) for row in rows]


def main() -> None:
    """Run every mutant; print one line each and the survivors."""
    for name in ("torch", "torchvision", "timm", "matplotlib.figure", "pytest"):
        import_module(name)
    mutants = read_mutants()
    for tests in sorted({mutant.tests for mutant in mutants}):
        if _is_red(tests, None):
            raise SystemExit(f"tests/{tests}.py is red without any mutant: mend that first")
    survivors = 0
    for number, mutant in enumerate(mutants, 1):
        red = _is_red(mutant.tests, mutant)
        survivors += not red
        words = f"{mutant.file}: {mutant.old}  ->  {mutant.new}"
        print(f"{number:2}/{len(mutants)} {'red     ' if red else 'SURVIVED'} {words}", flush=True)
    print(f"{len(mutants) - survivors} of {len(mutants)} mutants turn the tests red")
    sys.exit(1 if survivors else 0)


def _is_red(tests: str, mutant: Mutant | None) -> bool:
    """Whether a file of tests fails on a copy of the package, with a mutant in it or without."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "src"
        shutil.copytree(ROOT / "src", source)
        if mutant is not None:
            _break(source / "chiaroscuro" / mutant.file, mutant)
        child = os.fork()
        if child == 0:
            try:
                os._exit(_run_tests(source, tests))
            finally:
                os._exit(_CRASHED)  # pytest itself failed, which says nothing about the tests
        _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, 1):
        raise SystemExit(f"tests/{tests}.py could not run (exit status {code})")
    return code == 1


def _break(file: Path, mutant: Mutant) -> None:
    text = file.read_text()
    if text.count(mutant.old) != 1:
        raise SystemExit(f"{mutant.file}: {mutant.old!r} occurs {text.count(mutant.old)} times")
    file.write_text(text.replace(mutant.old, mutant.new))


def _run_tests(source: Path, tests: str) -> int:
    import pytest

    os.chdir(ROOT)
    sys.path.insert(0, str(source))
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    options = ["-x", "-q", "-o", "addopts=", "-p", "no:cacheprovider"]
    # Plugins that a library has already brought in; their own asserts do not matter here.
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    return int(pytest.main([*options, f"tests/{tests}.py"]))


if __name__ == "__main__":
    main()
