"""Images with logits or gradients that are no numbers are marked and counted, never averaged in."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from chiaroscuro import Classifier, check, confusions, deletion_curve, evaluate, localize
from chiaroscuro.errors import InputError, NotFiniteError
from chiaroscuro.metrics import linearity
from tests.evaluation.toy import CLASSES
from tests.pictures import BROKEN, encoded, write_parquet
from tests.toys import small_cnn

SIDE, COUNT, ODD = 12, 6, 3
DRAWS = {"batch": 4, "threads": 1, "resamples": 20}


class Marked(nn.Module):
    """Pictures whose first red value is 1 are trouble: as `fault` says."""

    def __init__(self, fault):
        super().__init__()
        self.net, self.fault = small_cnn(3).eval(), fault

    def forward(self, x):
        marked, logits = x[:, 0, 0, 0] == 1, self.net(x)
        if self.fault == "gradients":  # the root is 0 there, and has no slope
            return logits + (1 - x[:, 0, 0, 0]).clamp(min=0).sqrt()[:, None]
        if self.fault == "black":
            marked = (x[:, 0] == 1).flatten(1).any(dim=1) & (x == 0).flatten(1).any(dim=1)
        return torch.where(marked[:, None], torch.nan, logits)


def network(fault="logits"):
    return Classifier(Marked(fault), size=SIDE, labels=CLASSES, name="marked")


def picture(n):
    values = np.random.default_rng(n).integers(1, 250, (SIDE, SIDE, 3)).astype(np.uint8)
    if n == ODD:
        values[0, :, 0] = 255
    return Image.fromarray(values)


@pytest.fixture
def folders(tmp_path):
    """A set with one odd picture, and the same with a broken file in its place."""
    boxes = {f"test#{n}": [[2, 2, 8, 8]] for n in range(COUNT)}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    rows = [(encoded(picture(n)), n % 3) for n in range(COUNT)]
    write_parquet(tmp_path / "odd" / "test.parquet", rows, CLASSES)
    rows[ODD] = (BROKEN, 0)
    write_parquet(tmp_path / "broken" / "test.parquet", rows, CLASSES)
    return tmp_path


def evaluated(classifier, data, out, **options):
    return evaluate(classifier, data, out, **DRAWS, **{"flips": 99, "fills": ("black",)} | options)


def checked(classifier, data, out):
    few = {"draws": 1, "orders": 20, "depths": 1}
    return check(classifier, data, out, batch=4, threads=1, resamples=20, **few)


def localized(classifier, data, out):
    return localize(classifier, data, data.parent / "boxes.json", out, **DRAWS, flips=99)


def competed(classifier, data, out):
    return confusions(classifier, data, out, **DRAWS, mends=1)


@pytest.mark.parametrize("fault", ["logits", "gradients"])
@pytest.mark.parametrize("measure", [evaluated, checked, localized, competed])
def test_it_is_as_if_the_file_were_broken(folders, measure, fault):
    found, wanted = (
        measure(network(fault), folders / name, folders / f"out-{name}")
        for name in ("odd", "broken")
    )
    (left,) = found.data.left_out
    said = {
        "logits": "the logits are NaN or infinite: check the module",
        "gradients": "marked has NaN or infinite gradients: check the module",
    }
    assert (left.id, left.reason) == (f"test#{ODD}", said[fault])
    assert (found.data.images, found.data.left_out_count) == (COUNT - 1, 1)
    for name in ("curves", "maps", "pairs", "classes", "differences"):
        assert getattr(found, name, None) == getattr(wanted, name, None)
    assert said[fault] in (folders / "out-odd" / "index.html").read_text()


def test_an_edit_that_gives_no_numbers_leaves_its_image_out(folders):
    """Of white edits the same image is measured."""
    kinds = {"maps": ("original", "expected-effect"), "what_if": 0.1}
    black = evaluated(network("black"), folders / "odd", folders / "a", fills=("black",), **kinds)
    (left,) = black.data.left_out
    assert left.id == f"test#{ODD}"
    assert (
        left.reason == "the logits are NaN or infinite once pixels become black: check the module"
    )
    white = evaluated(network("black"), folders / "odd", folders / "b", fills=("white",), **kinds)
    assert white.data.left_out == ()
    whole = {"metrics": ("sharpness",), "what_if": 0.9}
    only = evaluated(network("black"), folders / "odd", folders / "c", **whole)
    assert (
        only.data.left_out[0].reason
        == "the logits are NaN or infinite after the change: check the module"
    )


def test_edit_maps_alone_are_no_way_round(folders):
    found = evaluated(network(), folders / "odd", folders / "run", maps=("partial-edit",))
    assert [one.id for one in found.data.left_out] == [f"test#{ODD}"]


def test_workers_write_the_same_bytes(folders, quick_workers):
    runs = [
        confusions(network(), folders / "odd", folders / f"{n}", **DRAWS, workers=n, mends=0)
        for n in (1, 2)
    ]
    assert runs[0].pairs == runs[1].pairs and runs[0].data == runs[1].data


def test_a_set_without_any_number_says_why(folders):
    with pytest.raises(
        InputError, match=r"6 left out; the first because: test#0: the logits are NaN or infinite"
    ):
        confusions(Classifier(Void(), size=SIDE), folders / "odd", folders / "run", **DRAWS)


class Void(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :3] * torch.nan


def test_a_fault_of_no_single_image_ends_the_run(folders):
    """Together they fail, alone they do not."""
    with pytest.raises(NotFiniteError, match="the logits of image 0 are NaN or infinite"):
        confusions(Classifier(Crowd(), size=SIDE), folders / "odd", folders / "run", **DRAWS)


class Crowd(nn.Module):
    def forward(self, x):
        return x.flatten(1)[:, :3] * (torch.nan if len(x) > 1 else 1)


def test_the_library_raises_for_edits_without_numbers():
    pixels = torch.rand(2, 3, SIDE, SIDE).clamp(0.1, 0.9)
    pixels[1, 0, 0] = 1
    values = {"map": torch.rand(2, SIDE, SIDE)}
    classifier = network("black")
    with pytest.raises(NotFiniteError, match="logits of image 1 are NaN or infinite once pixels"):
        deletion_curve(classifier, pixels, values, "black", protocol="matched")
    edited = pixels.clone()
    edited[:, :, 5:] = 0
    with pytest.raises(NotFiniteError, match="logits of image 1 are NaN or infinite after the"):
        linearity(classifier, pixels, edited)
