"""A function of the user's own as a model."""

import os
import sys

import pytest
import torch
from torch import nn

from chiaroscuro import ChoiceError, ModelError, load_classifier
from tests.models.libraries import floats, one_line


def written(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return f"{path}:make"


def test_a_factory_that_returns_a_module(tmp_path):
    spec = written(tmp_path / "own.py", "from torch import nn\ndef make(): return nn.Flatten()\n")
    classifier = load_classifier(spec)
    assert isinstance(classifier.module, nn.Flatten)
    assert (classifier.name, classifier.size, classifier.mean) == (spec, None, None)
    assert classifier.origin == {"architecture": spec}


def test_a_factory_that_returns_a_classifier_keeps_its_choices(tmp_path):
    spec = written(
        tmp_path / "own.py",
        "from torch import nn\nfrom chiaroscuro import Classifier\n"
        "def make():\n"
        "    return Classifier(nn.Flatten(), mean=0.5, size=8, labels=['a'], multi_label=True,\n"
        "                      name='inner', origin={'weights': 'my run 7'})\n",
    )
    classifier = load_classifier(spec)
    assert (classifier.mean, classifier.size) == ((0.5, 0.5, 0.5), (8, 8))
    assert (classifier.labels, classifier.multi_label) == (("a",), True)
    assert classifier.name == spec
    assert classifier.origin == {"architecture": spec, "weights": "my run 7"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "def make(): return 42",
            r"own\.py:make returned a int: expected an nn\.Module or",
        ),
        ("def make(): pass", r"own\.py:make returned a NoneType: expected"),
        ("def other(): pass", r"own\.py has no function 'make'"),
        ("make = 3", r"own\.py has no function 'make'"),
        ("def make():\n    raise KeyError('weights')", r"the factory raised KeyError: 'weights'$"),
        ("def make():\n    raise OSError('a\\nb')", r"the factory raised OSError: a$"),
        ("def make(size): pass", r"the factory raised TypeError: make\(\) missing 1 required"),
        ("import no_such_library", r"own\.py raised ModuleNotFoundError: No module named"),
        ("def make(:", r"own\.py raised SyntaxError: "),
        ("1 / 0", r"own\.py raised ZeroDivisionError: division by zero"),
    ],
)
def test_a_factory_that_fails_says_how_in_one_line(tmp_path, text, message):
    spec = written(tmp_path / "own.py", text + "\n")
    with pytest.raises(ModelError, match=message) as caught:
        load_classifier(spec)
    one_line(caught)


def test_an_error_of_ours_passes_through_a_factory_unchanged(tmp_path):
    spec = written(
        tmp_path / "own.py",
        "from torch import nn\nfrom chiaroscuro import Classifier\n"
        "def make():\n    return Classifier(nn.Flatten(), std=0)\n",
    )
    with pytest.raises(ChoiceError, match=r"^std is \(0\.0, 0\.0, 0\.0\): expected numbers"):
        load_classifier(spec)


def test_a_file_that_was_edited_within_the_second_is_read_once_more(tmp_path):
    """Bytecode knows a source by its second and size: this edit keeps both."""
    file = tmp_path / "net.py"
    for outputs in (2, 3):
        text = f"from torch import nn\n\ndef make():\n    return nn.Linear(4, {outputs})\n"
        file.write_text(text)
        os.utime(file, (1_000_000_000, 1_000_000_000))
        assert load_classifier(f"{file}:make").module.out_features == outputs


def test_a_factory_file_that_is_not_there(tmp_path):
    with pytest.raises(ModelError, match=r"gone\.py:make: no such file .*gone\.py$"):
        load_classifier(f"{tmp_path}/gone.py:make")


@pytest.mark.parametrize("where", ["at the top", "in the function"])
def test_a_factory_can_import_a_file_beside_it(tmp_path, where):
    neighbor = f"neighbor_{where.replace(' ', '_')}"
    written(tmp_path / f"{neighbor}.py", "from torch import nn\nnet = nn.Flatten()\n")
    line = f"from {neighbor} import net"
    text = f"{line}\ndef make():\n    return net\n"
    if where == "in the function":
        text = f"def make():\n    {line}\n    return net\n"
    before = list(sys.path)
    classifier = load_classifier(written(tmp_path / "own.py", text))
    assert isinstance(classifier.module, nn.Flatten)
    assert sys.path == before


def test_a_factory_file_may_define_dataclasses(tmp_path):
    spec = written(
        tmp_path / "own.py",
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\nfrom torch import nn\n"
        "@dataclass\nclass Sizes:\n    classes: int = 3\n"
        "def make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(12, Sizes().classes))\n",
    )
    assert load_classifier(spec)(floats(1, 3, 2, 2)).shape == (1, 3)


def test_keys_that_a_checkpoint_lacks_are_listed(tmp_path):
    (tmp_path / "model.py").write_text(
        "import torch\n\ndef make():\n    net = torch.nn.Linear(3, 2)\n"
        "    net.load_state_dict({'module.weight': net.weight})\n    return net\n"
    )
    with pytest.raises(ModelError) as caught:
        load_classifier(f"{tmp_path / 'model.py'}:make")
    one_line(caught)
    for words in ("RuntimeError: Error(s) in loading", 'Missing key(s) in state_dict: "weight"',
                  'Unexpected key(s) in state_dict: "module.weight"'):  # fmt: skip
        assert words in str(caught.value)


def test_an_empty_checkpoint_is_said(tmp_path):
    (tmp_path / "w.pt").write_bytes(b"")
    (tmp_path / "model.py").write_text(
        f"import torch\n\ndef make():\n    return torch.load({str(tmp_path / 'w.pt')!r})\n"
    )
    with pytest.raises(ModelError, match=r"EOFError: .*\(an empty or cut file\?\)"):
        load_classifier(f"{tmp_path / 'model.py'}:make")


def test_the_keys_of_a_checkpoint_that_does_not_fit_are_listed_briefly(tmp_path):
    net = nn.Sequential(*[nn.Linear(2, 2) for _ in range(5)])
    torch.save({f"module.{k}": v for k, v in net.state_dict().items()}, tmp_path / "p.pt")
    spec = written(
        tmp_path / "own.py",
        "import torch\nfrom torch import nn\n"
        "def make():\n    net = nn.Sequential(*[nn.Linear(2, 2) for _ in range(5)])\n"
        f"    net.load_state_dict(torch.load({str(tmp_path / 'p.pt')!r}))\n",
    )
    message = (
        r'Missing key\(s\) in state_dict: "0.weight", "0.bias", "1.weight", "1.bias" and 6 more. '
        r'Unexpected .*"module.1.bias" and 6 more. \(take the prefix "module." off'
    )
    with pytest.raises(ModelError, match=message):
        load_classifier(spec)


@pytest.mark.parametrize("text", ["raise SystemExit(3)", "def make():\n    exit(3)"])
def test_a_factory_that_ends_the_program_is_an_error(tmp_path, text):
    with pytest.raises(ModelError, match="raised SystemExit: 3$"):
        load_classifier(written(tmp_path / "own.py", text + "\n"))


def test_a_file_that_is_not_trusted_is_not_run(tmp_path):
    spec = written(tmp_path / "own.py", f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(ModelError, match="is a Python file, which a saved result does not run"):
        load_classifier(spec, trusted=False)
    assert not (tmp_path / "ran").exists()
    assert load_classifier("cifar10-cnn", trusted=False).name == "cifar10-cnn"


@pytest.mark.parametrize("name", ["own.py", "weights.pt"])
def test_a_file_without_a_factory_says_what_to_give(tmp_path, name):
    written(tmp_path / name, "")
    with pytest.raises(ChoiceError, match="is a file: give FILE.py:FACTORY"):
        load_classifier(tmp_path / name)


def test_a_file_may_change_the_search_path(tmp_path):
    before = list(sys.path)
    text = "import sys\nfrom torch import nn\ndel sys.path[0]\nmake = nn.Flatten\n"
    load_classifier(written(tmp_path / "own.py", text))
    assert sys.path == before
