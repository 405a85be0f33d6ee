"""An explanation's folder and back."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from chiaroscuro import Classifier, Explanation, ResultError, choices, explain
from chiaroscuro.explanations import storage
from chiaroscuro.render import draw_figure
from tests.explanations.inputs import array, changed, snapshot
from tests.toys import Linear

FILES = ["explanation.json", "figure.png", "index.html", "maps.npz"]


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
