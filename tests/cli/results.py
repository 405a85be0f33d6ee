"""The tiny network that commands are tried on, and how their results are read."""

import json

from chiaroscuro.results import KINDS, facts_of, kind_in
from chiaroscuro.results.explanations import Explanation

SPEC = """
import torch
from torch import nn
from chiaroscuro import Classifier

def make(factor={factor}, classes={classes}):
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.Tanh(), nn.Linear(16, classes))
    with torch.no_grad():
        for part in net.parameters():
            part.copy_(torch.sin(torch.arange(part.numel()) * 1.7).view_as(part) * 0.3)
        net[3].weight.mul_(factor)
    labels = ["crane, bird", "crane, machine", "cat, tabby", "dog", "cup, mug"]
    return Classifier(net, size=8, labels=labels[:classes])

def broken():
    return make(factor=float("nan"))
"""


def write_spec(tmp_path, factor=1.0, classes=5):
    (tmp_path / "net.py").write_text(SPEC.format(factor=factor, classes=classes))
    return f"{tmp_path / 'net.py'}:make"


def entries(folder):
    ours = KINDS["gallery"].marker
    return sorted(entry.name for entry in folder.glob("[!.]*") if entry.name != ours)


def about(folder):
    kind = kind_in(folder)
    return json.loads((folder / kind.marker).read_text())["result"]


def facts(folder):
    """What --json prints of a saved explanation."""
    return json.loads(json.dumps(facts_of(Explanation.load(folder))))


def strict(line):
    """JSON as the standard has it: no NaN, no Infinity."""

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(line, parse_constant=refuse)


def assert_one_line(err, *words):
    assert err.startswith("chiaroscuro: ")
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    for word in words:
        assert word in err
