"""The Python reference: every public name is in it, and docstrings become tables."""

import re
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import griffe
import pytest

import chiaroscuro
from chiaroscuro.cli.commands import COMMANDS
from tools import licences
from tools.doc_sections import Sections
from tools.settings_reference import KINDS, reference

PAGES = {
    page.stem: page.read_text()
    for page in (Path(__file__).parents[1] / "docs" / "reference").glob("*.md")
}
DESCRIBED = [
    name for text in PAGES.values() for name in re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)
]

HIDDEN = re.findall(
    r"^::: ([\w.]+)\n    options:\n      members: false",
    PAGES["engine"] + PAGES["models"],
    re.MULTILINE,
)


def test_every_public_name_is_described_once():
    tables = re.findall(r"^\| `(chiaroscuro\.\w+)` \|", PAGES["engine"], re.MULTILINE)
    headings = re.findall(r"^## (chiaroscuro\.\w+) ", PAGES["settings"], re.MULTILINE)
    public = [n for n in [*DESCRIBED, *tables, *headings] if n.count(".") == 1]
    public.remove("chiaroscuro.errors")  # a module: the tree
    assert sorted(public) == sorted(f"chiaroscuro.{name}" for name in chiaroscuro.__all__)
    assert len(DESCRIBED) == len(set(DESCRIBED)) > 50


def test_the_first_page_links_to_every_public_name():
    linked = set(re.findall(r"\]\[chiaroscuro\.(\w+)\]", PAGES["api"]))
    rest = {name for name in chiaroscuro.__all__ if name.endswith(("MAPS", "Error"))}
    assert linked | rest == set(chiaroscuro.__all__)


def test_the_page_of_settings_is_fresh():
    made = "python -m tools.settings_reference > docs/reference/settings.md"
    assert PAGES["settings"] == reference(), f"stale: {made}"
    taken = {group for command in COMMANDS for group in command.groups}
    assert {group for group in taken if group.__module__ == "chiaroscuro.settings"} <= {*KINDS}


@pytest.fixture(scope="module")
def package():
    extensions = griffe.Extensions(Sections())
    paths = [Path(chiaroscuro.__file__).parents[1]]
    return griffe.load("chiaroscuro", search_paths=paths, extensions=extensions)


def sections(package, name):
    parsed = package[name].docstring.parse("google")
    return {each.kind.value: each.value for each in parsed if each.kind.value != "text"}


def test_a_docstring_becomes_tables(package):
    found = sections(package, "gradients.engine.class_gradients")
    rows = {each.name: each for each in found["parameters"]}
    assert list(rows)[:4] == ["classifier", "pixels", "target", "rivals"]
    assert rows["rivals"].description.startswith('"all", "top:N" (by logit, per image)')
    assert (str(rows["memory_budget"].annotation), rows["argmax"].default) == (
        "int | None",
        "False",
    )
    assert str(found["returns"][0].annotation) == "ClassGradients | tuple[ClassGradients, ...]"
    assert [(str(e.annotation), e.description) for e in found["raises"]][1:3] == [
        ("ChoiceError", "A name or value is outside what is known or allowed."),
        ("InputError", "No rival left."),
    ]
    assert "torch.Size([2, 3, 2, 2])" in found["examples"][0][1]


def test_constants_and_settings_are_resolved(package):
    rows = {e.name: e for e in sections(package, "explanations.change.what_if")["parameters"]}
    assert rows["fraction"].default == "0.05"
    rows = {e.name: e for e in sections(package, "evaluation.run.evaluate")["parameters"]}
    assert "[`EvaluationSettings`][chiaroscuro.EvaluationSettings]" in rows["**options"].description


@pytest.mark.parametrize("name", DESCRIBED)
def test_every_row_of_a_table_has_a_meaning(package, name):
    what = package[name.removeprefix("chiaroscuro.")]
    what = what.final_target if what.is_alias else what
    if what.is_module:
        return
    hidden = not what.is_class or name in HIDDEN
    own = [] if hidden else [m for n, m in what.members.items() if not n.startswith("_")]
    for each in (what, *[m for m in own if not m.is_alias and m.docstring]):
        for kind, rows in sections(package, each.path.removeprefix("chiaroscuro.")).items():
            for row in rows if kind != "examples" else []:
                row_name = getattr(row, "name", row)
                assert row.description.strip(), f"{each.path}: the docstring has no `{row_name}`"


@pytest.mark.skipif(
    version("torch").partition("+")[0] != licences.pinned()["torch"], reason="another PyTorch"
)
def test_the_list_of_licenses_has_every_package_at_its_pinned_version():
    """Made by `python -m tools.licences > docs/reference/licenses.md`."""
    lines = PAGES["licenses"].splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")][1:]
    versions = {name: version for name, version, *_ in rows}
    assert versions == {name: licences.pinned()[name] for name in versions}
    assert licences.needed().keys() <= versions.keys()
    with suppress(PackageNotFoundError):  # of an extra that is not installed here
        assert "\n".join(lines) == licences.page().strip()
