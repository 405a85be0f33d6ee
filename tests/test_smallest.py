"""Smallest edits: against all subsets of small images, one by one, and whatever the batch."""

import copy
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models import VisionTransformer

from chiaroscuro import Classifier, choices, smallest_edits
from chiaroscuro.edits import filled
from chiaroscuro.errors import ChoiceError, ImageError, InputError, ModelError
from chiaroscuro.smallest.search import PREDICTIONS
from chiaroscuro.units import units
from tests.toys import Linear, eager_net, random_pixels, sizes, small_cnn

SIDES = (3, 4)
N = 12


class Crossed(torch.nn.Module):
    """Logits with products of pixels: what one pixel does depends on others."""

    def __init__(self, seed, classes=3, products=0.3):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        draw = {"generator": generator, "dtype": torch.float64}
        self.linear = torch.nn.Parameter(torch.randn(classes, N, **draw))
        self.square = torch.nn.Parameter(products * torch.randn(classes, N, N, **draw))

    def forward(self, x):
        flat = x.flatten(1)
        crossed = torch.einsum("bi,kij,bj->bk", flat, self.square, flat)
        return flat @ self.linear.T + crossed


def crossed(seed, products=0.3):
    return Classifier(Crossed(seed, products=products), channels=1)


def image(seed, count=1):
    return random_pixels(count, 1, *SIDES, seed=seed)


def every_edit(classifier, pixels, changed, size):
    """The predicted class under each edit of so many pixels."""
    subsets = list(combinations(range(N), size))
    masks = torch.zeros(len(subsets), N, dtype=torch.bool)
    for row, subset in zip(masks, subsets, strict=True):
        row[list(subset)] = True
    edited = torch.where(masks.view(-1, 1, *SIDES), changed, pixels)
    return classifier(edited).argmax(dim=1)


def smallest_size(classifier, pixels, changed, works):
    """The size of the truly smallest edit, by trying them all; None without one."""
    for size in range(N + 1):
        if bool(works(every_edit(classifier, pixels, changed, size)).any()):
            return size
    return None


def check_minimal(classifier, start, end, found, works):
    """The edit works, and with any one unit less it does not."""
    (order,) = found.order
    edited = torch.where(order > 0, end, start)
    assert bool(works(classifier(edited).argmax(dim=1)))
    for unit in range(1, int(found.units[0]) + 1):
        without = torch.where((order > 0) & (order != unit), end, start)
        assert not bool(works(classifier(without).argmax(dim=1)))


@pytest.mark.parametrize("seed", range(12))
def test_for_sums_of_pixels_it_is_the_smallest_there_is(seed):
    classifier, pixels = crossed(seed, products=0.0), image(seed)
    changed = filled(pixels, "black")
    own = classifier(pixels).argmax(dim=1)
    best = smallest_size(classifier, pixels, changed, lambda k: k != own)
    found = smallest_edits(classifier, pixels, "black")
    assert bool(found.reached[0]) == (best is not None)
    if best is not None:
        assert int(found.units[0]) == best == int(found.masks.sum())
        assert bool(found.minimal[0])
        check_minimal(classifier, pixels, changed, found, lambda k: k != own)


def sum_of_many(seed, needed):
    """A classifier of sums over 400 pixels, and an image where about so many turn it to black."""
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(1, 1, 20, 20, generator=generator, dtype=torch.float64)
    pixels = 0.5 + random_pixels(1, 1, 20, 20, seed=seed) / 2
    parts = (weights * pixels).flatten().sort(descending=True).values
    lead = parts[:needed].sum() - parts[needed - 1] / 2
    bias = torch.stack([torch.zeros(()).double(), lead - parts.sum()])
    both = torch.cat([torch.zeros_like(weights), weights])
    return Classifier(Linear(both, bias), channels=1), pixels


@pytest.mark.parametrize("needed", [1, 2, 5, 30, 60])
def test_for_sums_of_many_pixels_it_is_the_smallest_there_is(needed):
    classifier, pixels = sum_of_many(needed, needed)
    found = smallest_edits(classifier, pixels, "black")
    assert found.before.tolist() == [1] and found.after.tolist() == [0]
    assert found.units.tolist() == [needed] and found.minimal.all()
    check_minimal(classifier, pixels, torch.zeros_like(pixels), found, lambda k: k == 0)
    assert int(found.gradients[0]) <= 48


def test_each_unit_of_a_large_edit_is_needed():
    classifier, counts = Classifier(eager_net(3 * 16 * 16)), []
    for seed in range(6):
        pixels = random_pixels(1, 3, 16, 16, seed=seed)
        changed, own = filled(pixels, "brighter:0.1"), classifier(pixels).argmax(dim=1)
        for budget in (2, 64):  # with few gradients the proof has more to restore
            found = smallest_edits(classifier, pixels, "brighter:0.1", budget=budget)
            if found.minimal.all():
                check_minimal(classifier, pixels, changed, found, own.ne)
                counts.append(int(found.units[0]))
    assert len(counts) > 6 and max(counts) > 12


def test_with_products_of_pixels_it_is_rarely_larger():
    more = []
    for seed in range(30):
        classifier, pixels = crossed(seed), image(seed)
        own = classifier(pixels).argmax(dim=1)
        best = smallest_size(classifier, pixels, filled(pixels, "white"), own.ne)
        found = smallest_edits(classifier, pixels, "white")
        if best is not None:
            assert bool(found.reached[0])
            more.append(int(found.units[0]) - best)
    assert len(more) > 15 and sum(more) <= 1, more


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    fill=st.sampled_from(["black", "white", "mean", "brighter:0.5", "noise"]),
    goal=st.sampled_from([None, 0, 1, 2, "keep"]),
)
def test_each_unit_is_needed(seed, fill, goal):
    classifier, pixels = crossed(seed), image(seed)
    changed, own = filled(pixels, fill), classifier(pixels).argmax(dim=1)
    to = None if goal == "keep" else goal
    found = smallest_edits(classifier, pixels, fill, to, keep=goal == "keep")
    start, end = (changed, pixels) if goal == "keep" else (pixels, changed)

    def works(classes):
        if goal == "keep":
            return classes == own
        return classes != own if goal is None else classes == goal

    assert int(found.gradients[0]) <= 64
    if bool(found.reached[0]):
        assert bool(found.minimal[0])
        check_minimal(classifier, start, end, found, works)
    else:
        assert not found.masks.any() and int(found.units[0]) == 0
    after = torch.where(found.masks[:, None], end, start)
    assert torch.equal(found.after, classifier(after).argmax(dim=1))


def test_it_gives_each_image_the_same_edit_in_any_batch():
    classifier, pixels = Classifier(eager_net(300)), random_pixels(5, 3, 10, 10)
    to = torch.tensor([0, 1, 2, 3, 4])
    for options in ({}, {"to": to}, {"keep": True}, {"cells": 3}):
        together = smallest_edits(classifier, pixels, "noise", **options, seed=3)
        for n in range(5):
            own = {**options, "to": int(to[n])} if "to" in options else options
            alone = smallest_edits(classifier, pixels[n : n + 1], "noise", **own, seed=3)
            for name in ("order", "reached", "minimal", "gradients", "predictions"):
                assert torch.equal(getattr(alone, name)[0], getattr(together, name)[n]), name


def test_memory_budget_and_chunks_change_nothing():
    classifier, pixels = Classifier(eager_net(300)), random_pixels(3, 3, 10, 10)
    whole = smallest_edits(classifier, pixels, "white")
    assert bool(whole.masks.any())
    small = smallest_edits(classifier, pixels, "white", memory_budget=1 << 16)
    with sizes(forward_bytes=1, graph_bytes=1):
        single = smallest_edits(classifier, pixels, "white")
    for other in (small, single):
        assert torch.equal(whole.order, other.order)


def test_the_model_random_numbers_and_pixels_stay_as_they_were():
    net = small_cnn().double().train()
    before, state = copy.deepcopy(net.state_dict()), torch.random.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()
    pixels = random_pixels(2, 3, 10, 10).requires_grad_()
    kept = pixels.detach().clone()
    smallest_edits(Classifier(net), pixels, "noise")
    assert net.training and all(part.training for part in net.modules())
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())
    assert np.array_equal(numpy_state, np.random.get_state()[1])
    assert pixels.grad is None and torch.equal(pixels, kept)


def constant(classes=3):
    weights = torch.zeros(classes, 1, *SIDES, dtype=torch.float64)
    return Classifier(Linear(weights, torch.arange(classes).double()), channels=1)


def test_a_network_that_answers_the_same_for_all_is_not_turned():
    found = smallest_edits(constant(), image(0), "black")
    assert not found.reached.any() and not found.minimal.any() and not found.masks.any()
    assert found.before.tolist() == found.after.tolist() == [2]
    kept = smallest_edits(constant(), image(0), "black", keep=True)
    assert kept.reached.all() and kept.minimal.all() and kept.units.tolist() == [0]


def test_a_class_that_cannot_win_is_not_reached():
    weights = torch.zeros(3, 1, *SIDES, dtype=torch.float64)
    weights[0], weights[1] = 1.0, -1.0
    classifier = Classifier(Linear(weights, torch.tensor([0.0, 6, -50]).double()), channels=1)
    pixels = torch.full((1, 1, *SIDES), 0.9, dtype=torch.float64)
    assert smallest_edits(classifier, pixels, "black").reached.all()
    found = smallest_edits(classifier, pixels, "black", to=2)
    assert not found.reached.any() and not found.masks.any()


class Broken(Linear):
    """Logits are NaN once a pixel is black."""

    def forward(self, x):
        return super().forward(x).masked_fill((x == 0).flatten(1).any(dim=1)[:, None], torch.nan)


def test_scores_that_are_not_numbers_turn_nothing():
    weights = torch.randn(3, 1, *SIDES, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ModelError, match="the logits are NaN or infinite: check the module"):
        smallest_edits(Classifier(Broken(weights), channels=1), image(0).float(), "black")


def test_pixels_whose_value_stays_are_no_part_of_it():
    classifier, pixels = crossed(3), image(3)
    pixels[..., 0] = 0
    found = smallest_edits(classifier, pixels, "black")
    assert not found.masks[..., 0].any()
    assert smallest_edits(classifier, torch.zeros_like(pixels), "black").units.tolist() == [0]


def test_the_budget_is_kept_and_what_is_not_proved_is_not_said():
    net = Classifier(eager_net(3 * 24 * 24))
    pixels = random_pixels(4, 3, 24, 24, seed=5)
    for budget in (1, 2, 5):
        found = smallest_edits(net, pixels, "mean", keep=True, budget=budget)
        assert int(found.gradients.max()) <= budget
        assert int(found.predictions.max()) <= PREDICTIONS * budget + 64
    full = smallest_edits(net, pixels, "mean", keep=True)
    assert full.units.float().mean() <= found.units.float().mean()
    assert torch.equal(full.passes, full.gradients + full.predictions)


def test_untouched_pixels_are_left_and_disjoint_edits_follow():
    classifier, pixels = crossed(1, products=0.0), image(1)
    first = smallest_edits(classifier, pixels, "black")
    assert first.masks.any()
    second = smallest_edits(classifier, pixels, "black", untouched=first.masks)
    assert not (first.masks & second.masks).any()
    assert not bool(second.reached[0]) or second.units[0] >= first.units[0]


@pytest.mark.parametrize("cells", [2, "2", "superpixels", "superpixels:3", "pixels", 1, 100])
def test_whole_units_change(cells):
    classifier, pixels = Classifier(eager_net(360)), random_pixels(2, 3, 12, 10, seed=4)
    found = smallest_edits(classifier, pixels, "black", cells=cells)
    for n, labels in enumerate(units(pixels, cells)):
        for unit in labels.unique():
            assert len(found.order[n][labels == unit].unique()) == 1
        changed = found.order[n].unique()
        assert len(changed[changed > 0]) == int(found.units[n])


def test_a_volume_has_an_edit():
    class Volume(torch.nn.Module):
        def __init__(self):
            super().__init__()
            generator = torch.Generator().manual_seed(1)
            draw = {"generator": generator, "dtype": torch.float64}
            self.weights = torch.nn.Parameter(torch.randn(3, 2, 3, 4, 4, **draw))

        def forward(self, x):
            return torch.einsum("kcdhw,bcdhw->bk", self.weights, x)

    classifier = Classifier(Volume(), channels=2, volumes=True)
    found = smallest_edits(classifier, random_pixels(1, 2, 3, 4, 4), "black", cells=2)
    assert found.order.shape == (1, 3, 4, 4) and found.reached.all()


def test_a_transformer_has_an_edit():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"image_size": 16, "patch_size": 4, "hidden_dim": 32, "mlp_dim": 64}
        net = VisionTransformer(**sizes, num_layers=2, num_heads=4, num_classes=5)
        torch.nn.init.normal_(net.heads.head.weight)  # zero without training
    classifier, pixels = Classifier(net.double()), random_pixels(1, 3, 16, 16)
    own = classifier(pixels).argmax(dim=1)
    found = smallest_edits(classifier, pixels, "noise")
    assert found.reached.all() and found.minimal.all()
    check_minimal(classifier, pixels, filled(pixels, "noise"), found, own.ne)


def test_own_changed_pixels_are_taken():
    classifier, pixels = crossed(2), image(2)
    own = smallest_edits(classifier, pixels, filled(pixels, "white"))
    assert torch.equal(own.order, smallest_edits(classifier, pixels, "white").order)
    with pytest.raises(ImageError, match="expected the pixels'"):
        smallest_edits(classifier, pixels, torch.zeros(1, 1, 2, 2))


def test_other_input_is_refused_in_one_line():
    classifier, pixels = crossed(0), image(0, 2)
    for options, words in (
        ({"to": 3}, r"to 3 is out of range: expected 0\.\.2"),
        ({"to": -1}, "to -1 is out of range"),
        ({"to": [0, 1, 2]}, "to has 3 classes for 2 images"),
        ({"to": 0.5}, r"to is 0\.5: expected None, a class index"),
        ({"to": True}, "to is True: expected None, a class index"),
        ({"to": [0, None]}, r"to is \[0, None\]: expected None, a class index"),
        ({"to": "emu"}, "emu"),
        ({"budget": 0}, "budget is 0: expected at least 1"),
        ({"cells": "hexagons"}, "cells is 'hexagons': expected pixels, a side"),
        ({"cells": 0}, "cells is 0"),
        ({"seed": -1}, "seed is -1"),
        ({"memory_budget": 0}, "memory_budget is 0"),
    ):
        with pytest.raises(ChoiceError, match=words):
            smallest_edits(classifier, pixels, "black", **options)
    with pytest.raises(InputError, match="untouched has shape"):
        smallest_edits(classifier, pixels, "black", untouched=torch.zeros(1, 2, 2))
    with pytest.raises(ChoiceError, match="unknown fill"):
        smallest_edits(classifier, pixels, "gray")


@pytest.mark.parametrize("fill", [f"{n}:0.3" if r.amount else n for n, r in choices.FILLS.items()])
def test_every_fill_works(fill):
    classifier, pixels = Classifier(eager_net(300)), random_pixels(1, 3, 10, 10)
    found = smallest_edits(classifier, pixels, fill)
    edited = torch.where(found.masks[:, None], filled(pixels, fill), pixels)
    assert torch.equal(classifier(edited).argmax(dim=1), found.after)
    assert bool(found.reached[0]) == bool(found.after[0] != found.before[0])
