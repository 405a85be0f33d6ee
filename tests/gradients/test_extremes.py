"""Which rival holds an extreme, where rivals tie, and extremes of chunks in any order."""

import pytest
import torch

from chiaroscuro import Classifier, class_gradients
from chiaroscuro.gradients.extremes import Extremes
from tests.gradients.oracle import naive_score
from tests.toys import Linear, all_class_gradients, random_pixels


def test_argmax_names_the_rival_at_each_extreme(net, classifier):
    pixels = random_pixels(2, 3, 12, 12)
    found = class_gradients(classifier, pixels, [1, 4], argmax=True)
    gradients = all_class_gradients(naive_score(net), pixels)
    for b, c in enumerate([1, 4]):
        rows = gradients[b].clone()
        rows[c] = -torch.inf
        assert torch.equal(found.rival_argmax[b], rows.argmax(dim=0))
        rows[c] = torch.inf
        assert torch.equal(found.rival_argmin[b], rows.argmin(dim=0))


@pytest.mark.parametrize("budget", [1, None])
def test_argmax_is_minus_one_where_rivals_tie(budget):
    weights = torch.zeros(4, 1, 1, 4)
    weights[0] = 9.0  # the target never counts
    weights[1, 0, 0] = torch.tensor([2.0, 2.0, 1.0, 1.0])
    weights[2, 0, 0] = torch.tensor([2.0, 1.0, 1.0, 1.0])
    weights[3, 0, 0] = torch.tensor([1.0, 3.0, 1.0, 2.0])
    classifier = Classifier(Linear(weights), channels=1)
    found = class_gradients(
        classifier, torch.zeros(1, 1, 1, 4), 0, argmax=True, memory_budget=budget
    )
    assert found.rival_argmax.flatten().tolist() == [-1, 3, -1, 3]
    assert found.rival_argmin.flatten().tolist() == [3, 2, -1, -1]


def test_a_repeated_rival_is_no_tie():
    # Image 0 has two rivals, image 1 (whose target is listed) only one, repeated to fill its row.
    weights = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1, 1)
    found = class_gradients(
        Classifier(Linear(weights), channels=1),
        torch.zeros(2, 1, 1, 1),
        [2, 1],
        rivals=[0, 1],
        argmax=True,
    )
    assert found.rival_argmax.flatten().tolist() == [1, 0]
    assert found.rival_argmin.flatten().tolist() == [0, 0]


def test_a_rival_repeated_in_a_later_chunk_is_no_tie():
    extremes = Extremes(torch.empty(1, 1), argmax=True)
    for value, rival in ((3.0, 2), (3.0, 2), (1.0, 4), (1.0, 5)):
        extremes.add(torch.full((1, 1, 1), value), torch.tensor([[rival]]), first=False)
    assert (extremes.high_class.item(), extremes.low_class.item()) == (2, -1)


def test_classes_may_lie_side_by_side_or_one_after_the_other():
    gradients = random_pixels(2 * 60, 7, seed=2) - 0.5
    side_by_side = torch.unflatten(gradients.T, 1, (2, 60))
    for given in (side_by_side, side_by_side.contiguous()):
        extremes = Extremes(torch.empty(2, 60, dtype=torch.float64), argmax=False)
        for values in (slice(25), slice(25, 60)):
            extremes.add(given[:4, :, values], torch.zeros(2, 4), first=True, values=values)
            extremes.add(given[4:, :, values], torch.zeros(2, 3), first=False, values=values)
        assert torch.equal(extremes.target, given[0])
        assert torch.equal(extremes.high, given[1:].amax(dim=0))
        assert torch.equal(extremes.low, given[1:].amin(dim=0))
