"""What Tab completes, asked through the environment variables that bash's script sets."""

import json
import os
import subprocess
import sys

import pytest

from chiaroscuro import catalog, choices
from chiaroscuro.classifier.libraries import imagenet_labels
from chiaroscuro.models.loading import PACKAGED_WEIGHTS, load_classifier

PACKAGED = ["efficientnet-lite0", "cifar10-cnn", "efficientnet-lite1", "efficientnet-lite2"]
ASK = "from chiaroscuro.cli import main; main()"
HEAVY = """
import atexit, json, os, sys
heavy = {"torch", "timm", "numpy", "PIL"}
atexit.register(lambda: print(json.dumps([*heavy & {*sys.modules}]), file=sys.stderr))
from chiaroscuro.cli import main
main()
"""


def complete(line, code=ASK):
    """The words that follow a line that ends where Tab was pressed; what was imported."""
    words = line.split(" ")
    asked = {
        "_CHIAROSCURO_COMPLETE": "complete_bash", "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1), "COMP_LINE": line,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.argv = ['chiaroscuro']\n{code}"],
        env={**os.environ, **asked}, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    return done.stdout.removesuffix("\n").split("\n"), done.stderr


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("explain x.jpg --map act", ["active", "active-printed"]),
        ("explain x.jpg --model ", [*PACKAGED, "torchvision:", "timm:", "hf:", "clip:"]),
        ("explain x.jpg --method smooth", ["smoothgrad"]),
        ("explain x.jpg --score ", [*choices.SCORES]),
        ("explain x.jpg --rivals runner", ["runner-up"]),
        ("explain x.jpg --model cifar10-cnn --target d", ["deer", "dog"]),
        ("explain x.jpg --target d --model cifar10-cnn --contrast c", ["cat"]),
        ("explain x.jpg --target tiger_", ["tiger_shark", "tiger_cat", "tiger_beetle"]),
        ("what-if x.jpg --fill b", ["black", "blur", "brighter:0.1"]),
        ("compare x.jpg --model cifar10-cnn --model cif", ["cifar10-cnn"]),
        ("compare x.jpg --model cifar10-cnn --target fr", ["frog"]),
        ("evaluate x --protocol m", ["matched"]),
        ("explain x --model clip:x --classes cat dog --target ", ["predicted", "cat", "dog"]),
        ("explain x --model clip:x --classes cat dog --contrast do", ["dog"]),
        ("train x --architecture res", ["resnet18"]),
        ("explain x.jpg --out ", [""]),
    ],
)  # fmt: skip
def test_values_complete(line, expected):
    assert complete(f"chiaroscuro {line}")[0] == expected


def test_completion_imports_nothing_heavy():
    said, loaded = complete("chiaroscuro explain x.jpg --target goldf", HEAVY)
    assert sorted(said) == ["goldfinch", "goldfish"]
    assert json.loads(loaded.splitlines()[-1]) == []


def test_every_offered_class_is_a_class_of_its_network(tmp_path):
    classifier = load_classifier("cifar10-cnn")
    names = catalog.class_names("cifar10-cnn")
    assert [classifier.class_index(name) for name in names] == [*range(10)]
    assert catalog.class_names(str(PACKAGED_WEIGHTS / "cifar10-cnn")) == names
    lite = load_classifier("efficientnet-lite0")
    names = catalog.class_names("efficientnet-lite0")
    assert len({lite.class_index(name) for name in names}) > 950
    assert {name.replace("_", " ") for name in names} <= {
        part.strip() for label in imagenet_labels() for part in label.split(",")
    }
    assert catalog.class_names(str(tmp_path)) == catalog.class_names("timm:vit") == []
