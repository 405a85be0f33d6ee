"""One image to an explanation: every form of input, every choice."""

import copy
import dataclasses
import hashlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from chiaroscuro import (
    ChoiceError,
    Classifier,
    Explanation,
    ImageError,
    InputError,
    ModelError,
    choices,
    class_gradients,
    explain,
)
from chiaroscuro.explanations import replay, single
from chiaroscuro.images import open_photo
from tests.explanations.inputs import Broken, array, picture
from tests.toys import Linear, random_pixels, small_cnn


def test_the_same_picture_in_every_form(toy, tmp_path):
    image = picture()
    image.save(tmp_path / "a.png")
    values = np.asarray(image, np.float32) / 255
    tensor = torch.from_numpy(values).permute(2, 0, 1)
    forms = {
        str(tmp_path / "a.png"): tmp_path / "a.png",
        "text": str(tmp_path / "a.png"),
        "image": image,
        "photo": open_photo(tmp_path / "a.png"),
        "array": values,
        "tensor": tensor,
    }
    found = {name: explain(toy, form) for name, form in forms.items()}
    first = found["array"]
    for name, other in found.items():
        assert np.array_equal(other.pixels, first.pixels), name
        assert np.array_equal(other.photo, first.photo), name
        assert np.array_equal(other.logits, first.logits), name
        assert all(np.array_equal(other.maps[m], first.maps[m]) for m in first.maps), name
        assert (other.crop.right, other.crop.bottom) == (12, 12), name
    digest = hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest()
    for name in (str(tmp_path / "a.png"), "text", "photo"):
        assert found[name].image.source == str(tmp_path / "a.png")
        assert found[name].image.sha256 == digest
    assert found["image"].image.source == "image"
    assert first.image.source == found["tensor"].image.source == "array"
    assert first.image.sha256 == found["tensor"].image.sha256
    assert tuple(first.maps) == choices.EXPLAIN_MAPS


def test_a_photo_is_brought_to_the_classifiers_size_and_the_crop_says_where(toy, photo):
    found = explain(toy, photo)
    assert found.pixels.shape == (3, 12, 12)
    assert found.photo.shape == (14, 20, 3)
    assert (found.crop.photo_width, found.crop.photo_height) == (20, 14)
    assert found.crop.right - found.crop.left == pytest.approx(14, abs=0.2)
    assert found.choices.fit == "crop"
    stretched = explain(toy, photo, fit="stretch")
    assert stretched.choices.fit == "stretch"
    assert (stretched.crop.left, stretched.crop.right) == (0, 20)


def test_a_large_photo_is_shown_smaller_but_the_crop_keeps_its_pixels(toy):
    found = explain(toy, picture(800, 200))
    assert found.photo.shape == (160, 640, 3)
    assert (found.crop.left, found.crop.right) == pytest.approx((300, 500))


def test_predicted_and_named_target(toy):
    found = explain(toy, array())
    logits = toy(torch.from_numpy(array()).permute(2, 0, 1)[None].float().double())[0]
    np.testing.assert_allclose(found.logits, logits.numpy(), rtol=1e-12)
    best = int(logits.argmax())
    assert found.target.index == best
    assert found.target == found.predictions[0]
    assert found.choices.target == "predicted"
    order = logits.sort(descending=True).indices.tolist()
    assert [prediction.index for prediction in found.predictions] == order
    chances = logits.softmax(0)
    for prediction in found.predictions:
        assert prediction.label == toy.labels[prediction.index]
        assert prediction.logit == pytest.approx(float(logits[prediction.index]), rel=1e-12)
        assert prediction.probability == pytest.approx(float(chances[prediction.index]), rel=1e-12)
    assert found.rivals == tuple(k for k in range(5) if k != best)

    for target in ("tabby", 2, "2", np.int64(2)):
        named = explain(toy, array(), target=target)
        assert named.target.index == 2
        assert named.target.label == "cat, tabby"
        assert named.rivals == (0, 1, 3, 4)


def test_a_numpy_integer_as_target_can_be_saved(toy, tmp_path):
    explain(toy, array(), target=np.int64(2)).save(tmp_path / "one")
    assert Explanation.load(tmp_path / "one").target.index == 2


@pytest.mark.parametrize(
    ("rivals", "listed", "rule"),
    [
        (["dog", "crane, bird", 4], (0, 3, 4), "#0,#3,#4"),
        (("mug", "mug", "cat"), (4,), "#2,#4"),
        (choices.RivalRule(classes=(1,)), (1,), "#1"),
        ("top:4", (0, 1, 3, 4), "top:4"),
        ("all", (0, 1, 3, 4), "all"),
    ],
)
def test_rivals(toy, rivals, listed, rule):
    found = explain(toy, array(), target="tabby", rivals=rivals)
    assert found.rivals == listed
    assert found.choices.rivals == rule


def test_top_rivals_are_the_best_other_classes(toy):
    found = explain(toy, array(), rivals="top:2")
    assert found.rivals == tuple(sorted(p.index for p in found.predictions[1:3]))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"target": "crane"},
            ChoiceError,
            r"class 'crane' is ambiguous: give the index, #0 \(",
        ),
        ({"target": "catt"}, ChoiceError, "unknown class 'catt': did you mean cat"),
        ({"target": 5}, ChoiceError, r"class 5 is out of range: expected 0\.\.4"),
        ({"rivals": ["zebra"]}, ChoiceError, "unknown class 'zebra'"),
        ({"rivals": []}, ChoiceError, "rivals is empty"),
        ({"rivals": 3}, ChoiceError, "rivals is 3: give all, top:N"),
        ({"rivals": "top:0"}, ChoiceError, "rivals is 'top:0': give all, top:N"),
        ({"rivals": ["dog"], "target": "dog"}, InputError, "no rival is left for target 3"),
        ({"maps": ["activ"]}, ChoiceError, "unknown map 'activ': did you mean active"),
        ({"score": "margin"}, ChoiceError, "unknown score 'margin'"),
        ({"fit": "zoom"}, ChoiceError, "unknown fit 'zoom'"),
        ({"method": "magic"}, ChoiceError, "unknown method 'magic'"),
        ({"memory_budget": 0}, ChoiceError, "memory_budget is 0: expected bytes above 0"),
    ],
)
def test_wrong_choices_are_refused(toy, options, error, message):
    with pytest.raises(error, match=message):
        explain(toy, picture(), **options)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((12, 12, 3), np.int16), "image holds int16: expected floats in"),
        (np.full((12, 12, 3), 2.0), r"image has values from 2 to 2: expected floats in \[0, 1\]"),
        (np.full((12, 12, 3), np.nan), "image holds NaN or infinite values"),
        (np.zeros((12, 12, 4)), "pixels have 4 channels"),
        (np.zeros((12, 12)), "pixels have 1 channels"),
        (torch.zeros(12, 12), "pixels have 1 channels"),
        (torch.zeros(0, 3, 12, 12), r"image has shape \(0, 3, 12, 12\): it holds no images"),
        (torch.zeros(3, 12, 12, dtype=torch.int64), "image holds int64: expected floats"),
        ("nothing.png", "nothing.png: no such file"),
        (None, r"^image is a NoneType: expected a path, a Pillow image, an array \(H, W, C\)"),
        ([[0.5]], "^image is a list of 1: expected images in it"),
        ([], "^image is a list of 0: expected images in it"),
        (b"\xff\xd8", "^image is a bytes: expected a path"),
        (Image.new("RGB", (1, 5)), "image: 1x5 pixels, too small to explain"),
    ],
)
def test_wrong_images_are_refused(toy, image, message):
    with pytest.raises(ImageError, match=message):
        explain(toy, image)


@pytest.mark.parametrize("given", [nn.Flatten, "efficientnet-lite0"], ids=["class", "spec"])
def test_something_other_than_a_classifier_is_refused(given):
    message = rf"^classifier is a {type(given).__name__}: expected a Classifier, as load_classif"
    with pytest.raises(ModelError, match=message):
        explain(given, array())


def test_every_map_with_facts_by_hand(toy):
    found = explain(toy, array(), target="dog", maps=choices.MAPS)
    pixels = torch.from_numpy(array()).permute(2, 0, 1)[None].float().double()
    got = class_gradients(toy, pixels, 3, argmax=True)
    own, high, low = (
        value[0].numpy() for value in (got.target_gradient, got.rival_max, got.rival_min)
    )
    active, inactive = own > high, own < low
    masks = {
        "original": own != 0,
        "positive": own > 0,
        "negative": own < 0,
        "active": active,
        "inactive": inactive,
        "signed": active | inactive,
        "margin": active | inactive,
        "winner": np.where(own == high, False, (own > high) | (got.rival_argmax[0].numpy() >= 0)),
        "active-printed": own >= high,
        "inactive-printed": own <= low,
    }
    assert list(found.maps) == list(choices.MAPS) == list(found.facts)
    for name, mask in masks.items():
        facts = found.facts[name]
        assert facts.support_entries == pytest.approx(mask.mean(), abs=1e-6), name
        assert facts.support_pixels == pytest.approx(mask.any(axis=0).mean(), abs=1e-6), name
        row = choices.MAPS[name]
        assert (facts.kind, facts.reads, facts.form) == (row.kind, row.reads, row.form)
    np.testing.assert_allclose(found.maps["original"], np.abs(own).max(axis=0), rtol=1e-12)
    np.testing.assert_allclose(
        found.maps["active"], np.where(active, np.abs(own), 0).max(axis=0), rtol=1e-12
    )
    np.testing.assert_allclose(
        found.maps["inactive"], np.where(inactive, np.abs(own), 0).max(axis=0), rtol=1e-12
    )
    winner = found.maps["winner"]
    assert winner.shape == (12, 12)
    assert set(winner.ravel().tolist()) - {-1} <= set(found.labels)
    assert found.labels[3] == "dog"


def test_chosen_maps_come_in_the_given_order_once(toy):
    found = explain(toy, array(), maps=["winner", "active", "winner"])
    assert list(found.maps) == ["winner", "active"]
    assert found.choices.maps == ("winner", "active")


def test_progress_counts_every_class(toy):
    calls = []
    explain(toy, array(), rivals=["dog", "mug"], target=0, progress=lambda *n: calls.append(n))
    assert calls[-1] == (3, 3)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_the_score_changes_the_gradients(toy):
    logit = explain(toy, array(), target=0)
    chance = explain(toy, array(), target=0, score="log-probability")
    assert chance.choices.score == "log-probability"
    assert not np.allclose(logit.maps["original"], chance.maps["original"])


def test_the_result_is_frozen(toy):
    found = explain(toy, array())
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'maps'"):
        found.maps = {}
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'label'"):
        found.target.label = "dog"


def test_what_the_caller_handed_in_is_unchanged(toy):
    values, image = array(), picture(20, 14)
    tensor = torch.from_numpy(array().transpose(2, 0, 1)).requires_grad_(True)
    before = values.copy(), image.copy(), tensor.detach().clone()
    weights = copy.deepcopy(toy.module.state_dict())
    found = explain(toy, values), explain(toy, image), explain(toy, tensor)
    assert np.array_equal(values, before[0])
    assert image.size == (20, 14)
    assert image.tobytes() == before[1].tobytes()
    assert torch.equal(tensor.detach(), before[2])
    assert tensor.grad is None
    assert tensor.requires_grad
    assert all(torch.equal(weights[k], v) for k, v in toy.module.state_dict().items())
    found[0].pixels[:] = 0
    found[2].pixels[:] = 0
    assert np.array_equal(values, before[0]), "results are copies"
    assert torch.equal(tensor.detach(), before[2]), "results are copies"


def test_one_channel(tmp_path, photo):
    gray = Classifier(small_cnn(channels=1).double(), size=12, channels=1)
    for image in (photo, array(channels=1), array(channels=1)[..., 0]):
        found = explain(gray, image)
        assert found.pixels.shape == (1, 12, 12)
        assert found.target.label == f"class {found.target.index}"
    found.save(tmp_path / "gray")
    assert np.array_equal(Explanation.load(tmp_path / "gray").pixels, found.pixels)


def test_half_precision(tmp_path):
    weights = random_pixels(5, 3, 12, 12, seed=1) - 0.5
    half = Classifier(Linear(weights.to(torch.bfloat16)), size=12)
    found = explain(half, array(), maps=choices.MAPS)
    exact = explain(Classifier(Linear(weights.to(torch.bfloat16).double())), array())
    assert found.pixels.dtype == found.logits.dtype == found.maps["active"].dtype == np.float32
    assert np.array_equal(found.maps["active"], exact.maps["active"])
    found.save(tmp_path / "half")
    loaded = Explanation.load(tmp_path / "half")
    assert np.array_equal(loaded.maps["winner"], found.maps["winner"])
    _, differences = replay(tmp_path / "half", half)
    assert differences.same
    assert differences.logits == 0


def test_a_multi_label_head_needs_a_target_and_has_independent_probabilities(toy):
    toy.multi_label = True
    with pytest.raises(ChoiceError, match="a multi-label classifier has no predicted class"):
        explain(toy, array())
    found = explain(toy, array(), target="dog")
    logit = found.target.logit
    assert found.target.probability == pytest.approx(1 / (1 + np.exp(-logit)))


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_an_error(factor):
    with pytest.raises(ModelError, match=r"the logits are NaN or infinite: check"):
        explain(Classifier(Broken(factor)), array())


def test_what_is_unusual_about_a_classifier_is_a_note(toy):
    plain = toy.module
    for image in (picture(12, 12), array()):
        given = explain(plain, image)
        assert [note for note in given.notes if note.startswith("a plain module was given")]
        assert np.array_equal(
            given.maps["active"], explain(Classifier(plain), image).maps["active"]
        )
        assert len(given.notes) == 1
    compiled = explain(Classifier(torch.compile(plain)), array())
    assert "used as it was before it was compiled" in compiled.notes[0]
    assert not toy.notes and not Classifier(plain).notes


def test_a_result_says_where_and_in_what_the_classifier_computes(toy):
    facts = explain(toy, array()).model
    assert facts == toy.describe()
    assert (facts.device, facts.dtype) == ("cpu", "float64")


# several images


def test_several_images_give_what_each_gives_alone(toy):
    """Two sizes, so two passes; a target of one's own each, one predicted."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    free = Classifier(net.double(), mean=0.5, std=0.25, labels=toy.labels)
    images, targets = [array(1), picture(20, 14, seed=2), array(3)], ["dog", 1, None]
    together = explain(free, images, target=targets, maps=["active", "winner"])
    assert isinstance(together, list)
    for image, target, found in zip(images, targets, together, strict=True):
        alone = explain(free, image, target=target, maps=["active", "winner"])
        assert found.target.label == alone.target.label
        assert found.target.logit == pytest.approx(alone.target.logit, rel=1e-12)
        assert found.choices == alone.choices
        assert found.image == alone.image
        for name, values in alone.maps.items():
            np.testing.assert_allclose(found.maps[name], values, rtol=1e-9, atol=1e-12)


def test_images_of_one_size_go_through_the_network_together(toy, monkeypatch):
    sizes = []
    engine = single.class_gradients

    def counted(classifier, batch, *options, **more):
        sizes.append(len(batch))
        return engine(classifier, batch, *options, **more)

    monkeypatch.setattr(single, "class_gradients", counted)
    batch = torch.from_numpy(np.stack([array(n).transpose(2, 0, 1) for n in range(3)]))
    found = explain(toy, batch, target=torch.tensor([0, 1, 2]))
    assert [e.target.index for e in found] == [0, 1, 2]
    assert sizes == [3]
    one = explain(toy, batch[:1], target=torch.tensor(2))
    assert one.target.index == 2 and sizes == [3, 1]
    np.testing.assert_allclose(one.pixels, found[0].pixels)
    assert len(explain(toy, [array()])) == 1, "a list gives a list"
    with pytest.raises(ChoiceError, match="target has 2 classes for 3 images"):
        explain(toy, batch, target=[0, 1])


def test_eight_bit_arrays_are_shares_of_255(toy):
    values = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    found, exact = explain(toy, values), explain(toy, (values / np.float32(255)))
    assert np.array_equal(found.pixels, exact.pixels)
    tensor = explain(toy, torch.from_numpy(values).permute(2, 0, 1))
    assert np.array_equal(tensor.pixels, exact.pixels)
