"""Figures: the same bytes, one look a name, every cell drawn, nobody's settings changed."""

import re
from concurrent.futures import ThreadPoolExecutor

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgba
from PIL import Image

from chiaroscuro import choices
from chiaroscuro.render import sheets
from chiaroscuro.render.sheets import (
    Bar,
    Bars,
    Chart,
    Curve,
    Legend,
    Picture,
    Row,
    Sheet,
    draw_sheet,
    hot,
    line_style,
    save_sheet,
)

X = choices.PAPER_FRACTIONS
NAMES = (*choices.RANKING_MAPS, "random")
GREEN = (1, 158, 115)
NASTY = {
    "dollar": r"$\frac{cat$ & $x_", "long": "a very long name " * 30, "unbroken": "nospaces" * 60,
    "markup": "<b>&amp;", "newline": "two\nlines", "empty": "", "hidden": "_x", "script": "猫",
}  # fmt: skip


def fall(name, speed=4.0, band=0.04):
    y = np.exp(-speed * np.array(X))
    low, high = (None, None) if band is None else (y - band, y + band)
    return Curve(name, X, y, low, high)


def chart(*curves, **changes):
    return Chart("p", curves or [fall("original"), fall("positive", 8.0)], "x", "y", **changes)


def sheet(*cells, **words):
    return Sheet([Row(cells, 3)], **({"title": "a net on a set"} | words))


def photo(height=12, width=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def plain(color, size=12):
    return np.full((size, size, 3), color, np.uint8)


def axes_of(cell):
    figure = sheets._figure(sheet(cell))
    return figure.axes[0]


def drawn(of, path):
    save_sheet(of, path)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def share_of(picture, color):
    return float((np.abs(picture.astype(int) - color).max(axis=-1) < 8).mean())


# charts


def test_the_same_sheet_gives_the_same_bytes(tmp_path):
    for name in "ab":
        save_sheet(sheet(chart()), tmp_path / f"{name}.png", tmp_path / f"{name}.svg")
    for suffix in ("png", "svg"):
        first, second = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in "ab")
        assert first == second
        assert not re.search(rb"20\d\d-\d\d-\d\d|[Mm]atplotlib v", first), "no date, no version"


def test_an_svg_asks_nothing_of_the_network():
    (svg,) = draw_sheet(sheet(chart()), "svg")
    assert not re.search(rb'<image|href="http|<script', svg)


def test_every_map_has_a_look_of_its_own():
    looks = [line_style(name) for name in NAMES]
    assert len(set(looks)) == len(looks)
    for name in NAMES:
        color, style = line_style(f"inverted:{name}")
        assert color == line_style(name)[0]
        assert style == "-." != line_style(name)[1]
    taken = {line_style(name)[0] for name in NAMES}
    assert all(line_style(name)[0] not in taken for name in ("grad-cam", "lime", "xrai", "a b"))


def test_orange_says_brighter_and_blue_darker():
    for name, choice in choices.MAPS.items():
        if name in NAMES and choice.helps != "either":
            red, _, blue, _ = to_rgba(line_style(name)[0])
            assert (red > blue) == (choice.helps == "brighter"), name


def test_a_band_is_drawn_where_it_is_given():
    axes = axes_of(chart(fall("active"), fall("random", band=None)))
    (band,) = axes.collections
    assert to_rgba(band.get_facecolor()[0])[:3] == to_rgba(line_style("active")[0])[:3]
    heights = band.get_paths()[0].vertices[:, 1]
    y = np.exp(-4.0 * np.array(X))
    assert (heights.min(), heights.max()) == pytest.approx((y.min() - 0.04, y.max() + 0.04))


def test_shares_are_percent_and_counts_have_whole_ticks():
    line = axes_of(chart()).get_lines()[0]
    assert line.get_xdata()[-1] == pytest.approx(90.0)
    steps = axes_of(Chart("p", [Curve("active", [0, 1], [1, 0])], "x", "y", percent_x=False))
    assert steps.get_lines()[0].get_xdata()[-1] == 1
    assert all(tick == round(tick) for tick in steps.get_xticks())


def test_names_stand_in_the_order_of_the_ends_inside_the_figure():
    speeds = {"original": 1.0, "positive": 3.0, "active": 2.0, "inverted:a-very-long-map-name": 9}
    figure = sheets._figure(sheet(chart(*(fall(n, s) for n, s in speeds.items())), width=6.6))
    figure.draw_without_rendering()
    texts = figure.axes[0].get_legend().get_texts()
    assert [text.get_text()[:8] for text in texts] == ["original", "active", "positive", "inverted"]
    for text in (*texts, *figure.texts):
        assert text.get_window_extent().x1 <= figure.bbox.x1


@pytest.mark.parametrize("values", [[float("nan")], [float("inf")] * 2, [0.0], [1, float("nan")]])
def test_values_that_are_no_numbers_can_be_drawn(tmp_path, values):
    curves = [Curve("train loss", range(len(values)), values), Curve("actual", [0, 1], [0, 1])]
    limits = {"y_limits": (0, None), "percent_x": False}
    picture = drawn(sheet(chart(*curves, **limits)), tmp_path / "a.png")
    assert share_of(picture, (0x1B, 0x1D, 0x22)) > 0


# other cells


def test_every_cell_is_drawn(tmp_path):
    cells = [
        Picture(plain((200, 30, 30)), "a", "n"), Picture(plain((30, 30, 200), 140)),
        Legend([("cat, $tabby 40 %", GREEN)]),
        Bars([Bar("cat", 0.9, True), Bar("dog", 0.5, False, 0.2, "n")]), "label", chart(),
    ]  # fmt: skip
    picture = drawn(Sheet([Row(cells, 3), Row(cells[:2], 2)], "t", "s", "f"), tmp_path / "a.png")
    for color in ((200, 30, 30), (30, 30, 200)):
        assert share_of(picture, color) > 0.02
    assert share_of(picture, GREEN) > 1e-4
    assert share_of(drawn(sheet(*cells[:2]), tmp_path / "b.png"), GREEN) == 0


def test_a_frame_beyond_the_photo_is_on_the_figure():
    axes = axes_of(Picture(photo(100, 140), frame=(0, -20, 140, 120)))
    low, high = axes.get_ylim()
    assert low >= 119.5 and high <= -20.5
    inside = axes_of(Picture(photo(100, 140), frame=(20, 10, 80, 70)))
    assert inside.get_ylim() == (99.5, -0.5)


@pytest.mark.parametrize("label", NASTY.values(), ids=NASTY.keys())
def test_any_label_can_be_drawn(tmp_path, label):
    """Warnings are errors in these tests; on the command line they would land in the output."""
    cells = [
        Picture(photo(), label, label), Legend([(label, GREEN), ("b", (9, 9, 9))], label), label,
        Bars([Bar(label, 0.5, True, note=label)], label), chart(fall(label), shade=0.5),
    ]  # fmt: skip
    save_sheet(sheet(*cells, title=label, subtitle=label, footer=label), tmp_path / "a.png")
    (legend,) = [
        child for child in axes_of(Legend([(label, GREEN)])).get_children()
        if type(child).__name__ == "Legend"
    ]  # fmt: skip
    assert len(legend.get_texts()) == 1


def test_hot_is_black_at_the_lowest_and_white_at_the_highest():
    picture = hot(np.array([[2.0, 3.0], [4.0, 6.0]]))
    assert picture[1, 1].tolist() == [255, 255, 255]
    assert picture[0, 0].max() < 30
    assert hot(np.full((2, 2), 5.0)).max() < 30
    assert picture.dtype == np.uint8 and picture.shape == (2, 2, 3)


# the user's surroundings


def every_figure(_=None):
    """A figure with and one without charts."""
    pictures = sheet(Picture(photo(), "a $t", "n"), Bars([Bar("cat", 0.4, True)]), subtitle="s")
    return draw_sheet(pictures, "png"), draw_sheet(sheet(chart(), footer="f"), "png", "svg")


def test_the_users_matplotlib_settings_change_no_figure():
    before = every_figure()
    theirs = {
        "text.usetex": True, "font.size": 30, "font.family": "monospace", "savefig.bbox": "tight",
        "savefig.dpi": 20, "axes.grid": True, "axes.facecolor": "black", "image.cmap": "jet",
        "savefig.transparent": True, "svg.fonttype": "none", "axes.unicode_minus": False,
        "lines.linewidth": 9, "figure.constrained_layout.use": True, "toolbar": "None",
    }  # fmt: skip
    with mpl.rc_context(theirs), plt.style.context("dark_background"):
        settings = dict(mpl.rcParams)
        assert every_figure() == before
        assert dict(mpl.rcParams) == settings, "the user's settings stay"


def test_figures_of_several_threads_are_those_of_one():
    with mpl.rc_context({"font.size": 30}), ThreadPoolExecutor(4) as pool:
        alone = every_figure()
        assert list(pool.map(every_figure, range(4))) == [alone] * 4
        assert mpl.rcParams["font.size"] == 30
