"""`what_if` on one image: by hand, against plain calls, and what it writes."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from chiaroscuro import Classifier, WhatIf, class_gradients, edit_map, saliency_maps, what_if
from chiaroscuro.choices import EDIT_MAPS, ORDERS, MethodOptions
from chiaroscuro.errors import ChoiceError, ImageError, InputError, ResultError
from chiaroscuro.gradients import Method
from chiaroscuro.images import find_photos
from chiaroscuro.render.pictures import enlarged
from chiaroscuro.report.what_if import change_text, sentences, what_if_sheet
from chiaroscuro.results import facts_of
from chiaroscuro.results.facts import Prediction
from tests.test_linearity import Kinked
from tests.toys import Linear, random_pixels

NASTY = "<b>owl</b> & $x^2$"


def image(side=12, seed=0):
    return random_pixels(side, side, 3, seed=seed, dtype=torch.float32).numpy()


def linear():
    weights = random_pixels(3, 3, 4, 5, seed=3) - 0.5
    return Classifier(Linear(weights), labels=["cat", "dog", "owl"], name="linear"), weights


def test_on_a_linear_network_prediction_is_outcome_by_hand():
    classifier, weights = linear()
    pixels = random_pixels(4, 5, 3, seed=1).numpy() * 0.8 + 0.1
    found = what_if(classifier, pixels, "positive", 0.25, "-0.05", target="dog")
    assert found.selected == int(found.changed.sum()) == 5
    # positive = the largest weight over channels, where it is above 0
    height = weights[1].amax(dim=0)
    top = torch.zeros(20, dtype=torch.bool)
    top[height.flatten().argsort(descending=True)[:5]] = True
    assert np.array_equal(found.changed, top.reshape(4, 5).numpy())
    moved = -0.05 * (weights * top.reshape(4, 5)).sum(dim=(1, 2, 3))
    assert found.predicted_change == pytest.approx(moved.numpy())
    assert found.actual_change == pytest.approx(moved.numpy())
    assert found.path == pytest.approx([step * float(moved[1]) for step in found.steps])
    assert found.predicted == pytest.approx(float(moved[1])) == found.actual
    assert (found.valid_step, found.expected.index) == (1.0, found.after[0].index)
    assert found.same_direction == (found.predicted != 0)
    assert found.edited == pytest.approx(found.pixels - 0.05 * found.changed, abs=1e-7)
    after = torch.as_tensor(found.logits + found.actual_change)
    assert [p.index for p in found.after] == after.argsort(descending=True).tolist()
    assert found.after[0].probability == pytest.approx(float(after.softmax(0).max()))


def test_where_a_kink_is_crossed_the_promise_ends_there():
    pixels = np.array([0.9, 0.1], np.float32).reshape(1, 2, 1)
    kinked = Classifier(Kinked(), channels=1)
    values = np.array([[2.0, 1.0]])
    found = what_if(kinked, pixels, values, 0.5, "black", target=0, tolerance=0.1)
    assert found.changed.tolist() == [[True, False]]
    assert (found.predicted, found.actual) == pytest.approx((-0.9, -0.4))
    # Real is -0.4 from t = 4/9 on; foretold is -0.9 t, so they part by a tenth at t = 0.494.
    assert found.valid_step == 15 / 32
    assert found.flipped and found.expected.index != found.before[0].index
    assert found.choices.map == "own values"


def test_a_promise_can_fail_at_once_or_be_about_nothing():
    pixels = np.array([0.4999, 0.1], np.float32).reshape(1, 2, 1)
    kinked = Classifier(Kinked(), channels=1)
    first = np.array([[1.0, 0.0]])
    found = what_if(kinked, pixels, first, 0.5, "white", target=0)
    assert (found.predicted, found.valid_step, found.same_direction) == (0, 0, False)
    nothing = what_if(kinked, np.zeros((1, 2, 1), np.float32), first, 0.5, "black", target=0)
    assert (nothing.actual, nothing.valid_step, int(nothing.changed.sum())) == (0, 1, 0)
    assert nothing.selected == 1
    assert "the others keep their value" in what_if_sheet(nothing).rows[0].cells[2].note


@pytest.mark.parametrize("name", ORDERS)
def test_every_order_takes_its_first_pixels(name, toy):
    found = what_if(toy, image(), name, 0.1, "white")
    pixels = torch.from_numpy(image()).permute(2, 0, 1)[None].double()
    assert found.selected == 14
    if name == "random":
        assert found.changed.sum() == 14
        other = what_if(toy, image(), name, 0.1, "white", seed=1)
        assert not np.array_equal(found.changed, other.changed)
        return
    if name in EDIT_MAPS:
        source = torch.Generator().manual_seed(0)
        values = edit_map(toy, pixels, "white", name, generator=source)[0].numpy()
    else:
        values = saliency_maps(class_gradients(toy, pixels), name)[name][0].numpy()
    lowest, rest = values[found.changed].min(), values[~found.changed].max()
    assert lowest >= rest
    assert found.actual_change == pytest.approx(
        (toy(torch.from_numpy(found.edited)[None]) - toy(pixels))[0].numpy()
    )


def test_a_method_makes_the_map_that_is_followed(toy):
    pixels = torch.from_numpy(image()).permute(2, 0, 1)[None].double()
    method = Method("integrated-gradients", points=4, baseline="white")
    found = what_if(toy, image(), "positive", 0.1, "black", method=method)
    values = saliency_maps(class_gradients(toy, pixels, method=method), "positive")["positive"]
    assert values[0].numpy()[found.changed].min() >= values[0].numpy()[~found.changed].max()
    assert found.choices.method.name == "integrated-gradients"
    plain = what_if(toy, image(), "positive", 0.1, "black")
    assert plain.choices.method.name == "gradient"
    assert not np.array_equal(plain.changed, found.changed)
    options = MethodOptions("integrated-gradients", 4, baseline="white")
    again = what_if(toy, image(), "positive", 0.1, "black", method=options)
    assert np.array_equal(again.changed, found.changed)


def test_choices_are_kept_and_targets_and_rivals_named(toy):
    found = what_if(toy, image(), "active", 0.05, "blur", target="dog", rivals=["crane, bird", 4])
    assert found.target.label == "dog"
    assert found.choices.rivals == "#0,#4"
    assert found.choices.fill == "blur"
    assert len(found.predicted_change) == 5
    assert [p.index for p in found.before] == np.argsort(-found.logits).tolist()


def test_other_input_is_refused_in_one_line(toy):
    with pytest.raises(ChoiceError, match="unknown map 'winner'"):
        what_if(toy, image(), "winner")
    with pytest.raises(ChoiceError, match="unknown fill 'gray'"):
        what_if(toy, image(), fill="gray")
    for name, wrong in (("fraction", 0), ("fraction", 1.0), ("tolerance", 0)):
        with pytest.raises(ChoiceError, match=f"{name} is {wrong}.*: expected a number"):
            what_if(toy, image(), **{name: wrong})
    with pytest.raises(InputError, match=r"map has shape \(3, 3\): expected \(H, W\) = \(12, 12\)"):
        what_if(toy, image(), np.zeros((3, 3)))
    for name in ("random", "partial-edit"):
        with pytest.raises(ChoiceError, match=f"method smoothgrad has no part in map '{name}'"):
            what_if(toy, image(), name, method="smoothgrad")
    with pytest.raises(ChoiceError, match="method smoothgrad has no part in map 'own values'"):
        what_if(toy, image(), np.zeros((12, 12)), method="smoothgrad")
    many = Classifier(toy.module, multi_label=True)
    with pytest.raises(ChoiceError, match="give a target"):
        what_if(many, image(), "random")
    assert what_if(many, image(), "random", target=2).target.index == 2


@pytest.fixture
def saved(tmp_path):
    labels = ["cat", "dog", NASTY]
    weights = random_pixels(3, 3, 4, 5, seed=3) - 0.5
    classifier = Classifier(Linear(weights), labels=labels, name="linear " + NASTY)
    found = what_if(classifier, random_pixels(4, 5, 3).numpy(), "negative", 0.2, "white", target=2)
    return found, found.save(tmp_path / "result")


def test_the_folder_holds_figure_page_and_every_number(saved):
    found, folder = saved
    assert sorted(file.name for file in folder.iterdir()) == [
        "arrays.npz", "chiaroscuro-what-if.json", "figure.png", "index.html",
    ]  # fmt: skip
    loaded = WhatIf.load(folder)
    assert facts_of(loaded) == facts_of(found)
    for name in ("pixels", "edited", "changed", "logits", "predicted_change", "actual_change"):
        assert np.array_equal(getattr(loaded, name), getattr(found, name))
    assert (loaded.selected, loaded.valid_step, loaded.choices.fill) == (4, 1.0, "white")
    with Image.open(folder / "figure.png") as figure:
        assert figure.size[0] > 1500
    page = (folder / "index.html").read_text()
    assert NASTY not in page and "&lt;b&gt;owl" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert f"{found.predicted:+.2f}" in page and f"{found.actual:+.2f}" in page


def test_a_result_is_only_replaced_on_request_and_is_no_photo(saved, tmp_path):
    found, folder = saved
    with pytest.raises(ResultError, match="exists already"):
        found.save(folder)
    found.save(folder, overwrite=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    with pytest.raises(ResultError, match="other is not a chiaroscuro result"):
        found.save(tmp_path / "other", overwrite=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    assert find_photos([tmp_path]) == [Path(tmp_path / "photo.png")]


def test_the_pictures_mark_the_changed_pixels_alone(saved):
    found, _ = saved
    before, after, outlined = (cell.pixels for cell in what_if_sheet(found).rows[0].cells)
    times = outlined.shape[0] // 4
    differs = (outlined != enlarged(after)).any(axis=2).reshape(4, times, 5, times)
    assert np.array_equal(differs.any(axis=(1, 3)), found.changed)
    for picture, pixels in ((before, found.pixels), (after, found.edited)):
        assert np.array_equal(picture, np.rint(255 * pixels).astype(np.uint8).transpose(1, 2, 0))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("black", "black"), ("-0.1", "darker by 0.1"), ("mean", "the image's mean"),
        ("blur", "blurred"), ("noise", "noise"),
    ],
)  # fmt: skip
def test_the_change_is_said_in_words(change, words, toy):
    found = what_if(toy, image(), "random", 0.05, change)
    assert change_text(found) == f"the top 5 % of random become {words}"


@pytest.fixture
def saying(toy):
    """The sentences of a what-if with other numbers of its target and other classes."""
    result = what_if(toy, image(), "random", 0.05, target=3)

    def say(predicted, actual, valid=1.0, expected="cat", after="cat"):
        before, wanted, now = (
            Prediction(len(k) % 5, k, 0.0, 0.5) for k in ("cat", expected, after)
        )
        changed = dataclasses.replace(
            result,
            predicted_change=np.full(5, predicted),
            actual_change=np.full(5, actual),
            valid_step=valid,
            before=(before,),
            expected=wanted,
            after=(now,),
        )
        return sentences(changed)

    return say


def test_results_in_sentences(saying):
    first, flip, valid = saying(-2.0, -1.0, 0.5, after="horse")
    assert first.endswith("changes by -2.00; it changes in the same direction, by -1.00.")
    assert flip == "The predicted class changes from cat to horse; first order predicts cat."
    assert "valid up to a step of 0.5" in valid
    first, flip, valid = saying(2.0, -1.0, 0.0, expected="horse")
    assert first.endswith("it changes in the other direction, by -1.00.")
    assert flip == "The predicted class stays cat; first order predicts horse."
    assert valid.startswith("First order is not valid at any step")
    first, flip, valid = saying(0.0, 0.3)
    assert first == "First order predicts no change of the logit of dog; it changes by +0.30."
    assert flip == "The predicted class stays cat, as first order predicts."
    assert valid.startswith("First order is valid for the whole change")
    assert saying(1.0, 0.0)[0].endswith("it does not change.")
    for expected, words in (
        ("horse", ", as first order predicts"),
        ("lizard", "; first order predicts lizard"),
    ):
        told = saying(1.0, 1.0, expected=expected, after="horse")[1]
        assert told == f"The predicted class changes from cat to horse{words}."


def test_a_batch_of_one_is_one_image_and_a_batch_of_two_is_refused():
    classifier, _ = linear()
    pixels = random_pixels(1, 3, 4, 5, seed=1, dtype=torch.float32)
    one, batch = (what_if(classifier, given, target=np.int64(1)) for given in (pixels[0], pixels))
    np.testing.assert_array_equal(one.actual_change, batch.actual_change)
    with pytest.raises(ImageError, match=r"shape \(2, 3, 4, 5\): expected .* a tensor \(C, H, W\)"):
        what_if(classifier, pixels.repeat(2, 1, 1, 1))
    with pytest.raises(
        ImageError, match=r"shape \(5, 4, 3\)\): linear expects 3; tensors are \(C, H, W"
    ):
        what_if(classifier, pixels[0].permute(2, 1, 0))
