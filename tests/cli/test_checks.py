"""`check`, `localize` and `compare` as a user meets them: what they print, and how they fail."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from chiaroscuro import Classifier, save_classifier
from chiaroscuro.cli import app
from chiaroscuro.models.folder import basic_cnn
from chiaroscuro.report.checks import WORDS
from tests.pictures import class_rows, write_parquet

CLASSES = ["cat", "dog", "owl"]


def saved(folder, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        classifier = Classifier(basic_cnn(3), size=32, labels=CLASSES)
    options = {"architecture": "basic-cnn", "arguments": {"classes": 3}}
    return str(save_classifier(classifier, folder, **options))


@pytest.fixture
def model(tmp_path):
    return saved(tmp_path / "net", 0)


@pytest.fixture
def data(tmp_path):
    write_parquet(tmp_path / "data" / "test.parquet", class_rows(3, 1, side=32), CLASSES)
    return str(tmp_path / "data")


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_without_pyarrow_the_extra_is_named():
    """Asked of a fresh process, where nothing has imported it yet."""
    code = """
import sys
sys.modules["pyarrow"] = None
from chiaroscuro.cli import main
for words in (["check", "."], ["localize", ".", "--regions", "y"]):
    sys.argv = ["chiaroscuro", *words]
    try:
        main()
    except SystemExit as left:
        print(left.code)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.stdout.split() == ["1", "1"]
    said = "chiaroscuro: evaluating needs pyarrow, which is not installed: "
    assert done.stderr.splitlines() == [f"{said}run pip install 'chiaroscuro[data]'"] * 2


@pytest.mark.parametrize("command", ["check", "localize"])
def test_interrupted_it_says_how_to_resume(command, data, model, tmp_path, monkeypatch):
    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"chiaroscuro.checks.{command}", interrupted)
    regions = [] if command == "check" else ["--regions", "boxes.csv"]
    done = run(command, data, *regions, "--model", model, "--out", tmp_path / "out")
    assert done.exit_code == 130
    assert done.stderr.strip() == "interrupted: resume with the same command and --resume"
    assert not (tmp_path / "out").exists()


CHECK = ("--map", "original", "--map", "active", "--depths", 2, "--draws", 1, "--no-reference")


def test_check_prints_a_verdict_a_map_and_evaluate_shows_it(data, model, tmp_path):
    words = [data, "--model", model, "--out", tmp_path / "check", *CHECK]
    done = run("check", *words)
    assert done.exit_code == 0, done.stderr
    first, *verdicts, page = done.stdout.splitlines()
    assert first == f"3 images of {data}, test, 2 steps from the output to the input"
    assert [line.split(":")[0] for line in verdicts] == ["gradient, original", "gradient, active"]
    assert page == f"page: {tmp_path / 'check' / 'index.html'}"
    refused = run("check", *words)
    assert refused.exit_code == 1 and "--resume" in str(refused.exception)
    assert run("check", *words, "--resume").stdout == done.stdout
    again = json.loads(run("check", *words, "--force", "--json").stdout)
    said = WORDS["weights"][again["maps"][0]["verdict"]["weights"]]
    run("evaluate", data, "--model", model, "--out", tmp_path / "run", "--check",
        tmp_path / "check", "-q")  # fmt: skip
    report = (tmp_path / "run" / "index.html").read_text()
    assert said in report
    assert 'href="../check/index.html"' in report
    other = run("evaluate", data, "--model", model, "--out", tmp_path / "run2", "--check", data)
    assert other.exit_code == 1 and not (tmp_path / "run2").exists()


def test_localize_prints_both_measures_beside_chance(data, model, tmp_path):
    boxes = {f"test#{n}": [[8, 8, 24, 24]] for n in range(3)}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    words = [data, "--regions", tmp_path / "boxes.json", "--model", model, "--map", "active"]
    done = run("localize", *words, "--out", tmp_path / "found", "--smoothing", "0.05")
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"3 images of {data}, test"
    assert lines[1].startswith("active: hit ") and "energy 0." in lines[1]
    assert lines[2].startswith("random order: hit 0.250 [0.250, 0.250], energy 0.250")
    assert lines[2].endswith("middle pixel: hit 1.000 [1.000, 1.000]")
    found = json.loads(run("localize", *words, "--out", tmp_path / "json", "--json").stdout)
    assert found["maps"][0]["center_hit"]["value"] == 1


def test_compare_prints_what_each_says(model, tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (40, 32, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "photo.png")
    other = saved(tmp_path / "other", 1)
    words = [tmp_path / "photo.png", "--model", model, "--model", other, "--map", "positive"]
    done = run("compare", *words, "--out", tmp_path / "both")
    assert done.exit_code == 0, done.stderr
    one, two, pair, page = done.stdout.splitlines()
    assert one.startswith("1 ") and two.startswith("2 ") and "target class: " in two
    assert " against 1 " in pair and "positive " in pair
    assert page == f"page: {tmp_path / 'both' / 'index.html'}"
    told = json.loads(run("compare", *words, "--out", tmp_path / "json", "--json").stdout)
    assert len(told["explanations"]) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["check", "nowhere"], "data 'nowhere': no such folder or file"),
        (["check", "DATA", "--method", "gradiant"], "unknown method 'gradiant'"),
        (["check", "DATA", "--rivals", "cat,emu"], "unknown class 'emu'"),
        (["localize", "DATA", "--regions", "b.txt"], "give a .csv, .json or .parquet file"),
        (["localize", "DATA", "--regions", "b.csv", "--target", "best"], "unknown target 'best'"),
        (["compare", "photo.png", "--model", "MODEL"], "give --model at least twice"),
        (["compare", "photo.png", "--model", "MODEL", "--map", "winner"], "unknown map 'winner'"),
    ],
)
def test_errors_are_one_line(words, message, data, model, tmp_path, refused):
    given = [data if word == "DATA" else model if word == "MODEL" else word for word in words]
    named = [] if words[0] == "compare" else ["--model", model]
    assert message in refused(*given, *named, out=tmp_path / "out")
