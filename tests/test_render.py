"""Smoothing and colors: what a number looks like, and that zero has one look."""

import numpy as np
import pytest

from chiaroscuro.render.pictures import (
    BRIGHTER,
    CLASS_COLORS,
    DARKER,
    OTHER_CLASS,
    ZERO,
    class_colors,
    difference,
    one_sided,
    overlay,
    smooth,
    two_sided,
)

LUMINANCE = (0.2126, 0.7152, 0.0722)


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


def test_classes_have_other_hues_than_what_helps():
    """No class may be taken for "brightening helps" or "darkening helps"."""
    for color in CLASS_COLORS:
        for hue in (BRIGHTER, DARKER):
            assert np.abs(np.array(color) - hue).max() > 60


def test_differences_have_a_dark_zero_and_two_hues_of_their_own():
    picture = difference(np.array([[0.0, 1.0, -1.0, 0.5, -0.5]]), 1.0)[0].astype(int)
    assert picture[0].max() < 25
    assert picture[3][1] > picture[3][0] and picture[4][0] > picture[4][1]
    assert picture[1].sum() > picture[3].sum() and picture[2].sum() > picture[4].sum()
