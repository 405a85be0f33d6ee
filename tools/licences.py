"""Licenses of all packages: `python -m tools.licences > docs/reference/licenses.md`.

The versions are those of constraints.txt; `needed by` is the first of core and the extras (in the
order of pyproject.toml) whose dependencies reach the package.
"""

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
HEAD = """# Licenses

chiaroscuro is Apache-2.0. This page lists every package that core or an extra can install, with the license that the package itself states, at
the version of `constraints.txt`. What only development and this site need (mkdocs, pytest and the like) is not listed.

Not permissive, or not stated: {}, and NVIDIA's own
terms for the CUDA libraries that PyTorch brings on Linux. A package that states GPL-3.0 is imported by its extra alone. Made by `python -m tools.licences > docs/reference/licenses.md`.

| package | version | license | needed by |
|---|---|---|---|
"""  # noqa: E501
_OWN = "chiaroscuro"
_SHORT = 60
_NAMES = {
    r"apache": "Apache-2.0", r"^mit|mit license": "MIT", r"bsd.*3|3-clause": "BSD-3-Clause",
    r"bsd.*2|2-clause": "BSD-2-Clause", r"bsd": "BSD", r"mpl|mozilla": "MPL-2.0",
    r"hpnd|historical permission": "HPND", r"python software|^psf": "PSF-2.0",
    r"isc": "ISC", r"zlib": "Zlib", r"proprietary": "proprietary", r"gpl": "GPL-3.0",
    r"unknown": "none stated",
}  # fmt: skip
"""Texts that packages state, and the identifiers of SPDX for them."""


def pinned() -> dict[str, str]:
    """Versions by package, as constraints.txt has them."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    return {canonicalize_name(name): version.strip() for name, version in pairs}


def needed() -> dict[str, str]:
    """Packages by name: "core", or the extra that needs them first."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = {"core": project["dependencies"], **project["optional-dependencies"]}
    del groups["docs"], groups["all"]
    found: dict[str, str] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    for group, requirements in groups.items():
        waiting = [Requirement(text) for text in requirements]
        while waiting:
            requirement = waiting.pop()
            name, extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
            if name == _OWN or (name, extras) in seen:
                continue
            seen.add((name, extras))
            found.setdefault(name, group)
            waiting += _requires(name, extras)
    return found


def _requires(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    """What a package needs with these extras, on this machine."""
    try:
        listed = distribution(name).requires or []
    except PackageNotFoundError:
        return
    for requirement in map(Requirement, listed):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in {"", *extras}):
            yield requirement


def license_of(name: str) -> str:
    """What a package states of itself: an SPDX expression, or a short text or a classifier."""
    about: Any = distribution(name).metadata
    if expression := about.get("License-Expression"):
        return str(expression)
    classifiers = [c for c in about.get_all("Classifier") or () if c.startswith("License ::")]
    said = [c.split(" :: ")[-1] for c in classifiers if c.split(" :: ")[-1] != "OSI Approved"]
    text = (about.get("License") or "").strip().split("\n")[0]
    stated = said or ([text] if 0 < len(text) <= _SHORT else [])
    return ", ".join(map(_spdx, stated)) or "none stated"


def _spdx(text: str) -> str:
    matches = (name for words, name in _NAMES.items() if re.search(words, text.lower()))
    return next(matches, text)


def page() -> str:
    """The page, in Markdown."""
    versions, rows = pinned(), []
    for name, group in sorted(needed().items()):
        if name in versions:
            rows.append(f"| {name} | {versions[name]} | {license_of(name)} | {group} |\n")
    wary = [row.split(" | ") for row in rows if re.search(r"GPL|proprietary|none", row, re.I)]
    wary = [row for row in wary if not re.match(r"\| (nvidia|cuda)", row[0])]
    said = [f"{row[0].removeprefix('| ')} ({row[2]})" for row in wary]
    return HEAD.format(", ".join(said)) + "".join(rows)


if __name__ == "__main__":
    print(page(), end="")
