"""Notebooks run by Jupyter, with stored outputs of the same kinds; the gallery's commands."""

import base64
import re
import shlex
from pathlib import Path

import nbformat
import pytest
from typer.testing import CliRunner

from chiaroscuro.cli import app
from tests.test_documents import PRIVATE_WORDS
from tools import gallery
from tools.notebooks import TUTORIALS, code_cells, executed, kernel

NOTEBOOKS = sorted(TUTORIALS.glob("*.ipynb"))
SMALL = """
import torch
from chiaroscuro import Classifier, load_classifier

def factory():
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(3, 4, 8, 8), torch.nn.Flatten(), torch.nn.Linear(64, 1000)
    labels = load_classifier("efficientnet-lite0").labels
    return Classifier(torch.nn.Sequential(*layers), size=32, labels=labels)
"""


@pytest.fixture(scope="module")
def one_kernel():
    with kernel() as manager:
        yield manager


def kinds(notebook):
    """What each cell gave: PNG and JPEG are one kind, since a picture is stored as the smaller."""
    return [
        [
            (
                output.output_type,
                sorted({key.replace("jpeg", "png") for key in output.get("data", ())}),
            )
            for output in cell.outputs
        ]
        for cell in code_cells(notebook)
    ]


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_tutorial_runs_and_has_its_outputs(file, one_kernel, tmp_path):
    stored = nbformat.read(file, as_version=4)
    assert kinds(stored) == kinds(executed(file, one_kernel, tmp_path))
    assert any(any(cell) for cell in kinds(stored))
    assert [cell.execution_count for cell in code_cells(stored)] == list(
        range(1, len(code_cells(stored)) + 1)
    )


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_tutorial_is_small_and_its_words_and_links_are_good(file):
    assert file.stat().st_size < 600_000
    notebook = nbformat.read(file, as_version=4)
    for cell in code_cells(notebook):
        for output in cell.outputs:
            for kind, data in output.get("data", {}).items():
                if kind.startswith("image/"):
                    assert len(base64.b64decode(data)) < 100_000
            assert not re.search(r"/(tmp|home|root|Users)/", str(output))
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert not re.findall(PRIVATE_WORDS, text, re.IGNORECASE)
    links = re.findall(r"\]\(([^)#\s]+)", text)
    assert [link for link in links if not (TUTORIALS / link).exists()] == []


def test_the_gallery_has_a_dozen_small_pictures_and_says_what_not_to_conclude():
    assert len(gallery.entries()) >= 12
    for entry in gallery.entries():
        assert entry.picture.stat().st_size < 150_000, entry.picture
        section = (
            gallery.GALLERY.read_text().partition(f"## {entry.title}\n")[2].partition("\n## ")[0]
        )
        assert entry.commands
        assert "**Seen**: " in section
        assert "**Not to conclude**: " in section
    assert {entry.picture for entry in gallery.entries()} == set(
        (gallery.DOCS / "images" / "gallery").iterdir()
    )


def test_the_commands_of_the_gallery_run(tmp_path, monkeypatch):
    """With a small network of the same classes in place of the default one."""
    gallery.prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("small.py").write_text(SMALL)
    commands = [command for entry in gallery.entries() for command in entry.commands]
    for count, command in enumerate(commands):
        words = shlex.split(command)[1:]
        own = [] if "--model" in words else ["--model", "small.py:factory"]
        done = CliRunner().invoke(app, [*words, *own, "--out", f"out-{count}"])
        assert done.exit_code == 0, f"{command}: {done.output} {done.stderr}"
