"""`chiaroscuro flip` as a user meets it: what it prints, and how it fails."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from chiaroscuro import SmallestEdit, load_classifier
from chiaroscuro.cli import app
from tests.pictures import picture


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a photo."""
    folder = tmp_path_factory.mktemp("flip")
    picture(0, side=40).save(folder / "tower.png")
    return folder


def run(place, out, *words):
    line = ["flip", place / "tower.png", "--model", "cifar10-cnn", "--out", out, *words]
    return CliRunner().invoke(app, list(map(str, line)))


def test_it_prints_what_turns_the_prediction(place, tmp_path):
    done = run(place, tmp_path / "out", "--change", "white")
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    folder = tmp_path / "out" / "tower-cifar10-cnn-white"
    result = SmallestEdit.load(folder)
    count = int(result.mask.sum())
    assert lines[0].startswith(f"tower.png: {count} of 1,024 pixels become white")
    assert lines[0].endswith(f": {result.before[0]} → {result.after[0]}.")
    assert "needed" in lines[1] and "Smaller edits may exist" in lines[1]
    assert lines[2].startswith("The search took ")
    assert lines[-1] == f"page: {folder / 'index.html'}"


def test_choices_reach_the_result_and_json_is_all_that_is_printed(place, tmp_path):
    words = ["--change", "-0.3", "--cells", "superpixels:8", "--edits", "2", "--budget", "9"]
    words += ["--seed", "3", "--fit", "pad", "--json"]
    own = load_classifier("cifar10-cnn")
    predicted = int(own(own.preprocess(place / "tower.png", "pad")).argmax())
    goal = own.label((predicted + 1) % 10)
    done = run(place, tmp_path / "out", "--to", goal, *words)
    assert done.exit_code == 0, done.stderr
    about = json.loads(done.stdout)
    assert about["folder"].endswith(f"tower-cifar10-cnn-{goal}-darker-0.3-superpixels-8")
    assert about["choices"] == {
        "change": "darker:0.3", "to": goal, "keep": False, "cells": "superpixels:8", "edits": 2,
        "budget": 9, "fit": "pad", "seed": 3, "region": None, "mask": None, "box": None,
    }  # fmt: skip
    again = run(place, tmp_path / "again", "--to", own.label(predicted), "--fit", "pad")
    assert "predicted already" in str(again.exception)
    assert {"reached", "flipped", "passes"} <= about.keys()


def test_keeping_is_said_so(place, tmp_path):
    done = run(place, tmp_path / "out", "--keep", "--change", "blur", "--cells", "8")
    assert done.exit_code == 0, done.stderr
    assert "the prediction when all others become blurred" in done.stdout
    assert (tmp_path / "out" / "tower-cifar10-cnn-keep-blur-8" / "index.html").exists()


def test_a_second_time_needs_force(place, tmp_path):
    assert run(place, tmp_path / "out", "-q").stdout == ""
    refused = run(place, tmp_path / "out")
    assert refused.exit_code == 1 and "exists already" in str(refused.exception)
    assert run(place, tmp_path / "out", "--force", "-q").exit_code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--change", "gray"], "unknown fill 'gray'"),
        (["--change", "0.1"], "fill '0.1': give +0.1 (brighter) or -0.1 (darker)"),
        (["--to", "emu"], "unknown class 'emu'"),
        (["--cells", "hexagons"], "cells is 'hexagons'"),
        (["--edits", "0"], "edits is 0"),
        (["--keep", "--to", "cat"], "keep and to are given"),
        (["--region", "predicted", "--box", "1"], "choose the part of the photo by one of them"),
    ],
)
def test_errors_are_one_line(words, message, place, tmp_path, refused):
    given = [str(place / "tower.png"), "--model", "cifar10-cnn", *words]
    assert message in refused("flip", *given, out=tmp_path / "out")


@pytest.mark.parametrize("verb", ["flip", "what-if", "compare"])
def test_a_photo_or_a_folder_of_no_use_is_said_before_a_network_is_loaded(
    verb, place, tmp_path, refused, monkeypatch
):
    monkeypatch.setattr("chiaroscuro.load_classifier", None)
    models = ["--model", "cifar10-cnn", *["--model", "efficientnet-lite0"] * (verb == "compare")]
    (tmp_path / "text.jpg").write_text("no picture")
    said = refused(verb, str(tmp_path / "text.jpg"), *models, out=tmp_path / "out")
    assert "text.jpg: not a picture" in said
    said = refused(verb, str(place / "tower.png"), *models, out=Path("/proc/out"))
    assert "/proc/out" in said and "cannot be written" in said
