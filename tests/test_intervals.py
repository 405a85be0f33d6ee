"""Intervals and p-values: hand-computed, and right as often as they say."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chiaroscuro.errors import InputError
from chiaroscuro.metrics.intervals import BootstrapMeans, SignFlips, holm, share_interval


def added(statistic, rows, size):
    for start in range(0, len(rows), size):
        statistic.add(rows[start : start + size])
    return statistic


def test_the_split_into_batches_does_not_matter():
    rows = np.random.default_rng(0).normal(size=(103, 3))
    one, many = (added(BootstrapMeans(3, 200, seed=5), rows, size) for size in (103, 7))
    assert one.interval().low == pytest.approx(many.interval().low, abs=1e-12)
    assert one.mean == pytest.approx(rows.mean(0))
    flips = [added(SignFlips(3, 999, seed=5), rows, size).p_values() for size in (103, 7)]
    assert flips[0].tolist() == flips[1].tolist()


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng = np.random.default_rng(1)
    rows = rng.random((400, 300)) < 0.3  # 300 experiments side by side, 400 images each
    means = BootstrapMeans(300, 400, seed=0)
    means.add(rows.astype(float))
    found = means.interval(0.9)
    inside = ((found.low <= 0.3) & (found.high >= 0.3)).mean()
    assert 0.83 < inside < 0.96
    width = (found.high - found.low).mean()
    assert width == pytest.approx(2 * 1.645 * np.sqrt(0.21 / 400), rel=0.1)


def test_equal_images_have_no_width():
    means = BootstrapMeans(1, 100, seed=0)
    means.add(np.full((20, 1), 0.7))
    found = means.interval()
    assert (found.value[0], found.low[0], found.high[0]) == pytest.approx((0.7, 0.7, 0.7))


def test_sign_flips_come_to_the_exact_permutation_p_value():
    rows = np.array([0.3, 0.1, 0.4, -0.2, 0.5, 0.2, 0.6, 0.15, -0.05, 0.35])[:, None]
    sums = [abs(np.dot(signs, rows[:, 0])) for signs in product([-1, 1], repeat=10)]
    exact = np.mean(np.array(sums) >= abs(rows.sum()) - 1e-9)
    found = added(SignFlips(1, 20_000, seed=3), rows, 4).p_values()[0]
    assert found == pytest.approx(exact, abs=0.004)


def test_sign_flips_are_scipys_paired_permutation_test():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(4)
    first, second = rng.random((9, 3)), rng.random((9, 3)) + 0.15

    def mean(a, b, axis):
        return np.mean(a, axis=axis) - np.mean(b, axis=axis)

    found = added(SignFlips(3, 40_000, seed=1), first - second, 4).p_values()
    for j in range(3):
        pair = (first[:, j], second[:, j])
        exact = stats.permutation_test(pair, mean, permutation_type="samples", n_resamples=np.inf)
        assert found[j] == pytest.approx(exact.pvalue, abs=0.008)


def test_weighted_sums_of_columns_are_tested_as_if_added():
    rows = np.random.default_rng(5).normal(size=(30, 4)).round(1)
    weights = np.array([[1, 0, 1, 0], [-1, 0, 0, 0], [0, 1, -1, 0], [0, -1, 0, 0.0]])
    columns = added(SignFlips(4, 999, seed=2), rows, 7)
    sums = added(SignFlips(4, 999, seed=2), rows @ weights, 30)
    assert columns.p_values(weights).tolist() == sums.p_values().tolist()
    assert columns.p_values(weights)[3] == 1, "nothing differs from itself"


def test_p_values_under_no_difference_are_uniform_and_never_zero():
    rows = np.random.default_rng(2).normal(size=(60, 500))
    found = added(SignFlips(500, 999, seed=0), rows, 60).p_values()
    assert (found < 0.05).mean() == pytest.approx(0.05, abs=0.03)
    sure = added(SignFlips(1, 999, seed=0), np.ones((60, 1)), 60).p_values()
    assert sure[0] == pytest.approx(1 / 1000)
    none = added(SignFlips(1, 999, seed=0), np.zeros((60, 1)), 60).p_values()
    assert none[0] == 1


def test_holm_by_hand():
    assert holm([0.04, 0.01, 0.03, 0.005]).tolist() == pytest.approx([0.06, 0.03, 0.06, 0.02])
    assert holm([0.6, 0.7]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
@settings(max_examples=100, deadline=None)
def test_holm_is_between_no_correction_and_bonferroni_and_keeps_the_order(p):
    corrected = holm(p)
    assert (corrected >= np.array(p) - 1e-15).all()
    assert (corrected <= np.minimum(1, len(p) * np.array(p)) + 1e-12).all()
    assert (np.diff(corrected[np.argsort(p, kind="stable")]) >= 0).all()


def test_wilsons_interval():
    assert share_interval(0, 10)[0] == pytest.approx(0, abs=1e-12)
    assert share_interval(0, 10)[1] == pytest.approx(0.2775, abs=1e-4)
    assert share_interval(62, 100) == pytest.approx((0.5221, 0.7090), abs=1e-4)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(wrong):
    for statistic in (BootstrapMeans(2, 10, 0), SignFlips(2, 10, 0)):
        with pytest.raises(InputError, match="rows hold values that are not finite"):
            statistic.add(np.array([[0.0, 1.0], [wrong, 1.0]]))


def test_a_mean_of_no_images_is_refused():
    means = BootstrapMeans(1, 10, 0)
    means.add(np.zeros((0, 1)))
    with pytest.raises(InputError, match="no image is added"):
        means.interval()


def test_a_share_of_none_or_all_ends_exactly():
    for count in range(1, 60):
        assert share_interval(0, count)[0] == 0.0 and share_interval(count, count)[1] == 1.0


def test_an_interval_without_a_resampled_mean_is_the_mean():
    for seed in range(20):
        means = BootstrapMeans(1, resamples=1, seed=seed)
        means.add(np.ones((1, 1)))
        found = means.interval()
        assert (found.low, found.value, found.high) == (1, 1, 1)
