"""Every command with every name that its help lists: methods, maps, fills, rivals and the rest."""

import json
from dataclasses import fields

import pytest
from typer.testing import CliRunner

from chiaroscuro.choices import METHODS, RIVAL_WORDS
from chiaroscuro.cli import app
from chiaroscuro.cli.commands import COMMANDS
from chiaroscuro.cli.options import flags
from chiaroscuro.settings import option_of
from tests.pictures import class_rows, picture, write_parquet

CLASSES = ["crane", "cat, tabby", "dog"]
MODEL = """
import torch
from chiaroscuro import Classifier

def make():
    net = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(192, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)
    )
    with torch.no_grad():
        for part in net.parameters():
            part.copy_(torch.sin(torch.arange(part.numel()) * 1.7).view_as(part) * 0.3)
    return Classifier(net, size=8, labels=["crane", "cat, tabby", "dog"])

other = make
"""
OTHERS = {
    "rivals": ["all", "top:1", "top:99", "runner-up", "mean", "mean:2", "softmax", "softmax:1",
               "1,dog", "1=0.7,dog=0.3", "cat, tabby;0"],
    "fill": ["black", "white", "mean", "blur", "blur:0.1", "noise", "brighter:0.1", "-0.1", "+0.1"],
    "cells": ["1", "2", "superpixels:2"],
}  # fmt: skip
OTHERS["change"] = OTHERS["fill"]
"""Words of fields whose help lists a grammar; `test_the_words_are_all_of_them` keeps it whole."""
RUNNERS = {command.name: command for command in COMMANDS}
TRIED = ("explain", "what-if", "flip", "compare", "evaluate", "check", "localize")


def words_of(command):
    """(option, word) for every word that a command's help lists."""
    for cls in RUNNERS[command].groups:
        for field in fields(cls):
            if option_of(field).flag == "":
                continue
            flag = flags(field)[0].split("/")[0]
            listed = option_of(field).names or OTHERS.get(flag[2:], ())
            yield from ((flag, word) for word in listed)


EVERY = [(command, *pair) for command in TRIED for pair in words_of(command)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A tiny network, a photo, a set of three images and boxes."""
    folder = tmp_path_factory.mktemp("words")
    picture(0, side=10).save(folder / "photo.png")
    write_parquet(folder / "data" / "test.parquet", class_rows(3, 1, side=8), CLASSES)
    (folder / "boxes.json").write_text(json.dumps({f"test#{n}": [[2, 2, 6, 6]] for n in range(3)}))
    (folder / "net.py").write_text(MODEL)
    return folder


@pytest.fixture(autouse=True)
def without_figures(monkeypatch):
    """Stand-ins for pages and figures, whose drawing takes most of the time."""
    for name in ("explanation.save_sheet", "what_if.save_sheet", "smallest.save_sheet",
                 "evaluation.write",
                 "checks.write", "checks.write_localization"):  # fmt: skip
        monkeypatch.setattr(f"chiaroscuro.report.{name}", lambda *_: None)


def line(command, place):
    """A short run of a command."""
    model = ["--model", f"{place / 'net.py'}:make"]
    small = ["--resamples", "5", "--batch", "3", "--map", "active"]
    return [command] + {
        "explain": [place / "photo.png", *model, "--map", "active"],
        "what-if": [place / "photo.png", *model],
        "flip": [place / "photo.png", *model, "--budget", "2"],
        "compare": [place / "photo.png", *model, "--model", f"{place / 'net.py'}:other",
                    "--map", "active", "--fill", "black"],
        "evaluate": [place / "data", *model, *small, "--flips", "5", "--fill", "black"],
        "check": [place / "data", *model, *small, "--depths", "1", "--draws", "1", "--orders", "2",
                  "--no-reference"],
        "localize": [place / "data", *model, *small, "--regions", place / "boxes.json"],
    }[command]  # fmt: skip


@pytest.mark.parametrize(("command", "flag", "word"), EVERY)
def test_every_listed_word_works(command, flag, word, place, tmp_path):
    words = [*line(command, place), flag, word, "--out", tmp_path / "out", "--json"]
    if flag == "--method" and METHODS[word].background:
        words += ["--background", place / "photo.png", "--points", "2"]
    elif flag == "--method" and METHODS[word].points:
        words += ["--points", "2"]
    elif flag == "--baseline":
        words += ["--method", "integrated-gradients", "--points", "2"]
    done = CliRunner().invoke(app, list(map(str, words)))
    assert done.exit_code == 0, (done.exception, done.stderr)
    assert json.loads(done.stdout.splitlines()[-1])


def test_the_words_are_all_of_them():
    tried = {word.partition(":")[0] for word in OTHERS["rivals"]}
    assert {word.partition(":")[0].partition("[")[0] for word in RIVAL_WORDS.split(", ")} <= tried
    for command in (name for name in TRIED if name != "flip"):
        shown = {flag for name, flag, _ in EVERY if name == command}
        assert {"--rivals", "--method", "--map"} <= shown, command
    from chiaroscuro.choices import FILLS

    tried = {word.partition(":")[0] for word in OTHERS["fill"]}
    assert set(FILLS) - tried <= {"darker"}  # said as -0.1
