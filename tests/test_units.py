"""Units of an image: every pixel in one, cells by hand, superpixels connected and along edges."""

from collections import deque

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from chiaroscuro.choices import parse_cells
from chiaroscuro.errors import ChoiceError, ImageError
from chiaroscuro.units import units


def is_connected(ids: np.ndarray) -> bool:
    """Whether each id is one part: a search by hand, from the first pixel of each."""
    for number in range(ids.max() + 1):
        places = {tuple(place) for place in np.argwhere(ids == number).tolist()}
        if not places:
            return False
        reached = {min(places)}
        queue = deque(reached)
        while queue:
            place = queue.popleft()
            for axis in range(ids.ndim):
                for step in (-1, 1):
                    other = (*place[:axis], place[axis] + step, *place[axis + 1 :])
                    if other in places - reached:
                        reached.add(other)
                        queue.append(other)
        if reached != places:
            return False
    return True


def test_cells_by_hand():
    expected = [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]]
    assert units(torch.zeros(2, 1, 3, 5), 2).tolist() == [expected, expected]
    cubes = units(torch.zeros(1, 1, 2, 2, 3), "2")
    assert cubes.tolist() == [[[[0, 0, 1], [0, 0, 1]]] * 2]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 9), min_size=2, max_size=3),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(0, 99),
)
def test_superpixels_are_connected_and_leave_nothing_out(shape, side, channels, seed):
    pixels = torch.rand(1, channels, *shape, generator=torch.Generator().manual_seed(seed))
    ids = units(pixels, f"superpixels:{side}")
    assert ids.shape == (1, *shape) and ids.dtype == torch.int64
    assert is_connected(ids[0].numpy())


def halves() -> Tensor:
    """Black and white, with the border in column 37."""
    pixels = torch.zeros(1, 3, 60, 60)
    pixels[..., 37:] = 1
    return pixels


def test_superpixels_follow_edges():
    ids = units(halves(), "superpixels:15")[0]
    assert set(ids[:, :37].unique().tolist()).isdisjoint(ids[:, 37:].unique().tolist())
    assert 12 <= len(ids.unique()) <= 20


def test_an_image_has_the_same_superpixels_in_any_batch_and_nothing_random_is_drawn():
    pixels = torch.cat([halves(), torch.rand(1, 3, 60, 60, generator=torch.Generator())])
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    both = units(pixels, "superpixels")
    assert torch.equal(both[1:], units(pixels[1:], "superpixels"))
    assert torch.equal(state[0], torch.get_rng_state())
    assert np.array_equal(state[1], np.random.get_state()[1])


def test_one_color_is_a_grid():
    ids = units(torch.full((1, 3, 8, 8), 0.5), "superpixels:4")
    assert ids[0, ::4, ::4].tolist() == [[0, 1], [2, 3]]


@pytest.mark.parametrize(
    "cells", ["0", -1, "superpixels:0", "superpixels:x", "large", "4.5", "8:8"]
)
def test_other_cells_are_refused(cells):
    with pytest.raises(ChoiceError, match="cells is"):
        parse_cells(cells)


def test_pixels_are_units_of_their_own():
    assert units(torch.zeros(1, 1, 2, 2), "pixels").tolist() == [[[0, 1], [2, 3]]]
    assert units(torch.zeros(1, 1, 1, 1), "superpixels").tolist() == [[[0]]]
    with pytest.raises(ImageError):
        units(torch.zeros(3, 4, 4), 2)
