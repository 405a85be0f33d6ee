"""A tiny network, two photos, and `chiaroscuro` as a user calls it."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from chiaroscuro.cli import main
from chiaroscuro.report import explanation as view
from tests.cli.results import write_spec


def quick_figure(sheet, path):
    Image.new("RGB", (8, 8)).save(path, "PNG")


@pytest.fixture
def quick(monkeypatch):
    """One thread for small tensors, and a stand-in for the figure, which takes most of a second."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(view, "save_sheet", quick_figure)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run(quick, monkeypatch, capsys, tmp_path):
    """Run `chiaroscuro WORDS` through `main`: (exit status, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["chiaroscuro", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        return left.value.code or 0, said.out, said.err

    return call


@pytest.fixture
def refused(monkeypatch, capsys):
    """Run `chiaroscuro WORDS --out OUT`, which must fail with one line and write nothing: it."""

    def call(*words, out):
        monkeypatch.setattr(sys, "argv", ["chiaroscuro", *map(str, words), "--out", str(out)])
        with pytest.raises(SystemExit) as left:
            main()
        assert left.value.code == 1
        told = capsys.readouterr().err.strip()
        assert told.startswith("chiaroscuro: ") and "\n" not in told
        assert not out.exists()
        return told

    return call


@pytest.fixture
def explain(run, tmp_path):
    """Run `chiaroscuro explain` with a tiny network, one map and ./out."""
    spec = write_spec(tmp_path)

    def call(*words, maps=("active",)):
        chosen = [word for name in maps for word in ("--map", name)]
        return run("explain", "--model", spec, "--out", "out", *chosen, *words)

    return call


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed, name in enumerate(("a.png", "b.png")):
        values = np.random.default_rng(seed).integers(0, 256, (10, 14, 3), dtype=np.uint8)
        Image.fromarray(values).save(folder / name)
    return folder
