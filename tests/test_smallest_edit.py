"""`smallest_edit` of one image: what it returns, says, writes and refuses."""

import dataclasses
import re

import numpy as np
import pytest
import torch
from PIL import Image

from chiaroscuro import Classifier, Region, SmallestEdit, load_result, smallest_edit, smallest_edits
from chiaroscuro.errors import ChoiceError, ImageError
from chiaroscuro.notebook import html
from chiaroscuro.report.smallest import sentences, smallest_sheet, units_text
from chiaroscuro.results import facts_of
from tests.toys import Linear, eager_net, random_pixels

NASTY = "<b>owl</b> & $x^2$"


@pytest.fixture
def toy():
    """A network of five classes for 12 px pictures, whose prediction a few pixels turn."""
    labels = ["crane, bird", "crane, machine", "cat, tabby", "dog", "cup, mug"]
    return Classifier(eager_net(3 * 12 * 12), size=12, labels=labels)


def image(side=12, seed=0):
    return random_pixels(side, side, 3, seed=seed, dtype=torch.float32).numpy()


def probabilities(toy, found, taken):
    start, end = found.pixels, found.changed
    return toy(torch.from_numpy(np.where(taken, end, start))[None]).softmax(dim=1)[0]


def test_it_is_the_batch_function_for_one_image(toy):
    found = smallest_edit(toy, image(), "white")
    pixels = torch.from_numpy(image()).permute(2, 0, 1)[None].double()
    batch = smallest_edits(toy, pixels, "white")
    (edit,) = found.edits
    assert found.reached and found.flipped and edit.minimal
    assert np.array_equal(edit.order, batch.order[0])
    assert np.array_equal(found.mask, batch.masks[0])
    assert (edit.gradients, edit.predictions) == (batch.gradients[0], batch.predictions[0])
    assert found.passes == batch.passes[0]
    assert found.after[0].index == batch.after[0] != found.before[0].index == batch.before[0]
    assert np.array_equal(found.edited(), np.where(found.mask, 1.0, found.pixels))


def test_the_path_is_that_of_real_predictions(toy):
    found = smallest_edit(toy, image(), "white")
    (edit,) = found.edits
    assert edit.steps[0] == 0 and edit.steps[-1] == edit.units
    own, new = found.before[0].index, found.after[0].index
    for step, before, after in zip(edit.steps, edit.path, edit.path_rival, strict=True):
        chances = probabilities(toy, found, found.mask & (edit.order <= step))
        assert (before, after) == pytest.approx((float(chances[own]), float(chances[new])))
        assert (int(chances.argmax()) == new) == (step == edit.units)


def test_the_rival_of_a_kept_class_is_the_one_that_wins_without_it(toy):
    found = smallest_edit(toy, image(), "white", keep=True)
    (edit,) = found.edits
    without = probabilities(toy, found, np.zeros_like(found.mask) == 0)
    assert edit.units and edit.rival == toy.label(int(without.argmax())) != found.before[0].label
    assert edit.path_rival[0] == pytest.approx(float(without.max()))
    assert edit.path_rival[0] > edit.path[0] and edit.path_rival[-1] < edit.path[-1]
    *_, chart = smallest_sheet(found).rows[-1].cells
    assert [curve.name for curve in chart.curves] == [found.before[0].label, edit.rival]


def test_the_chosen_class_wins(toy):
    own = smallest_edit(toy, image(), "white").before[0].index
    for goal in range(5):
        if goal == own:
            with pytest.raises(ChoiceError, match="that class is predicted already"):
                smallest_edit(toy, image(), "white", goal)
            continue
        found = smallest_edit(toy, image(), "white", to=goal)
        assert found.reached == (found.after[0].index == goal)
        assert found.choices.to == toy.label(goal)
    named = smallest_edit(toy, image(), "white", "tabby")
    assert named.choices.to == "cat, tabby"


def test_kept_pixels_alone_keep_it(toy):
    found = smallest_edit(toy, image(), "black", keep=True)
    assert found.reached and not found.flipped
    assert np.array_equal(found.edited(), np.where(found.mask, found.pixels, 0.0))
    for unit in range(1, found.edits[0].units + 1):
        kept = found.mask & (found.edits[0].order != unit)
        assert int(probabilities(toy, found, ~kept).argmax()) != found.before[0].index
    with pytest.raises(ChoiceError, match="keep and to are given"):
        smallest_edit(toy, image(), "black", 1, keep=True)


def test_several_edits_share_no_pixel(toy):
    found = smallest_edit(toy, image(), "white", edits=3)
    assert len(found.edits) == 3 and all(edit.reached for edit in found.edits)
    assert sum(edit.mask.astype(int) for edit in found.edits).max() == 1
    assert "Other pixels turn it too: " in " ".join(sentences(found))
    rows = found.to_frame()
    assert rows["pixels"].tolist() == [int(edit.mask.sum()) for edit in found.edits]
    many = smallest_edit(toy, image(), "white", edits=60, cells=6)
    assert 1 <= len(many.edits) < 60
    assert any("edits were found" in note for note in many.notes)


def test_cells_are_counted_and_said(toy):
    found = smallest_edit(toy, image(), "white", cells=4)
    (edit,) = found.edits
    assert edit.mask.sum() == 16 * edit.units
    said = units_text(found, edit)
    cells = "cell" if edit.units == 1 else "cells"
    assert said == f"{edit.units} {cells} of 4 x 4 pixels ({16 * edit.units} of 144 pixels)"
    superpixels = smallest_edit(toy, image(), "white", cells="superpixels:4")
    assert re.match(r"\d+ superpixels? \(", units_text(superpixels, superpixels.edits[0]))


def test_what_cannot_be_turned_is_said_plainly(tmp_path):
    weights = torch.zeros(3, 3, 12, 12)
    constant = Classifier(Linear(weights, torch.arange(3.0)), labels=["cat", "dog", "owl"])
    found = smallest_edit(constant, image())
    assert not (found.reached or found.flipped or found.mask.any())
    assert sentences(found)[0].startswith("No edit was found that makes another class win: owl")
    assert found.after == found.before
    asked = smallest_edit(constant, image(), edits=3)
    assert asked.passes == found.passes  # what is not found once is not searched again
    aimed = smallest_edit(constant, image(), "black", to="cat")
    assert "makes cat win" in sentences(aimed)[0]
    found.save(tmp_path / "out")
    assert "No edit was found" in (tmp_path / "out" / "index.html").read_text()
    assert "nothing found to turn it" in repr(found)
    kept = smallest_edit(constant, image(), "black", keep=True)
    assert "No pixel of the image is needed for it." in sentences(kept)


def test_an_unproved_edit_is_said_to_be_one(toy):
    found = smallest_edit(toy, image(), "white")
    edit = dataclasses.replace(found.edits[0], minimal=False)
    said = " ".join(sentences(dataclasses.replace(found, edits=(edit,))))
    assert "The budget ended before each was tested" in said and "is needed:" not in said
    assert "are needed" not in said


def test_one_cell_that_holds_all_pixels_is_a_note(toy):
    found = smallest_edit(toy, image(), "white", cells=500)
    assert "one cell of 500 holds all 12 x 12 pixels: give smaller cells" in found.notes
    assert not smallest_edit(toy, image(), "white", cells=11).notes


def test_a_low_path_of_the_probability_fills_its_chart(toy):
    found = smallest_edit(toy, image(), "white")
    edit = dataclasses.replace(found.edits[0], path=(0.0, 0.05), path_rival=(0.01, 0.02))
    _, chart = smallest_sheet(dataclasses.replace(found, edits=(edit,))).rows[-1].cells
    assert chart.y_limits == pytest.approx((-0.001, 0.0515))


def test_nothing_to_change_is_a_note(toy):
    found = smallest_edit(toy, np.zeros((12, 12, 3), np.float32), "black")
    assert not found.reached and "black changes no pixel of this image" in found.notes


@pytest.fixture
def saved(tmp_path):
    labels = ["cat", "dog", NASTY]
    weights = random_pixels(3, 3, 4, 5, seed=3) - 0.5
    classifier = Classifier(Linear(weights), labels=labels, name="linear " + NASTY)
    found = smallest_edit(classifier, random_pixels(4, 5, 3).numpy(), "white", edits=2)
    return found, found.save(tmp_path / "result")


def test_the_folder_holds_figure_page_and_every_number(saved):
    found, folder = saved
    assert sorted(file.name for file in folder.iterdir()) == [
        "arrays.npz", "chiaroscuro-smallest-edit.json", "figure.png", "index.html",
    ]  # fmt: skip
    loaded = SmallestEdit.load(folder)
    assert facts_of(loaded) == facts_of(found) == facts_of(load_result(folder))
    for name in ("pixels", "changed", "logits"):
        assert np.array_equal(getattr(loaded, name), getattr(found, name))
    for one, other in zip(loaded.edits, found.edits, strict=True):
        assert np.array_equal(one.order, other.order) and one.steps == other.steps
    page = (folder / "index.html").read_text()
    assert NASTY not in page and "&lt;b&gt;owl" in page
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "Smaller edits may exist" in page
    with Image.open(folder / "figure.png") as figure:
        assert figure.size[0] > 1500


def test_pictures_show_what_is_said(saved):
    found, _ = saved
    for row, edit in zip(smallest_sheet(found).rows, found.edits, strict=False):
        before, after, marked = (cell.pixels for cell in row.cells)
        differs = (before != after).any(axis=2)
        assert np.array_equal(differs, edit.mask)
        times = marked.shape[0] // 4
        large = before.repeat(times, axis=0).repeat(times, axis=1)
        lines = (marked != large).any(axis=2).reshape(4, times, 5, times).any(axis=(1, 3))
        assert np.array_equal(lines, edit.mask)


def test_a_notebook_shows_it(saved):
    shown = html(saved[0])
    assert "what turns" in shown and "<script" not in shown
    assert "SmallestEdit of" in repr(saved[0])


def test_regions_channels_and_volumes(tmp_path):
    torch.manual_seed(0)
    dense = Classifier(torch.nn.Conv2d(6, 4, 3, padding=1), channels=6, shown=(3, 2, 1))
    pixels = random_pixels(6, 10, 8, dtype=torch.float32)
    found = smallest_edit(dense, pixels, "black", region=Region.box(0, 0, 4, 4))
    assert found.region is not None and found.reached
    assert not found.mask[6:].any() and not found.mask[:, 6:].any()  # the scores see no more
    found.save(tmp_path / "region")
    weights = torch.randn(3, 1, 4, 6, 5)

    class Volume(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weights = torch.nn.Parameter(weights)

        def forward(self, x):
            return torch.einsum("kcdhw,bcdhw->bk", self.weights, x)

    volume = Classifier(Volume(), channels=1, volumes=True)
    found = smallest_edit(volume, random_pixels(1, 4, 6, 5, dtype=torch.float32), "white")
    assert found.mask.shape == (4, 6, 5)
    found.save(tmp_path / "volume")


def test_a_batch_of_two_is_refused(toy):
    with pytest.raises(ImageError, match="shape"):
        smallest_edit(toy, torch.rand(2, 3, 12, 12))
    for options, words in (
        ({"change": "gray"}, "unknown fill 'gray'"),
        ({"to": "emu"}, "unknown class 'emu'"),
        ({"edits": 0}, "edits is 0"),
        ({"budget": 0}, "budget is 0"),
        ({"cells": "2.5"}, "cells is '2.5'"),
        ({"fraction": 0.1}, "unknown option 'fraction'"),
    ):
        with pytest.raises(ChoiceError, match=words):
            smallest_edit(toy, image(), **options)
