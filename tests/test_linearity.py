"""Predicted and actual changes: by hand where they agree, and where a kink separates them."""

import pytest
import torch
from torch import nn

from chiaroscuro import Classifier
from chiaroscuro.choices import WHAT_IF_STEPS
from chiaroscuro.edits import filled, pixel_order, top_edit
from chiaroscuro.errors import ChoiceError, ImageError, InputError
from chiaroscuro.metrics import Linearity, linearity
from tests.toys import Linear, random_pixels, small_cnn


def row(*values):
    return torch.tensor(values, dtype=torch.float64).reshape(1, 1, 1, -1)


def test_the_prediction_is_exact_for_a_linear_network():
    weights = random_pixels(4, 3, 5, 5) - 0.5
    pixels, edited = random_pixels(3, 3, 5, 5, seed=1), random_pixels(3, 3, 5, 5, seed=2)
    found = linearity(Classifier(Linear(weights)), pixels, edited)
    moved = torch.einsum("kchw,bchw->bk", weights, edited - pixels)
    torch.testing.assert_close(found.predicted_change, moved)
    torch.testing.assert_close(found.actual_change, found.predicted_at_steps())
    torch.testing.assert_close(found.actual_change[:, 1], 0.25 * moved)
    assert found.steps == WHAT_IF_STEPS
    assert found.within_tolerance(torch.tensor([0, 3, 2]), tolerance=1e-12).all()
    assert torch.equal(found.flips(), found.predicted_flips())
    before = torch.einsum("kchw,bchw->bk", weights, pixels)
    expected = (before + moved).argmax(1) != before.argmax(1)
    assert torch.equal(found.flips()[:, -1], expected)
    assert found.changed.tolist() == [25, 25, 25]


class Kinked(nn.Module):
    """Class 0 has relu(x0 - 0.5) + x1, class 1 has 0.2."""

    def forward(self, x):
        first, second = x.flatten(1).T
        return torch.stack([(first - 0.5).relu() + second, torch.full_like(first, 0.2)], dim=1)


def test_a_kink_separates_prediction_and_actual_change_by_hand():
    kinked = Classifier(Kinked(), channels=1)
    # Both pixels go black: relu(0.9 - 0.5) + 0.1 = 0.5 falls to 0; first order says by 1.
    found = linearity(kinked, row(0.9, 0.1), row(0, 0), [0.25, 0.4, 0.5, 1])
    assert found.logits.tolist() == [pytest.approx([0.5, 0.2])]
    assert found.predicted_change.tolist() == [pytest.approx([-1.0, 0.0])]
    # 0.9 - 0.9 t reaches the kink at t = 0.444; from there on only x1 falls.
    assert found.actual_change[0, :, 0].tolist() == pytest.approx([-0.25, -0.4, -0.45, -0.5])
    assert found.actual_change[0, :, 1].tolist() == [0, 0, 0, 0]
    assert found.flips().tolist() == [[False, True, True, True]]
    assert found.predicted_flips().tolist() == [[False, True, True, True]]
    target = torch.tensor([0])
    assert found.within_tolerance(target, 0.05).tolist() == [[True, True, False, False]]
    assert found.within_tolerance(target, 0.11).tolist() == [[True, True, True, False]]
    assert found.within_tolerance(target, 0.5).tolist() == [[True, True, True, True]]
    # No change is predicted for the other class, and none comes.
    assert found.within_tolerance(torch.tensor([1])).all()
    assert [found.valid_step(target, share).item() for share in (0.05, 0.5)] == [0.4, 1.0]


def test_the_valid_step_ends_before_the_first_that_is_out():
    actual = torch.tensor([[[0.1], [5.0], [1.0]], [[9.0], [0.5], [1.0]]])
    found = Linearity((0.1, 0.5, 1.0), torch.zeros(2, 1), torch.ones(2, 1), actual, torch.ones(2))
    target = torch.tensor([0, 0])
    assert found.within_tolerance(target).tolist() == [[True, False, True], [False, True, True]]
    assert found.valid_step(target).tolist() == [0.1, 0.0]


def test_on_the_flat_side_of_a_kink_a_prediction_of_0_is_wrong():
    found = linearity(Classifier(Kinked(), channels=1), row(0.4, 0.1), row(0.9, 0.1), [0.1, 1])
    assert found.predicted_change[0].tolist() == [0, 0]
    assert found.actual_change[0, :, 0].tolist() == pytest.approx([0, 0.4])
    assert found.within_tolerance(torch.tensor([0])).tolist() == [[True, False]]
    assert found.flips().tolist() == [[False, True]]
    assert found.predicted_flips().tolist() == [[False, False]]
    assert found.changed.tolist() == [1]  # the other pixel was 0.1 already


def test_the_wrong_direction_is_never_within_tolerance():
    predicted = torch.tensor([[1.0, 0.0]])
    actual = torch.tensor([[[-0.001, 0.0]]])
    found = Linearity((1.0,), torch.zeros(1, 2), predicted, actual, torch.tensor([1]))
    assert not found.within_tolerance(torch.tensor([0]), tolerance=2.0).any()


def test_every_number_is_that_of_plain_calls():
    toy = Classifier(small_cnn().double(), mean=0.5, std=0.25)
    pixels = random_pixels(3, 3, 12, 12)
    order = pixel_order(random_pixels(3, 12, 12, seed=4))
    edited = top_edit(pixels, filled(pixels, "black"), order, 0.1)
    mask = torch.zeros(3, 144, dtype=torch.bool)
    for b in range(3):
        mask[b, order[b, :14]] = True
    expected = torch.where(mask.reshape(3, 1, 12, 12), 0.0, pixels)
    assert torch.equal(edited, expected)
    found = linearity(toy, pixels, edited, [0.3, 1.0])
    for b in range(3):
        clean = toy(pixels[[b]])[0]
        for s, step in enumerate(found.steps):
            moved = toy((1 - step) * pixels[[b]] + step * edited[[b]])[0] - clean
            torch.testing.assert_close(found.actual_change[b, s], moved, rtol=1e-9, atol=1e-11)
    assert torch.equal(toy(edited) - toy(pixels), found.actual_change[:, -1])
    assert toy.module.training


def test_small_steps_come_near_the_prediction():
    toy = Classifier(small_cnn().double())
    pixels, edited = random_pixels(4, 3, 12, 12), random_pixels(4, 3, 12, 12, seed=9)
    gaps = [
        float((found.actual_change - found.predicted_at_steps()).abs().max() / step)
        for step in (1.0, 1e-2, 1e-5)
        for found in (linearity(toy, pixels, edited, [step]),)
    ]
    assert gaps[0] > gaps[1] > gaps[2]
    assert gaps[2] < 1e-9  # within a linear piece of the network


@pytest.mark.parametrize(
    "steps", [[], [0, 1], [0.5, 0.5], [1, 0.5], [0.5, 1.5], [-1], [torch.nan], 0.5]
)
def test_steps_rise_within_0_and_1(steps):
    toy = Classifier(small_cnn().double())
    pixels = random_pixels(1, 3, 9, 9)
    with pytest.raises(ChoiceError, match="expected rising numbers in"):
        linearity(toy, pixels, pixels, steps)


def test_other_images_are_refused():
    toy = Classifier(small_cnn().double())
    pixels = random_pixels(1, 3, 9, 9)
    with pytest.raises(InputError, match=r"edited images have shape \(1, 3, 9, 8\)"):
        linearity(toy, pixels, pixels[..., :8])
    with pytest.raises(ImageError, match="pixels"):
        linearity(toy, pixels, pixels + 1)
