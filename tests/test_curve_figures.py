"""Curves as figures: the same bytes, one look a name, bands where given, names apart."""

import re
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from PIL import Image

from chiaroscuro import choices
from chiaroscuro.errors import ChoiceError
from chiaroscuro.render import Curve, CurvePanel, CurveSpec, curves, draw_curves, svg_text
from chiaroscuro.render.curves import line_style, spread

X = choices.PAPER_FRACTIONS
NAMES = (*choices.RANKING_MAPS, "random")


def fall(name, speed=4.0, band=0.04):
    y = np.exp(-speed * np.array(X))
    low, high = (None, None) if band is None else (y - band, y + band)
    return Curve(name, X, y, low, high)


def sheet(*panels, **changes):
    panels = panels or (CurvePanel("black-deletion", [fall("original"), fall("positive", 8.0)]),)
    words = {"title": "a net on a set", "subtitle": "matched", "x_label": "x", "y_label": "y"}
    return CurveSpec(panels=panels, **(words | changes))


def drawn(of):
    """The figure behind a sheet, for a look at what lies on it."""
    figure = curves._figure(of)
    assert isinstance(figure, Figure)
    return figure


def lines(axes, color):
    wanted = to_rgba(color)[:3]
    return [line for line in axes.get_lines() if to_rgba(line.get_color())[:3] == wanted]


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_same_sheet_gives_the_same_bytes(tmp_path, suffix):
    for name in "ab":
        draw_curves(sheet(), tmp_path / f"{name}.{suffix}")
    first, second = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in "ab")
    assert first == second
    assert not re.search(rb"20\d\d-\d\d-\d\d|[Mm]atplotlib v", first), "neither date nor version"


def test_the_suffix_decides_what_is_written(tmp_path):
    draw_curves(sheet(), tmp_path / "a.PNG")
    with Image.open(tmp_path / "a.PNG") as picture:
        assert picture.format == "PNG"
    draw_curves(sheet(), tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_text(encoding="utf-8") == svg_text(sheet())
    with pytest.raises(ChoiceError, match=r"a\.jpg: curves are drawn as \.png or \.svg"):
        draw_curves(sheet(), tmp_path / "a.jpg")


@pytest.mark.parametrize("panels", [[], [CurvePanel("empty", [])]])
def test_a_sheet_without_curves_is_refused(tmp_path, panels):
    empty = CurveSpec("nothing", "", panels, "x", "y")
    with pytest.raises(ChoiceError, match="figure 'nothing' has no curves"):
        draw_curves(empty, tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


def test_every_map_has_a_look_of_its_own():
    looks = [line_style(name) for name in NAMES]
    assert len(set(looks)) == len(looks)


def test_an_inverted_order_has_its_maps_color_in_a_line_of_its_own():
    for name in NAMES:
        color, style = line_style(f"inverted:{name}")
        assert color == line_style(name)[0]
        assert style == "-." != line_style(name)[1]


def test_another_name_keeps_one_color_that_no_map_has():
    assert line_style("grad-cam") == line_style("grad-cam")
    taken = {line_style(name)[0] for name in NAMES}
    assert all(line_style(name)[0] not in taken for name in ("grad-cam", "lime", "xrai", "a b"))


def test_orange_says_brighter_and_blue_darker():
    for name, choice in choices.MAPS.items():
        if name in NAMES and choice.helps != "either":
            red, _, blue, _ = to_rgba(line_style(name)[0])
            assert (red > blue) == (choice.helps == "brighter"), name


def test_a_map_looks_the_same_in_every_panel_and_sheet():
    alone = drawn(sheet(CurvePanel("one", [fall("active")])))
    among = drawn(sheet(CurvePanel("many", [fall(name) for name in NAMES])))
    color = line_style("active")[0]
    looks = [
        {(line.get_linestyle(), line.get_linewidth()) for line in lines(figure.axes[0], color)}
        for figure in (alone, among)
    ]
    assert looks[0] == looks[1]


def test_a_band_is_drawn_where_it_is_given():
    axes = drawn(sheet(CurvePanel("p", [fall("active"), fall("random", band=None)]))).axes[0]
    (band,) = axes.collections
    assert to_rgba(band.get_facecolor()[0])[:3] == to_rgba(line_style("active")[0])[:3]
    assert 0 < band.get_facecolor()[0][3] < 0.3
    heights = band.get_paths()[0].vertices[:, 1]
    y = np.exp(-4.0 * np.array(X))
    assert heights.min() == pytest.approx(y.min() - 0.04)
    assert heights.max() == pytest.approx(y.max() + 0.04)


@pytest.mark.parametrize(("percent", "last"), [(True, 90.0), (False, 0.9)])
def test_shares_are_written_as_per_cent_where_asked(percent, last):
    axes = drawn(sheet(percent_x=percent)).axes[0]
    line = lines(axes, line_style("original")[0])[0]
    assert line.get_xdata()[-1] == pytest.approx(last)
    assert axes.get_xlim()[1] == pytest.approx(last)


def test_every_line_is_named_and_no_two_names_touch():
    names = [*NAMES, *(f"inverted:{name}" for name in NAMES[:4])]
    figure = drawn(sheet(*[CurvePanel("p", [fall(name) for name in names])] * 3))
    figure.canvas.draw()
    width, height = figure.canvas.get_width_height()
    for axes in figure.axes:
        assert [text.get_text() for text in axes.texts] != []
        assert {text.get_text() for text in axes.texts} == set(names)
        boxes = sorted((text.get_window_extent() for text in axes.texts), key=lambda box: box.y0)
        assert all(below.y1 <= above.y0 + 1 for below, above in pairwise(boxes))
        assert all(box.x0 > axes.bbox.x1 and box.x1 < width for box in boxes)
        assert all(box.y0 > 0 and box.y1 < height for box in boxes)


def test_names_stand_in_the_order_of_the_ends():
    speeds = {"original": 1.0, "positive": 3.0, "active": 2.0}
    figure = drawn(sheet(CurvePanel("p", [fall(n, s) for n, s in speeds.items()])))
    places = {t.get_text(): t.get_position()[1] for t in figure.axes[0].texts}
    assert places["original"] > places["active"] > places["positive"]
    for name, speed in speeds.items():
        assert places[name] == pytest.approx(np.exp(-speed * X[-1]), abs=0.08)


def test_words_are_taken_as_they_are(tmp_path):
    words = r"$x_1$ <b>&\frac 模"
    panel = CurvePanel(words, [fall(words)], note=words)
    draw_curves(sheet(panel, title=words, subtitle=words, footer=words), tmp_path / "a.svg")
    draw_curves(sheet(panel, x_label=words, y_label=words), tmp_path / "a.png")


def test_a_long_title_stays_on_the_figure():
    figure = drawn(sheet(title="a/long/path/to/a/model " * 12, subtitle="s" * 400))
    figure.canvas.draw()
    width, _ = figure.canvas.get_width_height()
    assert all(text.get_window_extent().x1 <= width for text in figure.texts)


def test_one_point_is_a_figure(tmp_path):
    draw_curves(sheet(CurvePanel("p", [Curve("original", [0], [1.0])])), tmp_path / "a.png")


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_figure_is_wide_enough_to_read_and_its_panels_are_apart(count):
    figure = drawn(sheet(*[CurvePanel("p", [fall("inverted:inactive")])] * count))
    boxes = [axes.get_position() for axes in figure.axes]
    assert len(boxes) == count
    for n, one in enumerate(boxes):
        assert one.x0 > 0 and one.x1 < 1 and one.y0 > 0 and one.y1 < 1
        assert not any(one.overlaps(other) for other in boxes[n + 1 :])
    assert figure.get_figwidth() * figure.dpi >= (600 if count == 1 else 1200)


# names


@pytest.mark.parametrize("seed", range(5))
def test_spread_keeps_the_gap_the_order_and_the_bounds(seed):
    wanted = np.random.default_rng(seed).random(9) ** 3
    found = spread(wanted, 0.07, 0.0, 1.0)
    order = np.argsort(wanted)
    assert (np.diff(found[order]) >= 0.07 - 1e-12).all()
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-12


def test_spread_leaves_what_is_apart_and_moves_a_pair_evenly():
    np.testing.assert_allclose(spread([0.9, 0.1, 0.5], 0.2, 0, 1), [0.9, 0.1, 0.5])
    np.testing.assert_allclose(spread([0.5, 0.5], 0.2, 0, 1), [0.4, 0.6])
    np.testing.assert_allclose(spread([0.0, 0.0], 0.2, 0, 1), [0.0, 0.2])


def test_spread_shares_the_room_where_names_do_not_fit():
    np.testing.assert_allclose(spread([0.5] * 5, 0.9, 0, 1), [0, 0.25, 0.5, 0.75, 1])
    assert spread([], 0.1, 0, 1).size == 0
