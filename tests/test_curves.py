"""Curve and grid figures: the same bytes, fixed colors, bands where there are any."""

import io

import numpy as np
import pytest
from PIL import Image

from chiaroscuro.choices import RANKING_MAPS
from chiaroscuro.render import Curve, CurvePanel, CurveSpec, draw_curves, svg_text
from chiaroscuro.render.curves import line_style
from chiaroscuro.render.rows import GridSpec, draw_grid, hot

X = [0.0, 0.3, 0.6, 0.9]


def sheet(*names, band=True):
    down = [1.0, 0.6, 0.3, 0.2]
    ends = ([y - 0.1 for y in down], [y + 0.1 for y in down]) if band else ()
    curves = [Curve(name, X, [y + 0.05 * n for y in down], *ends) for n, name in enumerate(names)]
    panels = [CurvePanel("black-deletion", curves), CurvePanel("white-deletion", curves)]
    return CurveSpec("a title", "of 12 images", panels, "pixels deleted (%)", "kept")


def has_color(file, color):
    pixels = np.asarray(Image.open(file).convert("RGB")).reshape(-1, 3).astype(int)
    wanted = np.array([int(color[n : n + 2], 16) for n in (1, 3, 5)])
    return bool((np.abs(pixels - wanted).max(axis=1) < 12).any())


def test_the_same_sheet_gives_the_same_bytes(tmp_path):
    for suffix in ("png", "svg"):
        for name in ("one", "two"):
            draw_curves(sheet("original", "random"), tmp_path / f"{name}.{suffix}")
        one, two = (tmp_path / f"{name}.{suffix}" for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
    assert svg_text(sheet("original", "random")) == (tmp_path / "one.svg").read_text()


def test_each_name_has_its_own_look(tmp_path):
    names = [*RANKING_MAPS, "random", *(f"inverted:{name}" for name in RANKING_MAPS)]
    looks = [line_style(name) for name in names]
    assert len(set(looks)) >= len(names) - 2  # two inverted ones may share a hue and a dash
    assert line_style("inverted:positive")[0] == line_style("positive")[0]
    assert line_style("mine") == line_style("mine")
    draw_curves(sheet("positive"), tmp_path / "a.png")
    assert has_color(tmp_path / "a.png", line_style("positive")[0])
    assert not has_color(tmp_path / "a.png", line_style("negative")[0])


def test_bands_are_drawn_where_given(tmp_path):
    draw_curves(sheet("original"), tmp_path / "with.png")
    draw_curves(sheet("original", band=False), tmp_path / "without.png")
    with_, without = (np.asarray(Image.open(tmp_path / f"{n}.png")) for n in ("with", "without"))
    assert with_.shape == without.shape
    changed = (with_ != without).any(axis=2).mean()
    assert 0.01 < changed < 0.3


def test_the_svg_asks_nothing_of_the_network():
    text = svg_text(sheet("original", "positive"))
    assert "<image" not in text and 'href="http' not in text and "<script" not in text


@pytest.mark.parametrize("count", [1, 3])
def test_panels_may_be_few_or_many(tmp_path, count):
    panel = CurvePanel("a fill with $ and _", [Curve("a_map $x$", X, [1, 0.5, 0.2, 0.1])], "a note")
    made = CurveSpec("t $", "s", [panel] * count, "x", "y")
    draw_curves(made, tmp_path / "a.png")
    assert np.asarray(Image.open(tmp_path / "a.png")).shape[1] > 400


def test_hot_is_black_at_the_lowest_and_white_at_the_highest():
    picture = hot(np.array([[2.0, 3.0], [4.0, 6.0]]))
    assert picture[1, 1].tolist() == [255, 255, 255]
    assert picture[0, 0].max() < 30
    assert hot(np.full((2, 2), 5.0)).max() < 30
    assert picture.dtype == np.uint8 and picture.shape == (2, 2, 3)


def test_a_grid_shows_every_picture(tmp_path):
    colors = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30)]
    pictures = [np.full((8, 8, 3), color, np.uint8) for color in colors]
    rows = [("first", pictures[:2]), ("second $", pictures[2:])]
    draw_grid(GridSpec("t", ["image", "map"], rows, "f"), tmp_path / "g.png")
    for red, green, blue in colors:
        assert has_color(tmp_path / "g.png", f"#{red:02x}{green:02x}{blue:02x}")
    first = (tmp_path / "g.png").read_bytes()
    draw_grid(GridSpec("t", ["image", "map"], rows, "f"), tmp_path / "g.png")
    assert (tmp_path / "g.png").read_bytes() == first
    assert Image.open(io.BytesIO(first)).format == "PNG"
