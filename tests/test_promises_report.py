"""What the page says of what-ifs, and pictures that mark pixels."""

import numpy as np
import pytest

from chiaroscuro.render.pictures import OUTLINE, enlarged, outlined
from chiaroscuro.report.promises import promise_charts, promise_sentences, promise_tables
from tests.summaries import small_summary

STEPS = (0.1, 0.25, 0.5, 1.0)


def ends(value):
    return {"value": value, "low": value - 0.01, "high": value + 0.01}


def row(name, fill, step, direction):
    return {
        "map": name, "fill": fill, "step": step, "control": name == "random", "images": 1234,
        "direction": ends(direction), "kept": ends(0.4), "slope": ends(0.731),
        "correlation": None, "foretold": ends(-2.5), "real": ends(-1.25), "flipped": ends(0.77),
        "flip_foretold": ends(0.9),
    }  # fmt: skip


@pytest.fixture
def summary():
    found = small_summary()
    found["choices"]["what_if"] = 0.05
    shares = {"original": 0.63, "positive": 0.98, "random": 0.57}
    found["what_if"] = [
        row(name, fill, step, share)
        for fill in ("black", "white")
        for name, share in shares.items()
        for step in STEPS
    ]
    return found


def test_a_run_without_what_ifs_shows_none():
    assert promise_charts(small_summary()) == []
    assert promise_tables(small_summary()) == []
    assert list(promise_sentences(small_summary())) == []


def test_charts_are_the_rows(summary):
    charts = {name: sheet for name, _, sheet in promise_charts(summary)}
    assert list(charts) == ["what-if-direction", "what-if-kept", "what-if-flipped"]
    panels = charts["what-if-direction"].panels
    assert [panel.title for panel in panels] == ["black-deletion", "white-deletion"]
    positive = panels[0].curves[1]
    assert (positive.name, tuple(positive.x)) == ("positive", STEPS)
    assert list(positive.y) == [0.98] * 4
    assert list(positive.low) == pytest.approx([0.97] * 4)


def test_a_figure_without_a_value_is_left_out(summary):
    for one in summary["what_if"]:
        if one["map"] == "random":
            one["direction"] = None
    panel = promise_charts(summary)[0][2].panels[0]
    assert [curve.name for curve in panel.curves] == ["original", "positive"]
    assert list(promise_sentences(summary)) == []  # nothing to hold a map against


def test_the_whole_change_comes_first_and_open(summary):
    tables = promise_tables(summary)
    assert len(tables) == 8
    assert [table["open"] for table in tables] == [True] * 2 + [False] * 6
    assert tables[0]["title"] == "black-deletion, the whole change"
    assert tables[-1]["title"] == "white-deletion, 10 % of the change"
    name, images, cells = tables[0]["rows"][1]
    assert (name, images) == ("positive", "1,234")
    assert cells == [
        "98 % [97, 99]", "40 % [39, 41]", "0.73 [0.72, 0.74]", "none", "-2.50 [-2.51, -2.49]",
        "-1.25 [-1.26, -1.24]", "77 % [76, 78]", "90 % [89, 91]",
    ]  # fmt: skip
    assert len(cells) == len(tables[0]["columns"])


def test_sentences_name_the_best_map_and_chance(summary):
    first, _ = promise_sentences(summary)
    assert first == (
        "Black-deletion of the top 5 %: the target logit moves as first order foretells most "
        "often by positive, in 98 % [97, 99] of the images, by 0.73 [0.72, 0.74] of the foretold "
        "change; it flips 77 % [76, 78] of the predictions. A random order: 57 % [56, 58], flips "
        "77 % [76, 78]."
    )


def test_an_outline_lies_inside_its_region_and_leaves_its_middle():
    picture = np.full((4, 4, 3), 90, np.uint8)
    mask = np.zeros((4, 4), bool)
    mask[1:3, 1:3] = True  # one region of four pixels
    mask[0, 3] = True
    marked = outlined(picture, mask, side=64)
    line = (marked == OUTLINE).all(axis=2)
    assert marked.shape == (64, 64, 3)
    expected = np.zeros((64, 64), bool)
    expected[16:48, 16:48] = True
    expected[18:46, 18:46] = False  # no line between pixels that touch
    expected[0:16, 48:64] = True
    expected[2:14, 50:62] = False
    assert np.array_equal(line, expected)
    assert (marked[~line] == 90).all()


def test_large_pictures_stay_as_they_are_in_size():
    picture = np.zeros((900, 1200, 3), np.uint8)
    assert enlarged(picture).shape == picture.shape
    mask = np.zeros((900, 1200), bool)
    mask[5, 7] = True
    assert np.argwhere((outlined(picture, mask) == OUTLINE).all(axis=2)).tolist() == [[5, 7]]
