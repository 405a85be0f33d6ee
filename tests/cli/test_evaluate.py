"""`chiaroscuro evaluate` as a user meets it: what it prints, and how it fails."""

import json
import subprocess
import sys

import pytest
import torch
from typer.testing import CliRunner

import chiaroscuro.report.evaluation as report
from chiaroscuro import Classifier, save_classifier
from chiaroscuro.cli import app
from chiaroscuro.models.folder import basic_cnn
from chiaroscuro.results import facts_of, load
from tests.pictures import BROKEN, class_rows, write_parquet

CLASSES = ["cat", "dog", "owl"]


@pytest.fixture
def model(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier = Classifier(basic_cnn(3), size=32, labels=CLASSES)
    options = {"architecture": "basic-cnn", "arguments": {"classes": 3}}
    return str(save_classifier(classifier, tmp_path / "net", **options))


@pytest.fixture
def data(tmp_path):
    rows = class_rows(3, 3, side=32)
    rows[4] = (BROKEN, 1)
    write_parquet(tmp_path / "data" / "test.parquet", rows, CLASSES)
    return str(tmp_path / "data")


@pytest.fixture(autouse=True)
def without_pages(monkeypatch):
    monkeypatch.setattr(report, "write", lambda _, folder: (folder / "index.html").write_text(""))


def run(*words):
    return CliRunner().invoke(app, ["evaluate", *words])


def test_it_prints_images_accuracy_areas_and_the_page(data, model, tmp_path):
    done = run(data, "--model", model, "--out", str(tmp_path / "run"))
    assert done.exit_code == 3, done.stderr  # one image is broken
    first, *areas, won, left_out, page = (
        line for line in done.stdout.splitlines() if not line.startswith("warning: under ")
    )
    assert left_out == "left out, 1: not a picture in a format that is read"
    assert first.startswith(f"8 images of {data}, test, 1 left out; accuracy 0.")
    assert [line.split(":")[0] for line in areas] == [
        "area, paper, black", "area, paper, white", "area, matched, black", "area, matched, white",
        "relevance gain, black", "relevance gain, white",
    ]  # fmt: skip
    assert won.startswith("Under black-deletion, no map wins")
    assert "warning: under black, not significantly different from a random order" in done.stdout
    assert "random 0." in areas[2] and "inverted" not in areas[2]
    assert page == f"page: {tmp_path / 'run' / 'index.html'}"


def test_the_first_image_that_cannot_be_used_may_end_it(data, model, tmp_path):
    words = (data, "--model", model, "--out", str(tmp_path / "run"), "--batch", "3")
    done = run(*words, "--strict")
    assert "test#4: not a picture" in str(done.exception) and "\n" not in str(done.exception)
    assert len([*(tmp_path / "run" / "parts").glob("0*.json")]) == 2  # what is done is kept
    assert run(*words, "--resume").exit_code == 3


def test_json_is_the_result_and_choices_reach_it(data, model, tmp_path):
    words = ["--map", "signed", "--fill", "-0.2", "--protocol", "matched", "--limit", "4"]
    words += ["--seed", "3", "--batch", "2", "--threads", "1", "--rivals", "top:1", "--json"]
    done = run(data, "--model", model, "--out", str(tmp_path / "run"), *words)
    found = json.loads(done.stdout)
    assert found == json.loads(json.dumps(facts_of(load(tmp_path / "run"))))
    chosen = found["settings"]
    assert (chosen["maps"], chosen["fills"], chosen["protocols"]) == (
        ["signed"], ["darker:0.2"], ["matched"],
    )  # fmt: skip
    assert (chosen["limit"], chosen["seed"], chosen["batch"], chosen["rivals"]) == (
        4,
        3,
        2,
        "top:1",
    )


def test_workers_and_another_metric(data, model, tmp_path, quick_workers):
    words = ["--metric", "sharpness", "--batch", "4", "--threads", "1", "--workers", "2"]
    done = run(data, "--model", model, *words, "--out", str(tmp_path / "run"))
    assert done.exit_code == 3, done.stderr  # one image is broken
    assert "sharpness, gini: active 0." in done.stdout
    assert load(tmp_path / "run").settings.threads == 1


def test_what_ifs_are_asked_for_and_told(data, model, tmp_path):
    done = run(data, "--model", model, "--out", str(tmp_path / "run"), "--what-if", "0.1")
    told = done.stdout.splitlines()[-4:-2]
    assert told[0].startswith("Black-deletion of the top 10 %: the target logit moves in")
    assert told[1].startswith("White-deletion of the top 10 %")
    refused = run(data, "--model", model, "--out", str(tmp_path / "two"), "--what-if", "5")
    assert "what_if is 5.0: expected a number in (0, 1)" in str(refused.exception)


def test_interrupted_it_says_how_to_go_on(data, model, tmp_path, monkeypatch):
    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("chiaroscuro.evaluation.evaluate", interrupted)
    done = run(data, "--model", model, "--out", str(tmp_path / "run"))
    assert done.exit_code == 130
    assert done.stderr.strip() == "interrupted: resume with the same command and --resume"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "data 'nowhere': no such folder or file"),
        (["DATA", "--map", "winner"], "unknown map 'winner'"),
        (["DATA", "--fill", "gray"], "unknown fill 'gray'"),
        (["DATA", "--protocol", "papr"], "unknown protocol 'papr': did you mean paper"),
        (["DATA", "--split", "tset"], "has no split 'tset'"),
        (["DATA", "--rivals", "cat,emu"], "unknown class 'emu'"),
        (["DATA", "--model", "nothing"], "unknown model 'nothing'"),
        (["DATA", "--device", "cuda:99"], "device 'cuda:99' cannot be used here"),
    ],
)
def test_errors_are_one_line(words, message, data, model, tmp_path, refused):
    given = [data if word == "DATA" else word for word in words]
    named = [] if "--model" in words else ["--model", model]
    assert message in refused("evaluate", *given, *named, out=tmp_path / "run")


def test_a_second_run_needs_resume_or_force(data, model, tmp_path):
    words = [data, "--model", model, "--out", str(tmp_path / "run"), "-q"]
    assert run(*words).exit_code == 3
    refused = run(*words)
    assert refused.exit_code == 1 and "--resume" in str(refused.exception)
    assert run(*words, "--resume").exit_code == 3
    assert run(*words, "--force", "--seed", "1").exit_code == 3


def test_without_pyarrow_the_extra_is_named():
    """Asked of a fresh process, where nothing has imported it yet."""
    code = (
        "import sys; sys.modules['pyarrow'] = None; sys.argv = ['chiaroscuro', 'evaluate', '.']; "
        "from chiaroscuro.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False
    )
    said = "evaluating needs pyarrow, which is not installed: run pip install 'chiaroscuro[data]'"
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"chiaroscuro: {said}\n"
