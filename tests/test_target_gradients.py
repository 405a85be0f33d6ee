"""The target class's gradient over explicit points, against derivatives made by hand."""

import copy
from typing import get_args

import pytest
import torch
from torch import nn

from chiaroscuro import Classifier
from chiaroscuro.choices import OwnScore
from chiaroscuro.errors import ChoiceError, ImageError, ModelError
from chiaroscuro.gradients import Points, class_gradients, target_gradients
from tests.toys import Linear, Quadratic, all_class_gradients, random_pixels, small_cnn

SCORES = get_args(OwnScore)


def some_points(count=3, images=2, seed=0):
    pixels = random_pixels(count, images, 3, 12, 10, seed=seed) * 1.4 - 0.2
    return Points(pixels, random_pixels(count, images, seed=seed + 1) - 0.3)


def score_by_hand(logits, c, score, multi_label=False):
    """The score of one row of logits, in plain words."""
    chances = [1 / (1 + torch.exp(-z)) for z in logits] if multi_label else None
    if chances is None:
        powers = [torch.exp(z) for z in logits]
        chances = [power / sum(powers) for power in powers]
    p = chances[c]
    return {"logit": logits[c], "log-probability": p.log(), "log-odds": (p / (1 - p)).log()}[score]


def oracle(module, points, target, score, multi_label=False):
    """Row by row, one derivative at a time."""
    total = torch.zeros_like(points.pixels[0])
    for p in range(len(points)):
        for b in range(total.shape[0]):
            x = points.pixels[p, b : b + 1].clone().requires_grad_(True)
            value = score_by_hand(module(x)[0], int(target[b]), score, multi_label)
            total[b] += points.weights[p, b] * torch.autograd.grad(value, x)[0][0]
    return total


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("multi_label", [False, True])
def test_it_is_the_weighted_sum_of_derivatives(score, multi_label):
    net = small_cnn().double().eval()
    points, target = some_points(), torch.tensor([3, 1])
    found = target_gradients(Classifier(net, multi_label=multi_label), points, target, score)
    expected = oracle(net, points, target, score, multi_label)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert found.abs().max() > 1e-3


def test_a_quadratic_by_hand():
    a, b = random_pixels(4, 1, 2, 2, seed=1) - 0.5, random_pixels(4, 1, 2, 2, seed=2) - 0.5
    points = Points(
        random_pixels(3, 2, 1, 2, 2), torch.tensor([[1.0, 0.5], [2, 0], [-1, 4]]).double()
    )
    found = target_gradients(Classifier(Quadratic(a, b), channels=1), points, 2, "logit")
    first = 1 * points.pixels[0, 0] + 2 * points.pixels[1, 0] - points.pixels[2, 0]
    second = 0.5 * points.pixels[0, 1] + 4 * points.pixels[2, 1]
    torch.testing.assert_close(found[0], a[2] * first + 2 * b[2])
    torch.testing.assert_close(found[1], a[2] * second + 4.5 * b[2])


def test_the_image_itself_is_the_engines_own():
    pixels = random_pixels(3, 3, 12, 12)
    toy = Classifier(small_cnn().double(), mean=0.5, std=0.25)
    points = Points(pixels[None], torch.ones(1, 3).double())
    for score in ("logit", "log-probability"):
        found = target_gradients(toy, points, torch.tensor([0, 4, 2]), score)
        engine = class_gradients(toy, pixels, [0, 4, 2], score=score)
        torch.testing.assert_close(found, engine.target_gradient, rtol=1e-9, atol=1e-12)


def test_log_odds_is_log_probability_over_the_others_chance():
    """d log(p / (1 - p)) = d log p / (1 - p), also where p is 1 to rounding."""
    weights = random_pixels(3, 1, 2, 2, seed=4) * torch.tensor([900.0, 1, 1]).view(3, 1, 1, 1)
    toy = Classifier(Linear(weights.double()), channels=1)
    points = Points(torch.ones(1, 1, 1, 2, 2).double(), torch.ones(1, 1).double())
    assert toy(points.pixels[0]).softmax(1)[0, 0] == 1
    assert target_gradients(toy, points, 0, "log-probability").abs().max() == 0
    rivals = torch.einsum("kchw->k", weights)[1:].softmax(0)
    expected = weights[0] - (rivals.view(2, 1, 1, 1) * weights[1:]).sum(0)
    torch.testing.assert_close(target_gradients(toy, points, 0, "log-odds")[0], expected)


def test_a_factor_multiplies_at_the_end():
    points, toy = some_points(), Classifier(small_cnn().double())
    factor = random_pixels(2, 3, 12, 10, seed=9)
    with_factor = Points(points.pixels, points.weights, factor)
    found = target_gradients(toy, with_factor, 1)
    torch.testing.assert_close(found, target_gradients(toy, points, 1) * factor)


@pytest.mark.parametrize("budget", [1, 200_000, None])
def test_batches_of_any_size_agree_and_one_image_alone(budget):
    points, target = some_points(5, 3), torch.tensor([0, 4, 2])
    toy = Classifier(small_cnn().double())
    whole = target_gradients(toy, points, target)
    cut = target_gradients(toy, points, target, memory_budget=budget)
    torch.testing.assert_close(cut, whole, rtol=1e-9, atol=1e-12)
    for b in range(3):
        alone = target_gradients(
            toy, points.images(b, b + 1), target[b : b + 1], memory_budget=budget
        )
        torch.testing.assert_close(alone[0], whole[b], rtol=1e-9, atol=1e-12)


class Counting(nn.Module):
    """Passes through and keeps the number of rows it was asked about."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.rows = inner, []

    def forward(self, x):
        self.rows.append(len(x))
        return self.inner(x)


def test_one_forward_pass_a_batch_and_a_budget_bounds_it():
    counting = Counting(small_cnn().double())
    toy = Classifier(counting)
    target_gradients(toy, some_points(1, 1), 0)
    assert counting.rows == [1]
    counting.rows.clear()
    target_gradients(toy, some_points(4, 2), 0)
    assert counting.rows == [1, 8]
    counting.rows.clear()
    target_gradients(toy, some_points(4, 2), 0, memory_budget=1)
    assert counting.rows == [1] * 9
    counting.rows.clear()
    saved = saved_bytes(counting.inner, some_points(1, 1).pixels[0])
    target_gradients(toy, some_points(5, 2), 0, memory_budget=int(1.6 * 3.5 * saved))
    assert counting.rows == [1, 3, 3, 3, 1]


def saved_bytes(net, row):
    """Bytes that autograd keeps of one row, counted apart from parameters."""
    net = copy.deepcopy(net).eval().requires_grad_(False)
    own = {p.untyped_storage().data_ptr() for p in [*net.parameters(), *net.buffers()]}
    sizes = {}

    def keep(tensor):
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = net(row.clone().requires_grad_(True))
    assert logits.requires_grad
    return sum(size for place, size in sizes.items() if place not in own)


def test_network_points_and_modes_are_left_as_found():
    net, points = small_cnn().double().train(), some_points()
    state, kept = copy.deepcopy(net.state_dict()), points.pixels.clone()
    with torch.no_grad():
        target_gradients(Classifier(net), points, 0)
    with torch.inference_mode():
        target_gradients(Classifier(net), points, 0)
    assert all(part.training for part in net.modules())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())
    assert torch.equal(points.pixels, kept)
    assert points.pixels.grad is None


class Mixing(nn.Module):
    def forward(self, x):
        return (x - x.mean(dim=0)).flatten(1)[:, :4] + x.flatten(1)[:, :4]


class Detached(nn.Module):
    def forward(self, x):
        return x.detach().flatten(1)[:, :4]


class Broken(nn.Module):
    def forward(self, x):
        return (x.flatten(1)[:, :4] * 0).sqrt()


@pytest.mark.parametrize(
    ("module", "error", "message"),
    [
        (Mixing(), ModelError, "mixes the batch"),
        (Detached(), ModelError, "carry no gradient"),
        (Broken(), ModelError, "NaN or infinite gradients"),
    ],
)
def test_faulty_networks_are_named(module, error, message):
    with pytest.raises(error, match=message):
        target_gradients(Classifier(module), some_points(), 0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"score": "odds"}, ChoiceError, "unknown score 'odds'.*log-odds"),
        ({"target": 5}, ChoiceError, "target 5 is out of range: expected 0..4"),
        ({"target": [0, 1, 2]}, ChoiceError, "target has 3 classes for 2 images"),
        ({"memory_budget": 0}, ChoiceError, "memory_budget is 0"),
        ({"points": Points(torch.zeros(1, 2, 3, 9, 9, dtype=torch.int64), torch.ones(1, 2))},
         ImageError, "points are torch.int64"),
        ({"points": Points(torch.zeros(0, 2, 3, 9, 9), torch.ones(0, 2))},
         ImageError, "at least one point"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(arguments, error, message):
    given = {"points": some_points(), "target": 0, **arguments}
    with pytest.raises(error, match=message):
        target_gradients(Classifier(small_cnn().double()), **given)


def test_it_agrees_with_every_class_run_apart():
    net, pixels = small_cnn().double().eval(), random_pixels(1, 3, 12, 12)
    every = all_class_gradients(net, pixels)[0]
    points = Points(pixels[None], torch.ones(1, 1).double())
    for k in range(5):
        found = target_gradients(Classifier(net), points, k, "logit")
        torch.testing.assert_close(found[0], every[k], rtol=1e-9, atol=1e-12)
