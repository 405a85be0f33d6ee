"""An explanation's folder and back."""

import dataclasses
import re
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

from chiaroscuro import (
    Classifier,
    Explanation,
    ResultError,
    choices,
    compare,
    explain,
    results,
    what_if,
)
from chiaroscuro.render.sheets import save_sheet
from chiaroscuro.report import explanation as view
from chiaroscuro.report.explanation import color_limits, map_panels
from chiaroscuro.results import FIGURE, KINDS, PAGE, verify
from chiaroscuro.results.folders import Marker, write_marker
from chiaroscuro.results.kinds import imported
from chiaroscuro.results.store import ARRAYS
from tests.explanations.inputs import array, snapshot
from tests.toys import Linear

MARKER = "chiaroscuro-explanation.json"
FILES = ["arrays.npz", MARKER, "index.html", "overview.webp"]


def test_the_folder_holds_exactly_these_files(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(view, "save_sheet", save_sheet)
    folder = tmp_path / "new" / "deeper" / "one"
    found = explain(toy, array(), maps=choices.MAPS)
    assert found.save(folder) == folder
    assert sorted(file.name for file in folder.iterdir()) == FILES
    assert [file.name for file in folder.parent.iterdir()] == ["one"], "nothing left behind"
    with Image.open(folder / "overview.webp") as small:
        assert small.size == (5 * 160 + 4 * 6, 160)
    assert found.save(folder, overwrite=True, figure=True) == folder
    assert sorted(file.name for file in folder.iterdir()) == sorted([*FILES, "figure.png"])
    with Image.open(folder / "figure.png") as figure:
        assert figure.format == "PNG"
        assert len(figure.convert("L").getcolors()) > 50
    with np.load(folder / "arrays.npz") as arrays:
        maps = {f"maps.{name}" for name in found.maps}
        assert set(arrays.files) == {"pixels", "photo", "logits", *maps}
    assert verify(folder) == []


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
    found.save(tmp_path / "one", figure=True)
    loaded = Explanation.load(tmp_path / "one")
    assert_equal(found, loaded)
    loaded.save(tmp_path / "two", figure=True)
    assert_equal(found, Explanation.load(tmp_path / "two"))
    for name in (MARKER, "figure.png", "index.html", "overview.webp"):
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
    newer = explain(toy, array(1), maps=["active"])
    newer.save(folder, overwrite=True)
    assert sorted(file.name for file in folder.iterdir()) == FILES
    assert np.array_equal(Explanation.load(folder).pixels, newer.pixels)
    assert list(Explanation.load(folder).maps) == ["active"]
    assert [file.name for file in tmp_path.iterdir()] == ["one"]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_not_ours_is_never_overwritten(toy, tmp_path, kind):
    place = tmp_path / "thesis"
    if kind == "file":
        place.write_text("years of work")
    else:
        place.mkdir()
    if kind == "folder":
        (place / "figure.png").write_text("years of work")
    with pytest.raises(ResultError, match=r"thesis is not a chiaroscuro result"):
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

    monkeypatch.setattr(view, "save_sheet", fail)
    with pytest.raises(raised, match=message):
        found.save(folder, overwrite=overwrite, figure=True)
    assert [file.name for file in tmp_path.iterdir()] == (["one"] if overwrite else [])
    if overwrite:
        assert snapshot(folder) == before


def test_a_place_that_cannot_be_written_is_a_result_error(toy, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ResultError, match=r"one: cannot be written \(.*file is not a folder\)"):
        explain(toy, array()).save(tmp_path / "file" / "one")


def test_another_kind_of_result_is_no_explanation(toy, tmp_path):
    what_if(toy, array()).save(tmp_path / "one")
    with pytest.raises(ResultError, match="one: no explanation there"):
        Explanation.load(tmp_path / "one")


@pytest.mark.parametrize("field", ["target", "choices", "facts", "model"])
def test_a_marker_that_lacks_a_field_or_was_changed_is_an_error(toy, tmp_path, field):
    folder = tmp_path / "one"
    explain(toy, array(), maps=["active"]).save(folder)
    held = msgspec.json.decode((folder / MARKER).read_bytes(), type=Marker)
    less = {name: value for name, value in held.result.items() if name != field}
    write_marker(folder, KINDS["explanation"], dataclasses.replace(held, result=less))
    with pytest.raises(ResultError, match=rf"not a readable explanation .*{field}"):
        Explanation.load(folder)
    text = (folder / MARKER).read_text().replace('"active"', '"inactive"')
    (folder / MARKER).write_text(text)
    with pytest.raises(ResultError, match="is damaged, or was changed"):
        Explanation.load(folder)


def test_a_missing_folder_is_a_result_error(tmp_path):
    with pytest.raises(ResultError, match="nothing: no explanation there"):
        Explanation.load(tmp_path / "nothing")


def test_a_map_of_zeros_has_limits_of_zero_and_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(view, "save_sheet", save_sheet)
    weights = torch.ones(3, 3, 12, 12) * torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1)
    found = explain(Classifier(Linear(weights)), array(), target=1, maps=["active", "signed"])
    assert not found.maps["active"].any()
    assert color_limits(found) == {"active": (0.0, 0.0), "signed": (0.0, 0.0)}
    assert found.facts["active"].support_pixels == 0
    found.save(tmp_path / "zero", figure=True)
    with Image.open(tmp_path / "zero" / "figure.png") as figure:
        assert figure.width == 1860
    assert "active 0 (smoothed 0)" in (tmp_path / "zero" / "index.html").read_text()


def test_color_limits_clip_the_largest_sizes(toy):
    found = explain(toy, array(), maps=["active", "signed", "winner"])
    limits = color_limits(found)
    assert set(limits) == {"active", "signed"}
    sizes = np.abs(found.maps["signed"][found.maps["signed"] != 0])
    assert limits["signed"][0] == pytest.approx(np.quantile(sizes, 0.99))
    assert 0 < limits["active"][1] <= found.maps["active"].max()


def test_given_limits_are_drawn_and_written_down(toy, tmp_path):
    found = explain(toy, array(), maps=["active"])
    own, given = color_limits(found)["active"], (123.5, 45.25)
    assert map_panels(found)[0].fine.max() == 255, "its own limits are reached"
    shared = dataclasses.replace(found, color_limits={"active": given})
    assert map_panels(shared)[0].fine.max() < 255 * own[0]
    shared.save(tmp_path / "one")
    assert Explanation.load(tmp_path / "one").color_limits == {"active": given}
    page = (tmp_path / "one" / "index.html").read_text()
    assert "active 124 (smoothed 45.2)" in page
    assert "One color scale for all images" in page


def test_every_marker_schema_and_file_name_is_written_once():
    """Whatever a folder of ours is known by stands in the table of kinds, and nowhere else."""
    source = Path(results.__file__).parent
    names = [kind.name for kind in KINDS.values()]
    words = "|".join(map(re.escape, names))
    wrong = re.compile(rf'"chiaroscuro-({words})/|"({words})\.json"|"chiaroscuro-[\w-]+\.json"')
    found = []
    for path in source.parent.rglob("*.py"):
        text = path.read_text()
        found += [f"{path}: {match[0]}" for match in wrong.finditer(text)]
        if path.parent != source:
            found += [f"{path}: {n}" for n in (FIGURE, PAGE, ARRAYS) if f'"{n}"' in text]
    assert found == []
    for kind in KINDS.values():
        assert not kind.view or (imported(kind.type) and imported(kind.view)), kind.name


def test_a_repr_is_short_and_names_image_class_and_maps(toy):
    found = explain(toy, array(), target="dog", maps=["active", "signed"])
    share = f"{100 * found.target.probability:.1f}"
    assert repr(found) == (
        f"<Explanation of array: dog {share} %, rivals all, gradient, 12 x 12 px; "
        "maps active, signed>"
    )
    assert len(repr(what_if(toy, array()))) < 200
    assert len(repr(compare([toy, toy], array()))) < 200
