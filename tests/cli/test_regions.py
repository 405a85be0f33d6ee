"""Parts of photos on the command line."""

import numpy as np
import pytest
from PIL import Image

from chiaroscuro import Explanation
from tests.cli.results import about, entries

SPEC = """
import torch
from torch import nn
from chiaroscuro import Classifier

class Scores(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), nn.Tanh(), nn.Conv2d(6, 4, 1))

    def forward(self, x):
        return {"out": self.layers(x)}

class TinyForObjectDetection(Scores):
    def forward(self, x):
        scores = self.layers(x).flatten(2).mT[:, :3]
        boxes = torch.tensor([[.25, .5, .5, 1], [.75, .5, .5, 1], [.5, .5, .2, .2]])
        return {"logits": scores, "pred_boxes": boxes.expand(len(x), -1, -1)}

LABELS = ["sky", "grass", "cat", "dog"]

def dense():
    return Classifier(Scores(), size=8, labels=LABELS)

def boxes():
    return Classifier(TinyForObjectDetection(), size=8, labels=LABELS)
"""


@pytest.fixture
def spec(tmp_path):
    (tmp_path / "net.py").write_text(SPEC)
    return lambda name: ("--model", f"{tmp_path / 'net.py'}:{name}", "--map", "active")


def test_a_box_of_the_photo_is_explained_and_replayed(run, photos, tmp_path, spec):
    words = "--region", "3,1,9,8", "--out", "out"
    code, out, err = run("explain", photos / "a.png", *spec("dense"), *words)
    assert (code, err) == (0, "")
    saved = Explanation.load(tmp_path / "out" / "a")
    assert saved.region.asked == "3,1,9,8"
    assert about(tmp_path / "out" / "a")["model"]["region"].startswith("3,1,9,8 (")
    code, out, err = run("explain", "--replay", "out/a", *spec("dense")[:2])
    assert code == 0 and "out/a: the same" in out, (out, err)
    code, out, err = run("explain", photos / "a.png", *spec("dense"), *words, "--resume")
    assert (code, err) == (0, "")
    changed = ("--region", "3,1,9,9", "--out", "out", "--resume")
    code, out, err = run("explain", photos / "a.png", *spec("dense"), *changed)
    assert code == 1 and "region was 3,1,9,8" in err


def test_a_region_is_of_one_photo_but_masks_may_be_in_a_folder(run, photos, tmp_path, spec):
    many = ["explain", photos, *spec("dense"), "--out", "out"]
    for words in (("--region", "3,1,9,8"), ("--box", "0"), ("--mask", photos / "a.png")):
        code, _, err = run(*many, *words)
        assert code == 1 and "is of one photo, and 2 are given: give --mask FOLDER" in err
    masks = tmp_path / "masks"
    masks.mkdir()
    for name, side in (("a", 5), ("b", 9)):
        values = np.zeros((10, 14), np.uint8)
        values[2:8, 3:side] = 255
        Image.fromarray(values).save(masks / f"{name}.png")
    assert run(*many, "--mask", "masks")[0] == 0
    sizes = [Explanation.load(tmp_path / "out" / n).region.mask.sum() for n in ("a", "b")]
    assert 0 < sizes[0] < sizes[1]
    (masks / "b.png").unlink()
    code, _out, err = run(*many, "--mask", "masks", "--force")
    assert code == 1 and "masks has no mask for b.png: expected a PNG file of its name" in err
    assert run(*many, "--region", "predicted", "--force")[0] == 0
    assert Explanation.load(tmp_path / "out" / "b").region.asked == "predicted"


def test_boxes_are_listed_with_class_and_score(run, photos, tmp_path, spec):
    for words in ((), ("--box", "7")):
        code, _, err = run("explain", photos / "a.png", *spec("boxes"), *words, "--out", "out")
        assert code == 1
        assert "choose a box of" in err and "by its number (--box N): 0: " in err
        assert " % at " in err and err.count("\n") == 1
    code, _out, err = run("explain", photos / "a.png", *spec("boxes"), "--box", "1", "--out", "out")
    assert (code, err) == (0, "")
    words = "--box", "1", "--fill", "black", "--out", "change"
    assert run("what-if", photos / "a.png", *spec("boxes"), *words)[0] == 0
    assert run("what-if", photos / "a.png", *spec("boxes"), "--box", "0", *words[2:])[0] == 0
    assert {name.partition("-box-")[2][:1] for name in entries(tmp_path / "change")} == {"0", "1"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--region", "1,2,3"), "expected left,top,right,bottom"),
        (("--box", "-1"), "box is -1: expected at least 0"),
        (("--region", "0,0,1,1", "--box", "0"), "region and box are given"),
        (("--mask", "none.png"), "none.png: no such file"),
        (("--region", "predicted:bird"), "unknown class 'bird'"),
    ],
)
def test_wrong_regions_are_one_line(run, photos, spec, words, message):
    code, _out, err = run("explain", photos / "a.png", *spec("dense"), *words)
    assert code == 1 and message in err and err.count("\n") == 1
