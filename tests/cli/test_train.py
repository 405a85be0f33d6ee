"""`chiaroscuro train`: what it says and writes, and what it refuses."""

import json
import re
import sys

import pytest
from typer.testing import CliRunner

from chiaroscuro.catalog import ARCHITECTURES, BASIC
from chiaroscuro.cli import app, main
from chiaroscuro.training.files import read_log
from chiaroscuro.training.run import BODIES
from tests.trainings import entries, stopped, write_photos


@pytest.fixture
def photos(tmp_path):
    return write_photos(tmp_path / "photos")


@pytest.fixture
def call(monkeypatch, capsys, tmp_path, photos):
    """Run `chiaroscuro train` on the photos: (exit status, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def words(*more, data="photos"):
        fixed = ["train", data, "--out", "net", "--epochs", "2", "--batch", "8"]
        monkeypatch.setattr(sys, "argv", ["chiaroscuro", *fixed, *more])
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        return left.value.code or 0, said.out, said.err

    return words


def test_the_command_trains_and_says_how_well(call, tmp_path):
    code, out, err = call()
    assert code == 0
    last = read_log(tmp_path / "net" / "log.csv")[-1]
    assert out.startswith(f"epoch 2: loss {last.loss:.4f}, train accuracy ")
    assert f"test accuracy {last.test_accuracy:.4f}" in out
    assert out.endswith("-> net\n")
    assert [line.split(":")[0] for line in err.splitlines()] == ["epoch 1", "epoch 2"]
    assert call("--force", "--quiet") == (0, "", "")
    code, out, _ = call("--force", "--json")
    told = json.loads(out)
    assert (code, told["epoch"], told["folder"]) == (0, 2, "net")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--architecture", "resnet19"], "unknown architecture 'resnet19': did you mean resnet18"),
        (["--architecture", "timm:nothing"], "unknown architecture 'timm:nothing': known are "),
        (["--precision", "8"], "unknown precision '8': known are 32, bf16, 16"),
        (["--learning-rate", "0"], "learning_rate is 0.0: expected a number above 0"),
        (["--pretrained"], "basic-cnn has no pre-trained weights: leave --pretrained out"),
        (["--freeze"], "basic-cnn has no body to freeze"),
        (["--architecture", "resnet18", "--cache-features"], "frozen body only: add --freeze"),
        (["nowhere"], "data 'nowhere': no such folder or file; known names are cifar10"),
        (["photos/train/ant"], "photos/train/ant: its images have no classes to learn"),
        (["--split", "night"], "photos has no split 'night': known are test, train"),
        (["--device", "toaster"], "device 'toaster' cannot be used here: "),
    ],
)
def test_a_wrong_word_is_one_line_and_leaves_nothing(call, tmp_path, words, message):
    data = [] if words[0].startswith("--") else words
    code, out, err = call(*(() if data else words), data=(data or ["photos"])[0])
    assert (code, out) == (1, "")
    assert err.startswith("chiaroscuro: ")
    assert err.count("\n") == 1, err
    assert message in err
    assert entries(tmp_path) == ["photos"]


def test_an_interrupted_command_says_how_to_go_on(call, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        watcher = stopped("epoch")
        patch.setattr("chiaroscuro.cli.actions.training_watcher", lambda *_, **__: watcher)
        code, _, err = call("--quiet")
    assert (code, err) == (130, "interrupted: resume with the same command and --resume\n")
    code, out, err = call("--resume", "--seed", "1")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "another configuration (settings.seed was 42, now 1)" in err
    assert call("--resume", "--quiet") == (0, "", "")
    assert len(read_log(tmp_path / "net" / "log.csv")) == 2


def test_the_help_names_every_architecture():
    shown = CliRunner().invoke(app, ["train", "--help"]).stdout
    words = re.sub(r"[\s│]", "", shown)
    assert ",".join((*ARCHITECTURES, "timm:NAME", "torchvision:NAME")) in words
    assert (*BASIC, *BODIES) == ARCHITECTURES
