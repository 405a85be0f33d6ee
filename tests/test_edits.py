"""Orders, counts and masks, against an independent reading of the published protocol."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chiaroscuro.choices import PAPER_FRACTIONS
from chiaroscuro.edits import (
    apply_edit,
    matched_counts,
    pixel_order,
    pixel_rank,
    tie_priority,
    top_edit,
)
from chiaroscuro.errors import ChoiceError, ImageError, InputError
from chiaroscuro.maps import scale
from chiaroscuro.metrics.deletion import paper_counts
from tests.toys import random_pixels


def published_mask(values: np.ndarray, fraction: float) -> np.ndarray:
    """The published code's mask of one map (H, W), written from its description."""
    low, high = values.min(), values.max()
    scaled = (values - low) / (high - low) if high > low else np.zeros_like(values)
    descending = np.sort(scaled.ravel())[::-1]
    threshold = descending[int(np.rint(fraction * scaled.size))]
    return scaled > threshold


ROWS = torch.arange(4)[None]
MAPS = {
    "dense": torch.rand(4, 32, 32, generator=torch.Generator().manual_seed(0)),
    "sparse": (torch.rand(4, 32, 32, generator=torch.Generator().manual_seed(1)) - 0.8).relu(),
    "tied": torch.randint(0, 7, (4, 32, 32), generator=torch.Generator().manual_seed(2)).float(),
    "constant": torch.full((4, 32, 32), 3.0),
    "signed": torch.randn(4, 32, 32, generator=torch.Generator().manual_seed(3)),
    "double": torch.rand(4, 9, 13, dtype=torch.float64, generator=torch.Generator().manual_seed(4)),
}


@pytest.mark.parametrize("name", MAPS)
def test_the_mask_is_the_published_one(name):
    values = MAPS[name]
    rank = pixel_rank(pixel_order(values, tie_priority(values[:, None].sigmoid())))
    counts = paper_counts(values, PAPER_FRACTIONS, pixel_order(values))
    for b, image in enumerate(values):
        for f, fraction in enumerate(PAPER_FRACTIONS):
            ours = (rank[b] < counts[b, f]).reshape(image.shape).numpy()
            assert (ours == published_mask(image.numpy(), fraction)).all()


def test_the_published_mask_spares_zeros_and_never_takes_more_than_its_share():
    values = MAPS["sparse"]
    counts = paper_counts(values, PAPER_FRACTIONS, pixel_order(values))
    positive = (values > 0).flatten(1).sum(1)
    assert (counts.amax(1) <= positive).all()
    assert (counts <= matched_counts(values, PAPER_FRACTIONS)).all()
    assert (counts[:, -1] == positive).all()
    constant = MAPS["constant"]
    assert (paper_counts(constant, PAPER_FRACTIONS, pixel_order(constant)) == 0).all()


def test_half_places_go_to_the_even_neighbor():
    values = torch.arange(50.0).reshape(1, 5, 10)
    # 50 * 0.03 = 1.5, 50 * 0.05 = 2.5, 50 * 0.07 = 3.5
    order = pixel_order(values)
    assert paper_counts(values, [0.03, 0.05, 0.07], order).tolist() == [[2, 2, 4]]
    assert matched_counts(values, [0.03, 0.05, 0.07]).tolist() == [[2, 2, 4]]


@given(st.integers(0, 10_000), st.integers(3, 12), st.integers(3, 12))
@settings(max_examples=60, deadline=None)
def test_without_ties_paper_and_matched_take_the_same_pixels(seed, height, width):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randperm(height * width, generator=generator).reshape(1, height, width).double()
    fractions = [f for f in PAPER_FRACTIONS if round(f * height * width) < height * width]
    counts = paper_counts(values, fractions, pixel_order(values))
    assert torch.equal(counts, matched_counts(values, fractions))


@given(st.lists(st.integers(-3, 3), min_size=4, max_size=40), st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_an_order_is_a_permutation_that_falls_and_breaks_ties_by_priority(levels, seed):
    values = torch.tensor(levels, dtype=torch.float64).reshape(1, 1, -1)
    priority = torch.randperm(len(levels), generator=torch.Generator().manual_seed(seed))[None]
    order = pixel_order(values, priority)[0]
    assert sorted(order.tolist()) == list(range(len(levels)))
    place = pixel_rank(priority)[0]
    expected = sorted(range(len(levels)), key=lambda n: (-levels[n], int(place[n])))
    assert order.tolist() == expected
    assert torch.equal(pixel_rank(order[None])[0][order], torch.arange(len(levels)))


def falling(dtype: torch.dtype) -> st.SearchStrategy[list[list[float]]]:
    """Rows of finite values that tie, differ in the last bit, lie at the ends, or are -0.0."""
    about = torch.finfo(dtype)
    few = [0.0, -0.0, 1.0, -1.0, 1.0 + about.eps, about.tiny, -about.tiny, about.max, about.min]
    width = {torch.float16: 16, torch.float64: 64}.get(dtype, 32)
    most = 2.0**126 if dtype == torch.bfloat16 else about.max
    value = st.sampled_from(few) | st.floats(-most, most, width=width)
    return st.integers(1, 20).flatmap(
        lambda n: st.lists(st.lists(value, min_size=n, max_size=n), min_size=1, max_size=3)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@given(data=st.data(), seed=st.integers(0, 99))
@settings(max_examples=100, deadline=None)
def test_an_order_is_that_of_a_stable_argsort(dtype, data, seed):
    values = torch.tensor(data.draw(falling(dtype)), dtype=torch.float64).to(dtype)[:, None]
    plain = values.flatten(1).argsort(dim=1, descending=True, stable=True)
    assert torch.equal(pixel_order(values), plain)
    generator = torch.Generator().manual_seed(seed)
    priority = torch.stack([torch.randperm(values.shape[2], generator=generator) for _ in values])
    again = values.flatten(1).gather(1, priority).argsort(dim=1, descending=True, stable=True)
    assert torch.equal(pixel_order(values, priority), priority.gather(1, again))


def test_an_order_leaves_its_map_as_it_is_and_takes_one_with_a_gradient():
    values = torch.tensor([[[0.5, -0.0, 2.0, -1.0]]], requires_grad=True)
    before = values.detach().clone()
    assert pixel_order(values).tolist() == [[2, 0, 1, 3]]
    assert torch.equal(values, before)
    assert values.signbit().tolist() == before.signbit().tolist()


def test_ties_without_a_priority_go_by_rows():
    assert pixel_order(torch.zeros(1, 2, 3)).tolist() == [[0, 1, 2, 3, 4, 5]]


def test_the_priority_belongs_to_the_image_and_the_seed():
    pixels = random_pixels(5, 3, 8, 8)
    drawn = tie_priority(pixels, seed=1)
    assert torch.equal(drawn[[3]], tie_priority(pixels[[3]], seed=1))
    assert not torch.equal(drawn, tie_priority(pixels, seed=2))
    assert not torch.equal(drawn[0], drawn[1])
    assert (drawn.sort(dim=1).values == torch.arange(64)).all()


def test_an_edit_changes_exactly_the_first_pixels_of_the_ranking():
    pixels = torch.full((2, 3, 2, 2), 0.5)
    rank = torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0]])
    edited = apply_edit(pixels, torch.zeros_like(pixels), rank, torch.tensor([1, 3]))
    assert edited[0, 1].tolist() == [[0.0, 0.5], [0.5, 0.5]]
    assert edited[1, 2].tolist() == [[0.5, 0.0], [0.0, 0.0]]


def test_scaling_a_map_changes_no_mask():
    values = MAPS["dense"].double()
    for other in (values * 1e-6, scale(values, "magnitude"), values + 5):
        assert torch.equal(pixel_order(other), pixel_order(values))
        counts = [paper_counts(v, PAPER_FRACTIONS, pixel_order(v)) for v in (other, values)]
        assert torch.equal(*counts)


def test_too_small_images_are_refused_as_the_index_runs_off():
    with pytest.raises(InputError, match="images of 4 pixels are too small .* use the matched one"):
        paper_counts(torch.rand(1, 2, 2), [0, 0.9], torch.arange(4)[None])
    assert matched_counts(torch.rand(1, 2, 2), [0, 0.9]).tolist() == [[0, 4]]


@pytest.mark.parametrize(
    "fractions",
    [
        [], [0.1, 0.1], [0.2, 0.1], [-0.1, 0.5], [0, 1.0], [torch.nan], [0, torch.nan, 0.5], 0.5,
        [torch.nan, 0.5], torch.tensor(0.5), np.array([0.5, 0.2]), None,
    ],
)  # fmt: skip
def test_other_fractions_are_refused(fractions):
    values = torch.rand(1, 4, 4)
    with pytest.raises(ChoiceError, match=r"fractions are .*: expected rising numbers in \[0, 1"):
        matched_counts(values, fractions)


@pytest.mark.parametrize("fractions", [["a"], "0.5", [True], [[0.1]], [1j]])
def test_fractions_that_are_no_numbers_are_refused(fractions):
    with pytest.raises(ChoiceError, match="fractions is .*: expected a number"):
        matched_counts(torch.rand(1, 4, 4), fractions)


@pytest.mark.parametrize(
    "fractions",
    [np.array([0, 0.25, 0.5], np.float32), torch.tensor([0, 0.25, 0.5]), (np.int64(0), 0.25, 0.5)],
)
def test_fractions_may_be_numbers_of_any_library(fractions):
    assert matched_counts(torch.rand(1, 4, 4), fractions).tolist() == [[0, 4, 8]]
    edited = top_edit(torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2), ROWS, fractions[1])
    assert edited.flatten().tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.zeros(1, 3, 2, 2, 2), "expected floats"),
        (torch.zeros(1, 2, 2, dtype=torch.long), "expected floats"),
        (np.zeros((1, 2, 2)), "expected floats"),
        (None, "expected floats"),
        (torch.tensor([[[0.0, torch.nan]]]), "not finite"),
        (torch.tensor([[[0.0, torch.inf]]]), "not finite"),
    ],
)
def test_maps_without_an_order_are_refused(values, message):
    with pytest.raises(InputError, match=message):
        pixel_order(values)


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
def test_one_value_that_is_not_finite_is_refused_wherever_it_is(wrong):
    for place in (0, 517, 1023):
        values = MAPS["signed"].clone()
        values[2].view(-1)[place] = wrong
        with pytest.raises(InputError, match="not finite"):
            pixel_order(values)


def test_an_empty_batch_has_empty_orders_and_counts():
    empty = torch.zeros(0, 2, 3)
    assert pixel_order(empty).shape == (0, 6)
    assert matched_counts(empty, [0, 0.5]).shape == (0, 2)
    assert paper_counts(empty, [0, 0.5], pixel_order(empty)).shape == (0, 2)


def test_a_priority_of_another_size_is_refused():
    with pytest.raises(InputError, match=r"priority has shape \(1, 3\): expected .* = \(1, 4\)"):
        pixel_order(torch.zeros(1, 2, 2), torch.arange(3)[None])


@pytest.mark.parametrize(
    "pixels",
    [
        torch.zeros(0, 3, 2, 2), torch.zeros(3, 2, 2), torch.zeros(1, 3, 2, 2).long(),
        torch.full((1, 3, 2, 2), torch.nan), torch.full((1, 3, 2, 2), 1.5),
    ],
)  # fmt: skip
def test_ties_are_broken_for_images_in_0_and_1(pixels):
    with pytest.raises(ImageError, match="pixels"):
        tie_priority(pixels)


def test_a_seed_is_a_whole_number_of_0_or_more():
    pixels = random_pixels(1, 3, 4, 4)
    for two in (np.int64(2), np.float32(2), torch.tensor(2)):
        assert torch.equal(tie_priority(pixels, two), tie_priority(pixels, 2))
    for seed in (-1, 0.5, "2", None):
        with pytest.raises(ChoiceError, match="seed is"):
            tie_priority(pixels, seed)
