"""The pointing game and the energy share: hand-made maps and regions, and chance."""

import numpy as np
import pytest
import torch

from chiaroscuro.errors import ChoiceError, InputError
from chiaroscuro.metrics import localization
from tests.toys import random_pixels


def region(rows, columns, side=5):
    found = torch.zeros(1, side, side, dtype=torch.bool)
    found[0, rows, columns] = True
    return found


def single(place, side=5):
    values = torch.zeros(1, side, side, dtype=torch.float64)
    values[0, place[0], place[1]] = 2.0
    return values


def test_by_hand():
    values = torch.tensor([[[1.0, -6.0], [3.0, 0.0]]])
    found = localization(values, torch.tensor([[[True, True], [False, False]]]))
    assert (found.hit.item(), found.energy.item()) == (0.0, 0.7)
    assert (found.chance_hit.item(), found.chance_energy.item()) == (0.5, 0.5)
    assert found.center_hit.item() == 0


def test_tolerance_reaches_by_rows_and_columns():
    box = region(slice(2, 4), slice(2, 4))
    near, far = single((1, 1)), single((0, 2))
    assert [localization(near, box, t).hit.item() for t in (0, 1, 2)] == [0, 1, 1]
    assert [localization(far, box, t).hit.item() for t in (0, 1, 2)] == [0, 0, 1]
    assert localization(near, box, 1).energy.item() == 0
    assert localization(near, box, 1).chance_hit.item() == 16 / 25
    assert localization(near, box, 1).chance_energy.item() == 4 / 25
    assert localization(near, box).center_hit.item() == 1
    reached = [
        localization(single((r, c)), region(0, 0), 1).hit.item() for r in range(3) for c in range(3)
    ]
    assert reached == [1, 1, 0, 1, 1, 0, 0, 0, 0]


def test_several_highest_pixels_count_by_their_share():
    values = single((0, 0)) + single((4, 4)) + single((0, 4))
    assert localization(values, region(0, slice(None))).hit.item() == pytest.approx(2 / 3)


def test_a_map_of_zeros_is_chance():
    found = localization(torch.zeros(1, 5, 5), region(slice(0, 2), slice(None)))
    assert (found.hit.item(), found.energy.item()) == (0.4, 0.4)


def test_random_maps_come_to_chance():
    values = random_pixels(4000, 6, 6, seed=3)
    regions = region(slice(0, 2), slice(0, 3), 6).expand(4000, -1, -1)
    found = localization(values, regions)
    assert found.hit.mean().item() == pytest.approx(1 / 6, abs=4 * (5 / 36 / 4000) ** 0.5)
    assert found.energy.mean().item() == pytest.approx(1 / 6, abs=0.005)
    assert set(found.chance_hit.tolist()) == {1 / 6}


@pytest.mark.parametrize(
    ("values", "regions", "message"),
    [
        (torch.zeros(1, 2, 2), torch.ones(1, 2, 3, dtype=torch.bool), "expected booleans"),
        (torch.zeros(1, 2, 2), torch.ones(1, 2, 2), "are torch.float32"),
        (torch.full((1, 2, 2), torch.inf), torch.ones(1, 2, 2, dtype=torch.bool), "not finite"),
        (torch.zeros(1, 2, 2), torch.zeros(1, 2, 2, dtype=torch.bool), "a region is empty"),
    ],
)
def test_other_input_is_refused(values, regions, message):
    with pytest.raises(InputError, match=message):
        localization(values, regions)


@pytest.mark.parametrize("tolerance", [-1, 0.5, "1", torch.nan, torch.ones(2)])
def test_another_tolerance_is_refused(tolerance):
    with pytest.raises(ChoiceError, match="tolerance is"):
        localization(single((0, 0)), region(0, 0), tolerance)


@pytest.mark.parametrize("one", [np.int64(1), np.float32(1), torch.tensor(1), 1.0])
def test_a_tolerance_may_be_a_number_of_any_library(one):
    assert localization(single((0, 0)), region(1, 1), one).hit.item() == 1


def test_class_indices_point_nowhere():
    with pytest.raises(InputError, match=r"is torch.int64: expected floats \(B, H, W\)"):
        localization(torch.zeros(1, 5, 5, dtype=torch.long), region(0, 0))
