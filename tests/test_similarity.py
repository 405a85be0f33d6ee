"""Similarity of maps: hand-computed ranks, chance levels, and identities."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chiaroscuro.errors import ChoiceError, InputError
from chiaroscuro.metrics import map_similarity
from chiaroscuro.metrics.agreement import average_ranks
from tests.toys import random_pixels


def row(*values):
    return torch.tensor([[values]], dtype=torch.float64)


def rank_correlation(first, second):
    pixels = first[:, None].expand(-1, 3, -1, -1).sigmoid()
    return map_similarity(first, second, pixels).correlation


def top_overlap(*arguments):
    return map_similarity(*arguments).overlap


def naive_rho(a, b):
    """Spearman by its definition, with loops: mean places of ties, then Pearson."""

    def ranks(values):
        return [
            sum(other < value for other in values)
            + (1 + sum(other == value for other in values)) / 2
            for value in values
        ]

    x, y = ranks(a), ranks(b)
    mx, my = sum(x) / len(x), sum(y) / len(y)
    above = sum((p - mx) * (q - my) for p, q in zip(x, y, strict=True))
    below = sum((p - mx) ** 2 for p in x) * sum((q - my) ** 2 for q in y)
    return above / below**0.5 if below else 0.0


def test_spearman_by_hand():
    # Without ties rho = 1 - 6 sum d^2 / (n (n^2 - 1)); ranks 1 3 2 5 4 6, d = 0 1 1 1 1 0, n = 6.
    found = rank_correlation(row(1, 2, 3, 4, 5, 6), row(1, 3, 2, 6, 3.5, 7))
    assert found.item() == pytest.approx(1 - 6 * 4 / (6 * 35))
    # Ranks (1.5, 1.5, 3, 4) and (2, 1, 3.5, 3.5): centered products 4, squares 4.5 and 4.5.
    assert rank_correlation(row(0, 0, 1, 2), row(5, 4, 9, 9)).item() == pytest.approx(4 / 4.5)
    assert rank_correlation(row(1, 2, 3), row(9, 5, 1)).item() == -1
    assert average_ranks(torch.tensor([[3.0, 3.0, 3.0], [2.0, 9.0, 2.0]])).tolist() == [
        [2, 2, 2], [1.5, 3, 1.5],
    ]  # fmt: skip


def test_a_constant_map_orders_nothing():
    assert rank_correlation(row(1, 1, 1), row(1, 2, 3)).item() == 0
    assert rank_correlation(row(0, 0, 0), row(0, 0, 0)).item() == 0


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=12))
@settings(max_examples=200, deadline=None)
def test_spearman_is_its_definition(pairs):
    a, b = zip(*pairs, strict=True)
    found = rank_correlation(row(*map(float, a)), row(*map(float, b))).item()
    assert found == pytest.approx(naive_rho(a, b), abs=1e-12)


def test_images_are_independent_and_rising_functions_of_a_map_leave_rho():
    first, second = random_pixels(5, 6, 7, seed=1), random_pixels(5, 6, 7, seed=2)
    together = rank_correlation(first, second)
    alone = torch.cat([rank_correlation(first[[i]], second[[i]]) for i in range(5)])
    assert together.tolist() == alone.tolist()
    assert rank_correlation(first.exp() * 3, second**3).tolist() == together.tolist()


def test_overlap_by_hand():
    pixels = random_pixels(1, 3, 1, 4)
    assert top_overlap(row(4, 3, 2, 1), row(4, 1, 2, 3), pixels, 0.5).item() == 0.5
    assert top_overlap(row(4, 3, 2, 1), row(1, 2, 3, 4), pixels, 0.5).item() == 0
    assert top_overlap(row(4, 3, 2, 1), row(1, 2, 3, 4), pixels, 0.75).item() == pytest.approx(
        2 / 3
    )
    assert top_overlap(row(4, 3, 2, 1), row(9, 8, 0, 0), pixels, 0.01).item() == 1


def test_pixels_tied_in_both_maps_overlap_at_chance_level():
    pixels = random_pixels(200, 1, 16, 16)
    empty = torch.zeros(200, 16, 16)
    found = map_similarity(empty, empty, pixels, share=0.25)
    assert found.correlation.tolist() == [0] * 200
    # Hypergeometric: mean k/N = 1/4, deviation of one image sqrt(k/N (1 - k/N)^2 / (N - 1) N / k).
    deviation = np.sqrt(0.25 * 0.75 * 0.75 / (64 * 0.25) * 0.25 * 256 / 255)
    assert found.overlap.mean().item() == pytest.approx(0.25, abs=4 * deviation / np.sqrt(200))
    assert found.overlap.std().item() > 0.01


def test_sparse_maps_share_no_more_than_their_support():
    """A sparse map's zeros fill its top; they must not count as agreement."""
    pixels = random_pixels(100, 1, 20, 20)
    first, second = torch.zeros(100, 400), torch.zeros(100, 400)
    first[:, :20], second[:, :20] = 1, 1
    found = top_overlap(first.view(100, 20, 20), second.view(100, 20, 20), pixels, 0.1)
    # 20 of the 40 top pixels are shared for sure, the other 20 are any of 380.
    assert found.mean().item() == pytest.approx((20 + 20 * 20 / 380) / 40, abs=0.01)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (torch.zeros(1, 2, 2), torch.zeros(1, 2, 3), "second map has shape"),
        (torch.zeros(4), torch.zeros(4), "first map has shape"),
        (torch.zeros(1, 2, 2), torch.zeros(1, 2, 2, dtype=torch.long), "second map .* torch.int64"),
        (torch.zeros(1, 2, 2), torch.full((1, 2, 2), torch.nan), "second map .* not finite"),
    ],
)
def test_other_maps_are_refused(first, second, message):
    with pytest.raises(InputError, match=message):
        map_similarity(first, second, random_pixels(1, 3, 2, 2))


def test_pixels_of_another_size_are_refused():
    for pixels in (random_pixels(1, 3, 2, 1), random_pixels(2, 3, 1, 2), random_pixels(1, 2)):
        with pytest.raises(InputError, match="(first map has|pixels are a Tensor of) shape"):
            top_overlap(row(1, 2), row(1, 2), pixels)


@pytest.mark.parametrize("share", [0, -0.1, 1.1, torch.nan, "half", True])
def test_another_share_is_refused(share):
    with pytest.raises(ChoiceError, match="share is"):
        top_overlap(row(1, 2), row(1, 2), random_pixels(1, 3, 1, 2), share)


@pytest.mark.parametrize("half", [np.float32(0.5), torch.tensor(0.5), np.array(0.5)])
def test_a_share_may_be_a_number_of_any_library(half):
    pixels = random_pixels(1, 3, 1, 4)
    assert top_overlap(row(4, 3, 2, 1), row(4, 1, 2, 3), pixels, half).item() == 0.5
