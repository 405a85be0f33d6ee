"""`chiaroscuro what-if` as a user meets it: what it prints, and how it fails."""

import json

import pytest
import torch
from typer.testing import CliRunner

from chiaroscuro import Classifier, WhatIf, save_classifier
from chiaroscuro.cli import app
from chiaroscuro.models.folder import basic_cnn
from tests.pictures import picture


@pytest.fixture
def model(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier = Classifier(basic_cnn(3), size=32, labels=["cat", "dog", "owl"])
    options = {"architecture": "basic-cnn", "arguments": {"classes": 3}}
    return str(save_classifier(classifier, tmp_path / "net", **options))


@pytest.fixture
def photo(tmp_path):
    picture(0, side=40).save(tmp_path / "tower.png")
    return str(tmp_path / "tower.png")


def run(*words):
    return CliRunner().invoke(app, ["what-if", *words])


def test_it_prints_predicted_and_actual_change(photo, model, tmp_path):
    done = run(photo, "--model", model, "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    folder = tmp_path / "out" / "tower-net-active-0.05-black"
    result = WhatIf.load(folder)
    assert lines[0] == f"tower.png: {result.changed.sum()} of 1,024 pixels changed"
    assert f"changes by {result.predicted:+.2f}; it changes in the" in lines[1]
    assert lines[1].endswith(f"direction, by {result.actual:+.2f}.")
    assert any(line.startswith(f"before: {result.before[0].label} ") for line in lines)
    assert any(line.startswith(f"after: {result.after[0].label} ") for line in lines)
    assert lines[-1] == f"page: {folder / 'index.html'}"


def test_a_method_is_part_of_the_result_and_of_its_name(photo, model, tmp_path):
    words = ["--map", "positive", "--method", "smoothgrad", "--points", "3", "--sigma", "0.1"]
    done = run(photo, "--model", model, "--out", str(tmp_path / "out"), *words)
    assert done.exit_code == 0, done.stderr
    folder = tmp_path / "out" / "tower-net-smoothgrad-positive-0.05-black"
    assert WhatIf.load(folder).choices.method.name == "smoothgrad"
    assert run(photo, "--model", model, "--out", str(tmp_path / "out")).exit_code == 0


def test_choices_reach_the_result_and_json_is_all_that_is_printed(photo, model, tmp_path):
    words = ["--map", "random", "--fraction", "0.2", "--fill", "-0.1", "--target", "owl"]
    words += ["--rivals", "top:1", "--tolerance", "0.5", "--seed", "7", "--fit", "pad", "--json"]
    done = run(photo, "--model", model, "--out", str(tmp_path / "out"), *words)
    about = json.loads(done.stdout)
    assert about["folder"] == str(tmp_path / "out" / "tower-net-owl-random-0.2-darker-0.1")
    assert about["target"]["label"] == "owl"
    chosen = {k: about["choices"][k] for k in ("map", "fraction", "fill", "rivals", "seed")}
    assert chosen == {
        "map": "random", "fraction": 0.2, "fill": "darker:0.1", "rivals": "top:1", "seed": 7,
    }  # fmt: skip
    assert (about["choices"]["tolerance"], about["choices"]["fit"]) == (0.5, "pad")
    assert about["selected"] == 205


def test_a_second_time_needs_force(photo, model, tmp_path):
    words = [photo, "--model", model, "--out", str(tmp_path / "out"), "-q"]
    done = run(*words)
    assert done.exit_code == 0 and done.stdout == ""
    refused = run(*words)
    assert refused.exit_code == 1 and "exists already" in str(refused.exception)
    assert run(*words, "--force").exit_code == 0
    for other in (["--fill", "white"], ["--target", "dog"], ["--target", "owl"]):
        assert run(*words, *other).exit_code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.jpg"], "nowhere.jpg"),
        (["PHOTO", "--map", "winner"], "unknown map 'winner'"),
        (["PHOTO", "--fill", "gray"], "unknown fill 'gray'"),
        (["PHOTO", "--fraction", "2"], "fraction is 2.0"),
        (["PHOTO", "--target", "emu"], "unknown class 'emu'"),
        (["PHOTO", "--rivals", "some"], "rivals are classes, or all, top:N"),
        (["PHOTO", "--fit", "fill"], "unknown fit 'fill'"),
        (["PHOTO", "--model", "nothing"], "unknown model 'nothing'"),
        (["PHOTO", "--device", "cuda:99"], "device 'cuda:99' cannot be used here"),
    ],
)
def test_errors_are_one_line(words, message, photo, model, tmp_path, refused):
    given = [photo if word == "PHOTO" else word for word in words]
    named = [] if "--model" in words else ["--model", model]
    assert message in refused("what-if", *given, *named, out=tmp_path / "out")
