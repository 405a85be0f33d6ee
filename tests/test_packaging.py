"""What pyproject.toml asks for, constraints.txt pins and the environment has agree."""

import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {
    name: list(map(Requirement, rows)) for name, rows in PROJECT["optional-dependencies"].items()
}
PINS = {
    canonicalize_name(line.partition("==")[0]): line.partition("==")[2]
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if "==" in line
}  # fmt: skip
OURS = {*map(Requirement, PROJECT["dependencies"]), *(r for rows in EXTRAS.values() for r in rows)}


def test_every_requirement_of_ours_is_pinned_within_its_range():
    for wanted in OURS:
        if wanted.name != PROJECT["name"]:
            assert wanted.specifier.contains(PINS[canonicalize_name(wanted.name)]), wanted


def test_no_extra_is_empty_and_all_holds_each():
    assert all(EXTRAS.values())
    (all_,) = EXTRAS["all"]
    assert all_.extras == {*EXTRAS} - {"all"}


def test_what_is_installed_accepts_the_pins():
    """Packages that contradict each other would leave pip without a solution."""
    pinned = [d for d in metadata.distributions() if canonicalize_name(d.name) in PINS]
    assert len(pinned) > 50
    for distribution in pinned:
        for wanted in map(Requirement, distribution.requires or ()):
            pin = PINS.get(canonicalize_name(wanted.name))
            if pin and (wanted.marker is None or wanted.marker.evaluate({"extra": ""})):
                assert wanted.specifier.contains(pin, prereleases=True), (distribution.name, wanted)
