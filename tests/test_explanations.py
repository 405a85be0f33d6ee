"""An image to an explanation, its folder and back, again later, and many photos at once."""

import copy
import dataclasses
import hashlib
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from chiaroscuro import (
    ChiaroscuroError,
    ChoiceError,
    Classifier,
    Explanation,
    ImageError,
    InputError,
    ModelError,
    ResultError,
    choices,
    class_gradients,
    explain,
    load_classifier,
)
from chiaroscuro.explanations import explain_again, explain_files, storage
from chiaroscuro.images import open_photo
from chiaroscuro.render import draw_figure
from tests.toys import Linear, random_pixels, small_cnn

FILES = ["explanation.json", "figure.png", "index.html", "maps.npz"]
SPEC = """
import torch
from chiaroscuro import Classifier
from tests.toys import small_cnn

def make():
    labels = ["crane, bird", "crane, machine", "cat, tabby", "dog", "cup, mug"]
    net = small_cnn().double()
    return Classifier(net, mean=0.5, std=0.25, size=12, labels=labels)
"""


def quick_figure(sheet, path):
    Image.fromarray(sheet.seen).save(path, "PNG")


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors: waking a second thread on a busy machine takes longer than the work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A stand-in for the figure, which takes most of a second; tests/test_render.py draws it."""
    monkeypatch.setattr(storage, "draw_figure", quick_figure)


def picture(width=12, height=12, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photos" / "a b.png"
    path.parent.mkdir()
    picture(20, 14).save(path)
    return path


@pytest.fixture
def spec(tmp_path):
    """A classifier that can be loaded again by its name; the same network as `toy`."""
    path = tmp_path / "net.py"
    path.write_text(SPEC)
    return load_classifier(f"{path}:make")


def array(seed=0, channels=3):
    return np.random.default_rng(seed).random((12, 12, channels))


def snapshot(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


# one image


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
    assert found.choices["fit"] == "crop"
    stretched = explain(toy, photo, fit="stretch")
    assert stretched.choices["fit"] == "stretch"
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
    assert found.choices["target"] == "predicted"
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
        (["dog", "crane, bird", 4], (0, 3, 4), "0,3,4"),
        (("mug", "mug", "cat"), (4,), "2,4"),
        (choices.RivalRule(classes=(1,)), (1,), "1"),
        ("top:4", (0, 1, 3, 4), "top:4"),
        ("all", (0, 1, 3, 4), "all"),
    ],
)
def test_rivals(toy, rivals, listed, rule):
    found = explain(toy, array(), target="tabby", rivals=rivals)
    assert found.rivals == listed
    assert found.choices["rivals"] == rule


def test_top_rivals_are_the_best_other_classes(toy):
    found = explain(toy, array(), rivals="top:2")
    assert found.rivals == tuple(sorted(p.index for p in found.predictions[1:3]))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"target": "crane"},
            ChoiceError,
            r"class 'crane' is ambiguous: give the index, 0 \(",
        ),
        ({"target": "catt"}, ChoiceError, "unknown class 'catt': did you mean cat"),
        ({"target": 5}, ChoiceError, r"class 5 is out of range: expected 0\.\.4"),
        ({"rivals": ["zebra"]}, ChoiceError, "unknown class 'zebra'"),
        ({"rivals": []}, ChoiceError, "rivals is empty"),
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
        (np.zeros((12, 12, 3), np.uint8), "image holds uint8: expected floats in"),
        (np.full((12, 12, 3), 2.0), r"image has values from 2 to 2: expected floats in \[0, 1\]"),
        (np.full((12, 12, 3), np.nan), "image holds NaN or infinite values"),
        (np.zeros((12, 12, 4)), r"image has shape \(12, 12, 4\): expected"),
        (np.zeros((12, 12)), "pixels have 1 channels"),
        (torch.zeros(1, 3, 12, 12), r"image is a tensor of shape \(1, 3, 12, 12\): expected \(C,"),
        (torch.zeros(3, 12, 12, dtype=torch.uint8), "image holds uint8: expected floats"),
        ("nothing.png", "nothing.png: no such file"),
        (Image.new("RGB", (1, 5)), "image: 1x5 pixels, too small to explain"),
    ],
)
def test_wrong_images_are_refused(toy, image, message):
    with pytest.raises(ImageError, match=message):
        explain(toy, image)


def test_every_map_with_facts_by_hand(toy):
    found = explain(toy, array(), target="dog", maps=choices.MAPS)
    pixels = torch.from_numpy(array()).permute(2, 0, 1)[None].float().double()
    got = class_gradients(toy, pixels, 3, argmax=True)
    own, high, low = (value[0].numpy() for value in (got.own, got.rival_max, got.rival_min))
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
    assert found.choices["maps"] == ["winner", "active"]


def test_progress_counts_every_class(toy):
    calls = []
    explain(toy, array(), rivals=["dog", "mug"], target=0, progress=lambda *n: calls.append(n))
    assert calls[-1] == (3, 3)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)


def test_the_score_changes_the_gradients(toy):
    logit = explain(toy, array(), target=0)
    chance = explain(toy, array(), target=0, score="log-probability")
    assert chance.choices["score"] == "log-probability"
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
    grey = Classifier(small_cnn(channels=1).double(), size=12, channels=1)
    for image in (photo, array(channels=1), array(channels=1)[..., 0]):
        found = explain(grey, image)
        assert found.pixels.shape == (1, 12, 12)
        assert found.target.label == f"class {found.target.index}"
    found.save(tmp_path / "grey")
    assert np.array_equal(Explanation.load(tmp_path / "grey").pixels, found.pixels)


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
    _, differences = explain_again(tmp_path / "half", half)
    assert differences.same
    assert differences.logits == 0


def test_a_multi_label_head_needs_a_target_and_has_independent_probabilities(toy):
    toy.multi_label = True
    with pytest.raises(ChoiceError, match="a multi-label classifier has no predicted class"):
        explain(toy, array())
    found = explain(toy, array(), target="dog")
    logit = found.target.logit
    assert found.target.probability == pytest.approx(1 / (1 + np.exp(-logit)))


class Broken(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(432, 3))

    def forward(self, x):
        return self.net(x) * self.factor


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_an_error(factor):
    with pytest.raises(ModelError, match=r"the logits of image 0 are NaN or infinite: check"):
        explain(Classifier(Broken(factor)), array())


# the folder


def test_the_folder_holds_exactly_four_files(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "draw_figure", draw_figure)
    folder = tmp_path / "new" / "deeper" / "one"
    found = explain(toy, array(), maps=choices.MAPS)
    assert found.save(folder) == folder
    assert sorted(file.name for file in folder.iterdir()) == FILES
    assert [file.name for file in folder.parent.iterdir()] == ["one"], "nothing left beside it"
    about = json.loads((folder / "explanation.json").read_text())
    assert about["schema"] == storage.SCHEMA
    assert about["display"]["scale"] == "image"
    assert set(about["display"]["limits"]) == set(choices.MAPS) - {"winner"}
    with Image.open(folder / "figure.png") as figure:
        assert figure.format == "PNG"
        assert len(figure.convert("L").getcolors()) > 50
    with np.load(folder / "maps.npz") as arrays:
        assert set(arrays.files) == {"pixels", "photo", "logits", *(f"map_{n}" for n in found.maps)}


def assert_equal(one, other):
    for field in dataclasses.fields(Explanation):
        before, after = getattr(one, field.name), getattr(other, field.name)
        if isinstance(before, np.ndarray):
            before, after = {"": before}, {"": after}
        elif field.name != "maps":
            assert before == after, field.name
            continue
        assert list(before) == list(after)
        for name in before:
            assert before[name].dtype == after[name].dtype, (field.name, name)
            assert before[name].shape == after[name].shape, (field.name, name)
            assert before[name].tobytes() == after[name].tobytes(), (field.name, name)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_save_and_load_is_exact(toy, photo, tmp_path, kind):
    toy.origin = {"weights": "made up", "numbers": [1, 2.5], "none": None}
    found = explain(
        toy.to(kind), photo, target="dog", rivals=["cat", "mug"], maps=choices.MAPS, fit="pad"
    )
    found.save(tmp_path / "one")
    loaded = Explanation.load(tmp_path / "one")
    assert_equal(found, loaded)
    loaded.save(tmp_path / "two")
    assert_equal(found, Explanation.load(tmp_path / "two"))
    for name in ("explanation.json", "figure.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_path_may_be_text(toy, tmp_path):
    explain(toy, array()).save(str(tmp_path / "one"))
    assert Explanation.load(str(tmp_path / "one")).image.source == "array"


def test_an_existing_folder_is_refused_and_kept(toy, tmp_path):
    folder = tmp_path / "one"
    explain(toy, array(0)).save(folder)
    before = snapshot(folder)
    with pytest.raises(ResultError, match=r"one exists already: choose another place"):
        explain(toy, array(1)).save(folder)
    assert snapshot(folder) == before
    assert [file.name for file in tmp_path.iterdir()] == ["one"]


def test_overwrite_replaces_the_whole_folder(toy, tmp_path):
    folder = tmp_path / "one"
    explain(toy, array(0)).save(folder)
    (folder / "stale.txt").write_text("old")
    newer = explain(toy, array(1), maps=["active"])
    newer.save(folder, overwrite=True)
    assert sorted(file.name for file in folder.iterdir()) == FILES
    assert np.array_equal(Explanation.load(folder).pixels, newer.pixels)
    assert list(Explanation.load(folder).maps) == ["active"]
    assert [file.name for file in tmp_path.iterdir()] == ["one"]


@pytest.mark.parametrize("kind", ["folder", "empty", "file", "dangling link"])
def test_what_is_not_ours_is_never_overwritten(toy, tmp_path, kind):
    place = tmp_path / "thesis"
    if kind == "file":
        place.write_text("years of work")
    elif kind == "dangling link":
        place.symlink_to(tmp_path / "elsewhere")
    else:
        place.mkdir()
    if kind == "folder":
        (place / "figure.png").write_text("years of work")
    with pytest.raises(ResultError, match=r"thesis holds no explanation.json: not one of ours"):
        explain(toy, array()).save(place, overwrite=True)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis"]
    if kind == "folder":
        assert snapshot(place) == {"figure.png": b"years of work"}
    if kind == "file":
        assert place.read_text() == "years of work"


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (OSError(28, "No space left on device"), ResultError, "cannot be written .No space left"),
        (KeyboardInterrupt("stop"), KeyboardInterrupt, "stop"),
        (MemoryError("out of memory"), MemoryError, "out of memory"),
    ],
    ids=["disk", "interrupt", "memory"],
)
def test_a_failure_while_writing_leaves_nothing_behind(
    toy, tmp_path, monkeypatch, error, raised, message, overwrite
):
    found = explain(toy, array())
    folder = tmp_path / "one"
    if overwrite:
        explain(toy, array(1)).save(folder)
    before = snapshot(folder) if overwrite else None

    def fail(sheet, path):
        path.write_bytes(b"half a picture")
        raise error

    monkeypatch.setattr(storage, "draw_figure", fail)
    with pytest.raises(raised, match=message):
        found.save(folder, overwrite=overwrite)
    assert [file.name for file in tmp_path.iterdir()] == (["one"] if overwrite else [])
    if overwrite:
        assert snapshot(folder) == before


def test_a_place_that_cannot_be_written_is_a_result_error(toy, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ResultError, match=r"one: cannot be written \(Not a directory\)"):
        explain(toy, array()).save(tmp_path / "file" / "one")


def changed(**parts):
    def change(folder):
        about = json.loads((folder / "explanation.json").read_text())
        (folder / "explanation.json").write_text(json.dumps(about | parts))

    return change


def without(key):
    def change(folder):
        about = json.loads((folder / "explanation.json").read_text())
        del about[key]
        (folder / "explanation.json").write_text(json.dumps(about))

    return change


def text(content):
    return lambda folder: (folder / "explanation.json").write_bytes(content)


def arrays(content):
    return lambda folder: (folder / "maps.npz").write_bytes(content)


def pickled(folder):
    with np.load(folder / "maps.npz") as stored:
        parts = dict(stored)
    np.savez(folder / "maps.npz", **(parts | {"pixels": np.array([{"a": 1}], dtype=object)}))


def flipped(folder):
    data = bytearray((folder / "maps.npz").read_bytes())
    for place in range(200, 260):
        data[place] ^= 0xFF
    (folder / "maps.npz").write_bytes(data)


def cut(folder):
    data = (folder / "maps.npz").read_bytes()
    (folder / "maps.npz").write_bytes(data[: len(data) // 2])


def lost(name):
    return lambda folder: (folder / name).unlink()


NOT_THERE = "no explanation there"
NOT_READABLE = "not a readable explanation"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lost("explanation.json"), NOT_THERE),
        (lost("maps.npz"), NOT_THERE),
        (text(b"{"), NOT_READABLE),
        (text(b""), NOT_READABLE),
        (text(b"\xff\xfe\x00"), NOT_READABLE),
        (text(b"[]"), NOT_READABLE),
        (text(b"null"), NOT_READABLE),
        (changed(schema="chiaroscuro-explanation/99"), r"schema 'chiaroscuro-explanation/99', exp"),
        (without("schema"), "schema None, expected"),
        (without("target"), NOT_READABLE),
        (changed(target={"index": 1}), NOT_READABLE),
        (changed(predictions=3), NOT_READABLE),
        (changed(labels=[]), NOT_READABLE),
        (changed(maps={"active": {"form": "computed"}}), NOT_READABLE),
        (changed(maps={"nothing": {}}), NOT_READABLE),
        (pickled, NOT_READABLE),
        (flipped, NOT_READABLE),
        (cut, NOT_READABLE),
        (arrays(b""), NOT_READABLE),
        (arrays(b"not a zip"), NOT_READABLE),
    ],
    ids=[
        "no json", "no arrays", "broken json", "empty json", "binary json", "list", "null",
        "newer schema", "no schema", "no target", "half a target", "predictions", "labels",
        "half the facts", "unknown map", "pickle", "flipped bits", "cut zip", "empty zip", "text",
    ],
)  # fmt: skip
def test_what_is_not_an_explanation_is_a_result_error(toy, tmp_path, damage, message):
    folder = tmp_path / "one"
    explain(toy, array(), maps=["active"]).save(folder)
    damage(folder)
    with pytest.raises(ResultError, match=message):
        Explanation.load(folder)


def test_a_missing_folder_is_a_result_error(tmp_path):
    with pytest.raises(ResultError, match="nothing: no explanation there"):
        Explanation.load(tmp_path / "nothing")


def test_a_map_of_zeros_has_limits_of_zero_and_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "draw_figure", draw_figure)
    weights = torch.ones(3, 3, 12, 12) * torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1)
    found = explain(Classifier(Linear(weights)), array(), target=1, maps=["active", "signed"])
    assert not found.maps["active"].any()
    assert found.color_limits() == {"active": (0.0, 0.0), "signed": (0.0, 0.0)}
    assert found.facts["active"].support_pixels == 0
    found.save(tmp_path / "zero")
    with Image.open(tmp_path / "zero" / "figure.png") as figure:
        assert figure.width == 1860
    assert "active 0 (smoothed 0)" in (tmp_path / "zero" / "index.html").read_text()


def test_color_limits_clip_the_largest_sizes(toy):
    found = explain(toy, array(), maps=["active", "signed", "winner"])
    limits = found.color_limits()
    assert set(limits) == {"active", "signed"}
    sizes = np.abs(found.maps["signed"][found.maps["signed"] != 0])
    assert limits["signed"][0] == pytest.approx(np.quantile(sizes, 0.99))
    assert 0 < limits["active"][1] <= found.maps["active"].max()


def test_given_limits_are_drawn_and_written_down(toy, tmp_path):
    found = explain(toy, array(), maps=["active"])
    found.save(tmp_path / "one", limits={"active": (123.5, 45.25)})
    about = json.loads((tmp_path / "one" / "explanation.json").read_text())
    assert about["display"]["limits"] == {"active": [123.5, 45.25]}
    assert about["display"]["scale"] == "shared"


# again


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"target": "dog", "rivals": ["cat", 4], "maps": list(choices.MAPS)},
        {"rivals": "top:2", "score": "log-probability", "fit": "stretch", "maps": ["winner"]},
        {"target": 1, "fit": "pad", "maps": ["signed", "margin"]},
    ],
    ids=["defaults", "named", "top", "pad"],
)
def test_again_is_the_same(spec, photo, tmp_path, options):
    found = explain(spec, photo, **options)
    found.save(tmp_path / "one")
    before = snapshot(tmp_path / "one")
    made, differences = explain_again(tmp_path / "one")
    assert differences.same
    assert differences.facts == ()
    assert differences.logits == 0
    assert differences.maps == dict.fromkeys(found.maps, 0.0)
    assert made.choices["rivals"] == found.choices["rivals"]
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
    made, differences = explain_again(tmp_path / "one", toy)
    assert np.array_equal(made.pixels, found.pixels)
    assert differences.facts == (), "nothing that could be read again is gone"
    assert differences.same


def test_an_array_is_not_mistaken_for_a_file_of_that_name(toy, tmp_path, monkeypatch):
    explain(toy, array()).save(tmp_path / "one")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "array").write_text("some file of the user's")
    _, differences = explain_again(tmp_path / "one", toy)
    assert differences.same


def overwritten(path):
    picture(20, 14, seed=9).save(path)


def unreadable(path):
    path.write_text("no longer a picture")


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (overwritten, r"photo .*a b.png has changed: the saved pixels were explained"),
        (unreadable, r"photo .*a b.png has changed: the saved pixels were explained"),
        (lambda path: path.unlink(), r"photo .*a b.png is gone: the saved pixels were explained"),
    ],
    ids=["changed", "unreadable", "gone"],
)
def test_again_with_a_photo_that_is_not_the_same(spec, photo, tmp_path, change, fact):
    found = explain(spec, photo)
    found.save(tmp_path / "one")
    change(photo)
    made, differences = explain_again(tmp_path / "one")
    (said,) = differences.facts
    assert re.fullmatch(fact, said)
    assert np.array_equal(made.pixels, found.pixels)
    assert differences.logits == 0
    assert differences.maps == dict.fromkeys(found.maps, 0.0)


def test_again_with_other_weights_is_different(toy, tmp_path):
    explain(toy, array()).save(tmp_path / "one")
    other = copy.deepcopy(toy)
    with torch.no_grad():
        other.module[-1].weight.mul_(1.5)
    _, differences = explain_again(tmp_path / "one", other)
    assert not differences.same
    assert differences.logits > 0.01
    assert differences.maps["original"] == pytest.approx(0.5, abs=0.02)


def test_again_with_other_logits_alone_is_different(tmp_path):
    """`same` promises that target, logits and maps agree; a bias moves the logits alone."""
    weights = random_pixels(3, 3, 12, 12) - 0.5
    one = Classifier(Linear(weights), name="linear")
    other = Classifier(Linear(weights, torch.full((3,), 5.0).double()), name="linear")
    explain(one, array()).save(tmp_path / "one")
    _, differences = explain_again(tmp_path / "one", other)
    assert differences.logits > 0.1
    assert max(differences.maps.values()) == 0
    assert not differences.same


def test_again_with_rounding_is_the_same(toy, tmp_path):
    explain(toy, array()).save(tmp_path / "one")
    other = copy.deepcopy(toy)
    with torch.no_grad():
        other.module[-1].weight.mul_(1 + 1e-6)
    _, differences = explain_again(tmp_path / "one", other)
    assert differences.same
    assert 0 < max(differences.maps.values()) < 1e-5


def test_again_with_another_predicted_class_says_so(toy, tmp_path):
    found = explain(toy, array())
    found.save(tmp_path / "one")
    other = copy.deepcopy(toy)
    with torch.no_grad():
        other.module[-1].bias[(found.target.index + 1) % 5] += 1000
    made, differences = explain_again(tmp_path / "one", other)
    said = f"explained class: {found.target.label} then, {made.target.label} now"
    assert said in differences.facts
    assert not differences.same


def test_again_with_another_number_of_classes_says_so(toy, tmp_path):
    explain(toy, array(), target=0).save(tmp_path / "one")
    other = Classifier(small_cnn(4).double(), mean=0.5, std=0.25, size=12)
    _, differences = explain_again(tmp_path / "one", other)
    assert "classes: 5 then, 4 now" in differences.facts
    assert differences.logits is None
    assert not differences.same


def test_again_with_another_normalisation_says_so(toy, tmp_path):
    explain(toy, array()).save(tmp_path / "one")
    other = copy.deepcopy(toy)
    other.std = (0.5,) * 3
    _, differences = explain_again(tmp_path / "one", other)
    assert "model std: [0.25, 0.25, 0.25] then, [0.5, 0.5, 0.5] now" in differences.facts
    assert not differences.same


def test_other_versions_are_said_but_are_no_difference(toy, tmp_path):
    found = explain(toy, array())
    found.save(tmp_path / "one")
    changed(versions={**found.versions, "torch": "1.0", "left": "2.0"})(tmp_path / "one")
    _, differences = explain_again(tmp_path / "one", toy)
    assert differences.facts == (
        "version of left: 2.0 then, None now",
        f"version of torch: 1.0 then, {found.versions['torch']} now",
    )
    assert differences.same


def test_a_class_map_differs_by_its_share_of_pixels(toy, tmp_path):
    explain(toy, array(), maps=["winner"]).save(tmp_path / "one")
    with np.load(tmp_path / "one" / "maps.npz") as stored:
        parts = dict(stored)
    parts["map_winner"][:3] = 99
    np.savez(tmp_path / "one" / "maps.npz", **parts)
    _, differences = explain_again(tmp_path / "one", toy)
    assert differences.maps == {"winner": 0.25}
    assert not differences.same


def test_again_needs_a_model_that_can_be_loaded_by_its_name(toy, tmp_path):
    explain(toy, array()).save(tmp_path / "one")
    with pytest.raises(ModelError, match=r"the model 'Sequential' .* hand the classifier in"):
        explain_again(tmp_path / "one")


def test_again_in_a_folder_without_an_explanation(tmp_path, toy):
    with pytest.raises(ResultError, match="no explanation there"):
        explain_again(tmp_path, toy)


# many photos


@pytest.fixture
def album(tmp_path):
    folder = tmp_path / "album"
    folder.mkdir()
    for seed, name in enumerate(["a", "b", "c"]):
        picture(seed=seed).save(folder / f"{name}.png")
    return folder


def jobs(paths, **options):
    return [(path, {"maps": ["active"], **options}) for path in paths]


def display(folder):
    return json.loads((folder / "explanation.json").read_text())["display"]


def test_a_bad_photo_does_not_stop_the_others(toy, album, tmp_path):
    (album / "b.png").write_text("no picture")
    seen = []
    outcomes = list(
        explain_files(
            toy, jobs(sorted(album.iterdir())), tmp_path / "out", on_image=lambda *n: seen.append(n)
        )
    )
    assert [outcome.source.name for outcome in outcomes] == ["a.png", "b.png", "c.png"]
    assert [outcome.error is None for outcome in outcomes] == [True, False, True]
    assert isinstance(outcomes[1].error, ImageError)
    assert "b.png: not a picture in a format that Pillow reads" in str(outcomes[1].error)
    assert outcomes[1].folder is None
    assert [(done, total, path.name) for done, total, path in seen] == [
        (0, 3, "a.png"), (1, 3, "b.png"), (2, 3, "c.png"),
    ]  # fmt: skip
    names = sorted(entry.name for entry in (tmp_path / "out").iterdir())
    assert names == ["a", "c", "index.html"]
    for outcome in (outcomes[0], outcomes[2]):
        alone = explain(toy, outcome.source, maps=["active"])
        loaded = Explanation.load(outcome.folder)
        assert np.array_equal(loaded.maps["active"], alone.maps["active"])
        assert outcome.about == json.loads((outcome.folder / "explanation.json").read_text())


def test_the_gallery_links_every_explanation_of_the_folder(toy, album, tmp_path):
    out = tmp_path / "out"
    list(explain_files(toy, jobs([album / "b.png"]), out))
    list(explain_files(toy, jobs([album / "a.png"]), out))
    page = (out / "index.html").read_text()
    assert 'href="a/index.html"' in page
    assert 'href="b/index.html"' in page
    assert page.index('href="a/') < page.index('href="b/')
    assert "a.png: why" in page


@pytest.mark.parametrize("content", ["{", "[]", '{"schema": "other"}'])
def test_a_strange_folder_in_the_way_does_not_break_the_gallery(toy, album, tmp_path, content):
    strange = tmp_path / "out" / "strange"
    strange.mkdir(parents=True)
    (strange / "explanation.json").write_text(content)
    (outcome,) = explain_files(toy, jobs([album / "a.png"]), tmp_path / "out")
    assert outcome.error is None
    assert 'href="a/index.html"' in (tmp_path / "out" / "index.html").read_text()
    assert (strange / "explanation.json").read_text() == content


def test_photos_with_one_stem_get_folders_of_their_own(toy, album, tmp_path):
    (album / "more").mkdir()
    picture(seed=5).save(album / "more" / "a.png")
    picture(seed=6).save(album / "a.bmp")
    paths = [album / "a.png", album / "more" / "a.png", album / "a.bmp"]
    outcomes = list(explain_files(toy, jobs(paths), tmp_path / "out"))
    assert [outcome.folder.name for outcome in outcomes] == ["a", "a-2", "a-3"]
    sources = [Explanation.load(outcome.folder).image.source for outcome in outcomes]
    assert sources == [str(path) for path in paths]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_photo_named_like_a_numbered_folder_keeps_its_own(toy, album, tmp_path, overwrite):
    (album / "more").mkdir()
    paths = [album / "a-2.png", album / "a.png", album / "more" / "a.png"]
    for seed, path in enumerate(paths):
        picture(seed=seed).save(path)
    outcomes = list(explain_files(toy, jobs(paths), tmp_path / "out", overwrite=overwrite))
    assert [outcome.error for outcome in outcomes] == [None] * 3
    sources = [Explanation.load(outcome.folder).image.source for outcome in outcomes]
    assert sources == [str(path) for path in paths]


def test_a_shared_scale_draws_all_on_the_largest_limits(toy, album, tmp_path):
    paths = sorted(album.iterdir())
    own = [explain(toy, path, maps=["active"]).color_limits()["active"] for path in paths]
    list(explain_files(toy, jobs(paths), tmp_path / "out", scale="shared"))
    expected = [max(fine for fine, _ in own), max(soft for _, soft in own)]
    assert len({fine for fine, _ in own}) == 3, "the images differ, so sharing shows"
    for path in paths:
        shown = display(tmp_path / "out" / path.stem)
        assert shown["scale"] == "shared"
        assert shown["limits"] == {"active": expected}
    assert sorted(f.name for f in (tmp_path / "out").iterdir()) == ["a", "b", "c", "index.html"]


def test_a_scale_per_image_keeps_each_images_limits(toy, album, tmp_path):
    paths = sorted(album.iterdir())
    list(explain_files(toy, jobs(paths), tmp_path / "out"))
    for path in paths:
        shown = display(tmp_path / "out" / path.stem)
        assert shown["scale"] == "image"
        own = explain(toy, path, maps=["active"]).color_limits()["active"]
        assert shown["limits"] == {"active": list(own)}


def test_an_existing_folder_is_an_outcome_and_the_others_are_done(toy, album, tmp_path):
    out = tmp_path / "out"
    list(explain_files(toy, jobs([album / "a.png"]), out))
    before = snapshot(out / "a")
    outcomes = list(explain_files(toy, jobs([album / "a.png", album / "b.png"], target=1), out))
    assert isinstance(outcomes[0].error, ResultError)
    assert "a exists already: choose another place, or overwrite (--force)" in str(
        outcomes[0].error
    )
    assert outcomes[1].error is None
    assert snapshot(out / "a") == before
    again = list(explain_files(toy, jobs([album / "a.png"], target=1), out, overwrite=True))
    assert again[0].error is None
    assert Explanation.load(out / "a").target.index == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "zebra"}, "unknown class 'zebra'"),
        ({"target": 7}, r"class 7 is out of range: expected 0\.\.4"),
        ({"rivals": ["dog", "zebra"]}, "unknown class 'zebra'"),
    ],
)
def test_an_unknown_class_raises_before_any_work(toy, album, tmp_path, options, message):
    seen = []
    with pytest.raises(ChoiceError, match=message):
        list(
            explain_files(
                toy,
                [*jobs([album / "a.png"]), *jobs([album / "b.png"], **options)],
                tmp_path / "out",
                on_image=lambda *n: seen.append(n),
            )
        )
    assert not seen
    assert not (tmp_path / "out").exists()


def test_a_failing_model_leaves_no_trace(album, tmp_path):
    (outcome,) = explain_files(
        Classifier(Broken(float("nan")), size=12), jobs([album / "a.png"]), tmp_path / "out"
    )
    assert isinstance(outcome.error, ModelError)
    assert isinstance(outcome.error, ChiaroscuroError)
    assert "NaN or infinite" in str(outcome.error)
    assert not (tmp_path / "out").exists()
