"""Smoothing, colors and the figure: what a number looks like, and that zero has one look."""

from concurrent.futures import ThreadPoolExecutor

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from chiaroscuro.images import to_uint8
from chiaroscuro.render import (
    Bar,
    ChangeSpec,
    ComparisonSpec,
    Curve,
    CurvePanel,
    CurveSpec,
    FigureSpec,
    Frame,
    GridSpec,
    Panel,
    Row,
    Shift,
    class_colors,
    draw_change,
    draw_comparison,
    draw_figure,
    draw_grid,
    one_sided,
    overlay,
    save_curves,
    smooth,
    two_sided,
)
from chiaroscuro.render.pictures import BRIGHTER, CLASS_COLORS, DARKER, OTHER_CLASS, ZERO
from chiaroscuro.render.training import TrainingCurve, draw_training

LUMINANCE = (0.2126, 0.7152, 0.0722)
WIDTH = 1860


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def lightness(picture):
    """Relative luminance (WCAG) of 8-bit sRGB."""
    share = picture / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return linear @ np.asarray(LUMINANCE)


def naive_smooth(values, sigma):
    """A Gaussian in two dimensions at once, cut at 4 sigma a side, weights inside sum to 1."""
    height, width = values.shape
    reach = int(4 * sigma + 0.5)
    result = np.zeros(values.shape)
    for i in range(height):
        for j in range(width):
            total = weights = 0.0
            for y in range(max(0, i - reach), min(height, i + reach + 1)):
                for x in range(max(0, j - reach), min(width, j + reach + 1)):
                    weight = np.exp(-((y - i) ** 2 + (x - j) ** 2) / (2 * sigma**2))
                    total += weight * values[y, x]
                    weights += weight
            result[i, j] = total / weights
    return result


# smoothing


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (7, 12)])
@pytest.mark.parametrize("sigma", [0.3, 1.0, 4.5, 100.0])
def test_smoothing_keeps_a_constant_map_constant(shape, sigma):
    np.testing.assert_allclose(smooth(np.full(shape, -2.5), sigma), -2.5, rtol=1e-12)


def test_smoothing_preserves_the_sum_away_from_the_edges():
    values = np.zeros((40, 44))
    values[18:22, 19:25] = noise(4, 6)
    found = smooth(values, 1.5)
    assert found.sum() == pytest.approx(values.sum(), abs=1e-12)
    assert np.abs(found).max() < np.abs(values).max()


@pytest.mark.parametrize("sigma", [0.5, 0.9, 1.7])
def test_smoothing_equals_the_naive_gaussian_edges_included(sigma):
    values = noise(13, 17)
    np.testing.assert_allclose(smooth(values, sigma), naive_smooth(values, sigma), atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 6), (6, 1), (2, 2)])
def test_a_wide_gaussian_on_a_tiny_map_gives_its_mean(shape):
    values = noise(*shape)
    found = smooth(values, 1e4)
    assert found.shape == shape
    np.testing.assert_allclose(found, values.mean(), atol=1e-6)


def test_a_row_is_smoothed_along_itself_only():
    row = noise(1, 9)
    np.testing.assert_allclose(smooth(row, 1.2), naive_smooth(row, 1.2), atol=1e-12)
    np.testing.assert_allclose(smooth(row.T, 1.2), smooth(row, 1.2).T, atol=1e-15)


@pytest.mark.parametrize("sigma", [0, 0.0, -1.0])
def test_sigma_zero_returns_the_map(sigma):
    values = noise(4, 5)
    assert np.array_equal(smooth(values, sigma), values)


def test_smoothing_is_double_and_leaves_its_input_alone():
    values = noise(6, 6).astype(np.float32)
    kept = values.copy()
    assert smooth(values, 1.0).dtype == np.float64
    assert np.array_equal(values, kept)


def test_smoothing_is_linear_and_keeps_signs_apart():
    values = noise(9, 9)
    both = smooth(np.maximum(values, 0), 1.1) - smooth(np.maximum(-values, 0), 1.1)
    np.testing.assert_allclose(smooth(values, 1.1), both, atol=1e-12)


# colors


@pytest.mark.parametrize("helps", ["either", "brighter", "darker"])
def test_zero_has_one_color_in_every_one_sided_map(helps):
    picture = one_sided(np.zeros((2, 3)), 1.0, helps)
    assert picture.dtype == np.uint8
    assert picture.shape == (2, 3, 3)
    assert (picture == ZERO).all()


def test_zero_has_the_same_color_in_a_two_sided_map():
    assert (two_sided(np.array([[0.0, -0.0]]), 1.0) == ZERO).all()


@pytest.mark.parametrize("helps", ["either", "brighter", "darker"])
def test_one_sided_rises_in_lightness(helps):
    steps = lightness(one_sided(np.linspace(0, 1, 101)[None], 1.0, helps)[0])
    assert (np.diff(steps) > 0).all()
    assert steps[0] < 0.01
    assert steps[-1] > 0.8


def test_hue_says_what_helps():
    half = np.array([[0.5]])
    red, _, blue = one_sided(half, 1.0, "brighter")[0, 0].tolist()
    assert red > 2 * blue
    red, _, blue = one_sided(half, 1.0, "darker")[0, 0].tolist()
    assert blue > 2 * red
    red, green, blue = one_sided(half, 1.0, "either")[0, 0].tolist()
    assert red == green == blue
    assert one_sided(half, 1.0, "brighter")[0, 0].tolist() == list(BRIGHTER)
    assert one_sided(half, 1.0, "darker")[0, 0].tolist() == list(DARKER)


def test_two_sided_is_one_ramp_each_side_of_zero():
    size = np.linspace(0, 2, 41)[None]
    assert np.array_equal(two_sided(size, 2.0), one_sided(size, 2.0, "brighter"))
    assert np.array_equal(two_sided(-size, 2.0), one_sided(size, 2.0, "darker"))


@pytest.mark.parametrize("helps", ["either", "brighter", "darker"])
def test_values_beyond_the_limit_look_like_the_limit(helps):
    picture = one_sided(np.array([[3.0, 3.5, 1e300]]), 3.0, helps)
    assert (picture == picture[0, 0]).all()


def test_signed_values_beyond_the_limit_look_like_the_limit():
    photo = np.full((1, 4), 0.3)
    values = np.array([[3.0, 99.0, -3.0, -99.0]])
    for picture in (two_sided(values, 3.0), overlay(values, 3.0, photo)):
        assert np.array_equal(picture[0, 0], picture[0, 1])
        assert np.array_equal(picture[0, 2], picture[0, 3])
        assert not np.array_equal(picture[0, 0], picture[0, 2])


def test_colors_depend_on_the_share_of_the_limit_alone():
    values = noise(5, 5)
    photo = np.full((5, 5), 0.5)
    for factor in (1e-6, 1e6):
        for draw in (two_sided, lambda v, limit: overlay(v, limit, photo)):
            assert np.array_equal(draw(values, 2.0), draw(values * factor, 2.0 * factor))


def test_a_limit_of_zero_belongs_to_an_empty_map():
    empty = np.zeros((2, 2))
    assert (one_sided(empty, 0.0, "brighter") == ZERO).all()
    assert (two_sided(empty, 0.0) == ZERO).all()
    photo = np.array([[0.0, 0.5], [0.25, 1.0]])
    assert np.array_equal(overlay(empty, 0.0, photo), overlay(empty, 1.0, photo))


def test_overlay_at_zero_is_the_gray_photo():
    photo = np.array([[0.0, 0.2, 0.9, 1.0]], np.float32)
    picture = overlay(np.zeros((1, 4)), 1.0, photo)
    assert picture.dtype == np.uint8
    assert (picture == picture[..., :1]).all(), "gray: three equal channels"
    assert (np.diff(picture[0, :, 0].astype(int)) > 0).all(), "a brighter photo looks brighter"
    assert picture.min() > max(ZERO), "the photo is never near-black"


def test_overlay_at_the_limit_is_the_hue_alone():
    photo = np.array([[0.0, 1.0]])
    assert (overlay(np.ones((1, 2)), 1.0, photo) == BRIGHTER).all()
    assert (overlay(-np.ones((1, 2)), 1.0, photo) == DARKER).all()


def test_overlay_covers_both_signs_alike():
    size, photo = np.linspace(0, 1, 21)[None], np.full((1, 21), 0.4)
    ground = overlay(np.zeros((1, 21)), 1.0, photo).astype(float)
    up = (overlay(size, 1.0, photo) - ground) / (np.array(BRIGHTER) - ground)
    down = (overlay(-size, 1.0, photo) - ground) / (np.array(DARKER) - ground)
    np.testing.assert_allclose(up[..., 0], size, atol=0.02)
    np.testing.assert_allclose(down[..., 2], size, atol=0.02)


def test_class_colors_most_frequent_first_and_ties_by_index():
    classes = np.array([[4, 4, 4, 2], [9, 9, 2, -1]])
    picture, colors = class_colors(classes)
    assert list(colors) == [4, 2, 9]
    assert list(colors.values()) == list(CLASS_COLORS[:3])
    assert picture.dtype == np.uint8
    for index, color in colors.items():
        assert (picture[classes == index] == color).all()
    assert (picture[classes == -1] == ZERO).all()


def test_a_map_of_ties_alone_names_no_class():
    picture, colors = class_colors(np.full((3, 2), -1))
    assert colors == {}
    assert (picture == ZERO).all()


def test_at_most_seven_classes_have_a_color_of_their_own():
    classes = np.repeat(np.arange(10), np.arange(10, 0, -1))[None]
    picture, colors = class_colors(classes)
    assert list(colors) == [0, 1, 2, 3, 4, 5, 6]
    assert len(set(colors.values())) == 7
    assert not {ZERO, OTHER_CLASS} & set(colors.values())
    assert (picture[classes >= 7] == OTHER_CLASS).all()


# the figure


def photo(height=12, width=16, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def panel(name="active", color=(240, 120, 20), size=12, **parts):
    picture = np.full((size, size, 3), color, np.uint8)
    return Panel(name, "brightening helps; support 12.3 %", picture, picture.copy(), **parts)


def sheet(panels=(), seen=None, frame=None, **words):
    texts = {"title": "a.png: why cat?", "subtitle": "toy", "smoothing": "smoothed", "footer": "f"}
    bars = words.pop("bars", [Bar("cat", 0.9, True), Bar("dog", 0.0004, False)])
    seen = photo(12, 12) if seen is None else seen
    frame = Frame(photo(), 2, 0, 14, 12) if frame is None else frame
    return FigureSpec(frame=frame, seen=seen, bars=bars, panels=panels, **(texts | words))


def draw(figure_spec, path):
    draw_figure(figure_spec, path)
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def height_of(rows):
    return round((4.4 + 2.75 * rows) * 120)


def share_of(picture, color):
    return float((picture == color).all(axis=-1).mean())


def assert_drawn(picture, rows):
    assert picture.shape == (height_of(rows), WIDTH, 3)
    assert 0.3 < share_of(picture, (255, 255, 255)) < 0.99
    assert len(np.unique(picture.astype(np.uint32) @ (65536, 256, 1))) > 50


def test_more_panels_than_columns_go_on_below(tmp_path):
    colors = [(20 * k + 7, 90, 160) for k in range(8)]
    panels = [panel(f"map {k}", color) for k, color in enumerate(colors)]
    picture = draw(sheet(panels), tmp_path / "figure.png")
    assert_drawn(picture, rows=4)
    assert all(share_of(picture, color) > 0.005 for color in colors)
    below = picture[height_of(2) :]
    assert all(share_of(below, color) > 0.005 for color in colors[6:])


def test_a_class_panel_shows_its_legend_instead_of_a_smoothed_map(tmp_path):
    winner = Panel("winner", "who gains", photo(8, 8), None, [("cat, $tabby 40 %", (1, 158, 115))])
    picture = draw(sheet([winner, panel()]), tmp_path / "figure.png")
    assert_drawn(picture, rows=2)
    assert share_of(picture, (1, 158, 115)) > 1e-4
    bare = Panel("winner", "who gains", winner.pixels, None)
    without = draw(sheet([bare, panel()]), tmp_path / "bare.png")
    assert share_of(without, (1, 158, 115)) == 0


@pytest.mark.parametrize(
    "label",
    [
        r"$\frac{cat$ & $x_",
        "a very long name " * 30,
        "nospaces" * 60,
        "<b>&amp;",
        "two\nlines",
        "",
    ],
    ids=["dollar", "long", "unbroken", "markup", "newline", "empty"],
)
def test_any_label_can_be_drawn(tmp_path, label):
    named = panel(label[:60], legend=())
    words = {"title": label, "subtitle": label, "footer": label, "smoothing": label}
    winner = Panel("winner", label, photo(8, 8), None, [(label, (0, 158, 115))])
    found = sheet([named, winner], bars=[Bar(label, 0.5, True), Bar(label, 1.0, False)], **words)
    assert_drawn(draw(found, tmp_path / "figure.png"), rows=2)


def test_a_label_in_another_script_is_drawn_without_a_warning(tmp_path):
    """Warnings are errors in these tests; on the command line they would land in the output."""
    found = sheet([panel()], title="猫.png: why 猫?", bars=[Bar("猫", 0.5, True)])
    assert_drawn(draw(found, tmp_path / "figure.png"), rows=2)


def test_a_gray_picture_of_8_pixels(tmp_path):
    seen = to_uint8(np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 8, 8))
    found = sheet([panel(size=8)], seen=seen, frame=Frame(seen, 0, 0, 8, 8))
    assert_drawn(draw(found, tmp_path / "figure.png"), rows=2)


def test_a_picture_beyond_128_pixels_and_a_frame_beyond_the_photo(tmp_path):
    large = panel(size=140)
    found = sheet([large], seen=photo(140, 140), frame=Frame(photo(100, 140), 0, -20, 140, 120))
    picture = draw(found, tmp_path / "figure.png")
    assert_drawn(picture, rows=2)
    assert share_of(picture, (240, 120, 20)) > 0.005


def test_no_panel_of_the_smoothed_kind_or_no_panel_at_all(tmp_path):
    winner = Panel("winner", "who gains", photo(8, 8), None)
    assert_drawn(draw(sheet([winner]), tmp_path / "one.png"), rows=2)
    assert_drawn(draw(sheet([]), tmp_path / "none.png"), rows=0)


def test_the_same_sheet_gives_the_same_bytes(tmp_path):
    for name in ("one.png", "two.png"):
        draw_figure(sheet([panel()]), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


# the user's surroundings


def every_figure(folder):
    """One figure of each kind, as bytes."""
    folder.mkdir()
    curves = [Curve("active", [0, 0.5, 1], [0, -1, -1]), Curve("predicted", [0, 1], [0, -2])]
    shift = Shift("cat", 0.4, 0.2, 1.5, -1.0, -0.5, is_target=True)
    change = ChangeSpec(
        "a $t", "s", photo(), photo(), photo(), ("a", "b", "c"), [shift], curves, 0.5, "f"
    )
    rows = [Row("a", photo(8, 8), [Bar("cat", 0.4, True)], [photo(8, 8)] * 2)]
    draw_figure(sheet([panel()]), folder / "figure.png")
    draw_change(change, folder / "change.png")
    draw_comparison(ComparisonSpec("t", "s", ["a", "b"], rows, "f"), folder / "rows.png")
    draw_grid(GridSpec("t", ["a"], [("row", [photo(8, 8)])], "f"), folder / "grid.png")
    draw_training(TrainingCurve("t", [1.0, 0.5], [0.5, 0.6], [0.5, 0.6]), folder / "training.png")
    save_curves(CurveSpec("t", "s", [CurvePanel("p", curves)], "x", "y"), folder, "curves")
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_the_users_matplotlib_settings_change_no_figure(tmp_path):
    plain = every_figure(tmp_path / "plain")
    theirs = {
        "text.usetex": True, "font.size": 30, "font.family": "monospace", "savefig.bbox": "tight",
        "savefig.dpi": 20, "axes.grid": True, "axes.facecolor": "black", "image.cmap": "jet",
        "savefig.transparent": True, "svg.fonttype": "none", "axes.unicode_minus": False,
        "lines.linewidth": 9, "figure.constrained_layout.use": True, "toolbar": "None",
    }  # fmt: skip
    with mpl.rc_context(theirs), plt.style.context("dark_background"):
        before = dict(mpl.rcParams)
        styled = every_figure(tmp_path / "styled")
        assert dict(mpl.rcParams) == before, "the user's settings stay"
    assert styled.keys() == plain.keys()
    assert [name for name in plain if styled[name] != plain[name]] == []


def test_figures_of_several_threads_are_those_of_one(tmp_path):
    with mpl.rc_context({"font.size": 30}):
        alone = every_figure(tmp_path / "alone")
        with ThreadPoolExecutor(4) as pool:
            several = list(pool.map(every_figure, [tmp_path / str(n) for n in range(4)]))
        assert mpl.rcParams["font.size"] == 30
    assert all(figures == alone for figures in several)
