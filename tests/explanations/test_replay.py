"""A saved explanation recomputed, how the two differ, and why."""

import copy
import dataclasses
import os
import re

import numpy as np
import pytest
import torch

from chiaroscuro import Classifier, Explanation, ModelError, ResultError, choices, explain
from chiaroscuro.choices import MethodOptions, parse_method
from chiaroscuro.explanations import replay
from chiaroscuro.explanations.comparison import UNRECORDED
from tests.explanations.inputs import array, picture, resaved, snapshot
from tests.toys import Linear, random_pixels, small_cnn


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"target": "dog", "rivals": ["cat", 4], "maps": list(choices.MAPS)},
        {"rivals": "top:2", "score": "log-probability", "fit": "stretch", "maps": ["winner"]},
        {"target": 1, "fit": "pad", "maps": ["signed", "margin"]},
        {"rivals": {"cat": 1.0, 4: 0.3}, "method": MethodOptions("smoothgrad", 3, 0.1, seed=6)},
        {"rivals": "softmax", "method": parse_method("integrated-gradients", 3, baseline="blur")},
        {"rivals": "runner-up", "method": "lrp", "maps": ["competition"]},
    ],
    ids=["defaults", "named", "top", "pad", "smoothgrad", "integrated", "lrp"],
)
def test_again_is_the_same(spec, photo, tmp_path, options):
    found = explain(spec, photo, **options)
    found.save(tmp_path / "one")
    before = snapshot(tmp_path / "one")
    made, differences = replay(tmp_path / "one", spec)
    assert differences.same
    assert differences.changes == ()
    assert differences.logits == 0
    assert differences.maps == dict.fromkeys(found.maps, 0.0)
    assert made.choices == found.choices
    assert made.target == found.target
    assert made.crop == found.crop
    assert made.image == found.image
    assert snapshot(tmp_path / "one") == before, "the saved folder is only read"


@pytest.mark.parametrize(
    "image", [array(), picture(), picture(20, 14)], ids=["array", "image", "wide"]
)
def test_again_without_a_file_explains_the_saved_pixels(toy, tmp_path, image):
    found = explain(toy, image)
    found.save(tmp_path / "one")
    made, differences = replay(tmp_path / "one", toy)
    assert np.array_equal(made.pixels, found.pixels)
    assert differences.changes == (), "nothing that could be read again is gone"
    assert differences.same


def test_an_array_is_not_mistaken_for_a_file_of_that_name(toy, tmp_path, monkeypatch):
    explain(toy, array()).save(tmp_path / "one")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "array").write_text("some file of the user's")
    _, differences = replay(tmp_path / "one", toy)
    assert differences.same


def overwritten(path):
    picture(20, 14, seed=9).save(path)


def unreadable(path):
    path.write_text("no longer a picture")


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (overwritten, r"photo .*a b.png has changed: saved pixels are explained"),
        (unreadable, r"photo .*a b.png has changed: saved pixels are explained"),
        (lambda path: path.unlink(), r"photo .*a b.png is gone: saved pixels are explained"),
    ],
    ids=["changed", "unreadable", "gone"],
)
def test_again_with_a_photo_that_is_not_the_same(spec, photo, tmp_path, change, fact):
    found = explain(spec, photo)
    found.save(tmp_path / "one")
    change(photo)
    made, differences = replay(tmp_path / "one", spec)
    (said,) = differences.changes
    assert re.fullmatch(fact, said)
    assert np.array_equal(made.pixels, found.pixels)
    assert differences.logits == 0
    assert differences.maps == dict.fromkeys(found.maps, 0.0)


def test_again_with_other_weights_is_different(toy, tmp_path):
    explain(toy, array()).save(tmp_path / "one")
    other = copy.deepcopy(toy)
    with torch.no_grad():
        other.module[-1].weight.mul_(1.5)
    _, differences = replay(tmp_path / "one", other)
    assert not differences.same
    assert differences.logits > 0.01
    assert differences.maps["original"] == pytest.approx(0.5, abs=0.02)
    assert differences.why == (UNRECORDED,)


def test_again_with_other_weights_says_so_where_the_weights_were_recorded(toy, tmp_path):
    found = explain(toy, array())
    dataclasses.replace(found, model=toy.describe(digest=True)).save(tmp_path / "one")
    assert replay(tmp_path / "one", toy)[1].same
    other = copy.deepcopy(toy)
    with torch.no_grad():
        other.module[-1].weight.mul_(1.5)
    (reason,) = replay(tmp_path / "one", other)[1].why
    assert reason.startswith(f"SHA-256 of the weights was {toy.describe(digest=True).sha256}, now ")


def test_again_with_other_logits_alone_is_different(tmp_path):
    """`same` promises that target, logits and maps agree; a bias moves the logits alone."""
    weights = random_pixels(3, 3, 12, 12) - 0.5
    one = Classifier(Linear(weights), name="linear")
    other = Classifier(Linear(weights, torch.full((3,), 5.0).double()), name="linear")
    explain(one, array()).save(tmp_path / "one")
    _, differences = replay(tmp_path / "one", other)
    assert differences.logits > 0.1
    assert max(differences.maps.values()) == 0
    assert not differences.same


def test_again_with_rounding_is_the_same(toy, tmp_path):
    explain(toy, array()).save(tmp_path / "one")
    other = copy.deepcopy(toy)
    with torch.no_grad():
        other.module[-1].weight.mul_(1 + 1e-6)
    _, differences = replay(tmp_path / "one", other)
    assert differences.same
    assert 0 < max(differences.maps.values()) < 1e-5


def test_again_with_another_predicted_class_says_so(toy, tmp_path):
    found = explain(toy, array())
    found.save(tmp_path / "one")
    other = copy.deepcopy(toy)
    with torch.no_grad():
        other.module[-1].bias[(found.target.index + 1) % 5] += 1000
    made, differences = replay(tmp_path / "one", other)
    said = f"target class was {found.target.label}, now {made.target.label}"
    assert said in differences.changes
    assert not differences.same


def test_again_with_another_number_of_classes_says_so(toy, tmp_path):
    explain(toy, array(), target=0).save(tmp_path / "one")
    other = Classifier(small_cnn(4).double(), mean=0.5, std=0.25, size=12)
    _, differences = replay(tmp_path / "one", other)
    assert "classes were 5, now 4" in differences.changes
    assert differences.logits is None
    assert not differences.same


def test_again_with_another_normalization_says_so(toy, tmp_path):
    explain(toy, array()).save(tmp_path / "one")
    other = copy.deepcopy(toy)
    other.std = (0.5,) * 3
    _, differences = replay(tmp_path / "one", other)
    assert "model std was (0.25, 0.25, 0.25), now (0.5, 0.5, 0.5)" in differences.changes
    assert not differences.same


def test_other_versions_are_said_but_are_no_difference(toy, tmp_path):
    found = explain(toy, array())
    found.save(tmp_path / "one")
    resaved(
        tmp_path / "one", versions={**found.versions, "torch": "1.0", "left": "2.0"}, threads=64,
        model=dataclasses.replace(found.model, device="cuda:7"),
    )  # fmt: skip
    _, differences = replay(tmp_path / "one", toy)
    assert differences.changes == ()
    assert differences.why == (
        "device was cuda:7, now cpu",
        "CPU threads were 64, now 1",
        "left was 2.0, now None",
        f"torch was 1.0, now {found.versions['torch']}",
    )
    assert differences.same


def test_a_class_map_differs_by_its_share_of_pixels(toy, tmp_path):
    explain(toy, array(), maps=["winner"]).save(tmp_path / "one")
    winner = Explanation.load(tmp_path / "one").maps["winner"]
    winner[:3] = 99
    resaved(
        tmp_path / "one",
        maps={"winner": winner},
        labels={**dict(enumerate(toy.labels)), 99: "nobody"},
    )
    _, differences = replay(tmp_path / "one", toy)
    assert differences.maps == {"winner": 0.25}
    assert not differences.same


def test_again_needs_a_model_that_can_be_loaded_by_its_name(toy, tmp_path):
    explain(toy, array()).save(tmp_path / "one")
    with pytest.raises(ModelError, match=r"the model 'Sequential' .* hand the classifier in"):
        replay(tmp_path / "one")


def test_again_in_a_folder_without_an_explanation(tmp_path, toy):
    with pytest.raises(ResultError, match="no explanation there"):
        replay(tmp_path, toy)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_path_that_is_no_regular_file_is_not_opened(spec, photo, tmp_path):
    """A pipe would be waited for, for ever."""
    explain(spec, photo).save(tmp_path / "one")
    photo.unlink()
    os.mkfifo(photo)
    _, differences = replay(tmp_path / "one", spec)
    (said,) = differences.changes
    assert said == f"photo {photo} is not a regular file: saved pixels are explained"


def test_the_tolerance_decides_what_is_the_same(toy, tmp_path):
    explain(toy, array()).save(tmp_path / "one")
    other = copy.deepcopy(toy)
    with torch.no_grad():
        other.module[-1].weight.mul_(1 + 1e-6)
    assert replay(tmp_path / "one", other, tolerance=1e-5)[1].same
    assert not replay(tmp_path / "one", other, tolerance=1e-8)[1].same
    assert replay(tmp_path / "one", toy, tolerance=0)[1].same
