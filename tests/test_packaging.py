"""What pyproject.toml asks for, constraints.txt pins and the environment has agree."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.packages import ENABLED, FOLLOWING, IMPORTS, REFUSED, enabled

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
MAKE = {*re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)}
OURS = {*map(Requirement, PROJECT["dependencies"]), *(r for rows in EXTRAS.values() for r in rows)}


def test_every_requirement_of_ours_is_pinned_within_its_range():
    for wanted in OURS:
        if wanted.name != PROJECT["name"]:
            assert wanted.specifier.contains(PINS[canonicalize_name(wanted.name)]), wanted


def test_no_extra_is_empty_and_all_holds_each():
    assert all(EXTRAS.values())
    (all_,) = EXTRAS["all"]
    assert all_.extras == {*EXTRAS} - {"all"}


@pytest.mark.skipif(
    metadata.version("torch").partition("+")[0] != PINS["torch"], reason="another PyTorch"
)
def test_what_is_installed_accepts_the_pins():
    """Packages that contradict each other would leave pip without a solution."""
    pinned = [d for d in metadata.distributions() if canonicalize_name(d.name) in PINS]
    assert len(pinned) > 50
    for distribution in pinned:
        for wanted in map(Requirement, distribution.requires or ()):
            pin = PINS.get(canonicalize_name(wanted.name))
            if pin and (wanted.marker is None or wanted.marker.evaluate({"extra": ""})):
                assert wanted.specifier.contains(pin, prereleases=True), (distribution.name, wanted)


def test_every_extra_has_what_shows_that_it_is_there():
    assert {*IMPORTS} == {*EXTRAS}
    assert {*REFUSED.values(), *FOLLOWING} <= {*EXTRAS}


def test_what_the_core_refuses_must_run_with_its_extra():
    assert enabled("maps")[:2] == [*ENABLED["maps"], "verify kept"]
    for command, extra in REFUSED.items():
        assert command in enabled(extra) or extra in ("web", "hf")  # which would stay, or ask
    every = enabled("all")
    assert {*every} >= {words for name in EXTRAS for words in enabled(name)}
    outs = [words.partition("--out ")[2].split()[0] for words in every if "--out" in words]
    assert len(outs) == len({*outs})  # with "all" each has a folder of its own


def test_the_image_copies_what_the_package_is_built_from():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = {name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]}
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line[0] == "!"}
    assert copied == kept and all((ROOT / name).exists() for name in copied)
    assert {"pyproject.toml", "src", PROJECT["readme"], "LICENSE", "constraints.txt"} <= copied
    (extras,) = (line.partition("=")[2] for line in lines if line.startswith("ARG EXTRAS="))
    assert {*extras.split(",")} <= {*EXTRAS}


@pytest.mark.parametrize("file", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda f: f.stem)
def test_files_of_a_public_host_name_what_there_is(file):
    text = file.read_text()
    assert yaml.safe_load(text)
    assert {*re.findall(r"\bmake ([a-z-]+)", text)} <= MAKE
    for name in re.findall(r"(?<![\w/])\.ci/\w+", text):
        assert (ROOT / name).is_file()


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"] and citation["license"] == PROJECT["license"]
    assert f"version = {{{PROJECT['version']}}}" in (ROOT / "docs/cite.md").read_text()
