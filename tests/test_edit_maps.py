"""Edit maps: against plain loops, by hand, and the identities they must keep."""

import inspect
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from chiaroscuro import (
    EDIT_MAPS,
    Classifier,
    choices,
    class_gradients,
    deletion_curve,
    edit_map,
    load_classifier,
    saliency_maps,
)
from chiaroscuro.edits import filled, image_seeds
from chiaroscuro.errors import ChoiceError, ImageError, ModelError
from chiaroscuro.images import packaged_photo
from chiaroscuro.maps import Question, partial_edit
from tests.toys import Linear, Quadratic, random_pixels, small_cnn

FILLS = ["black", "white", "mean", "blur:0.2", "noise", "+0.1", "-0.3"]


def toy(**options):
    return Classifier(small_cnn().double(), mean=0.5, std=0.25, **options)


def question_of(classifier, pixels, changed, target, points, seed=0):
    return Question(classifier, pixels, changed, target, points, image_seeds(pixels, seed))


def schedule_of(**changed):
    """The defaults of a partial edit, some of them changed."""
    defaults = list(inspect.signature(partial_edit).parameters.values())[1:]
    return SimpleNamespace(**{**{each.name: each.default for each in defaults}, **changed})


def loss_of(classifier, x, d, c, score):
    """-sum_ch dS/dx * d of one image (C, H, W), by one derivative of a score."""
    x = x[None].clone().requires_grad_(True)
    z = classifier(x)[0]
    p = z.softmax(0)[c]
    value = {"log-probability": p.log(), "log-odds": (p / (1 - p)).log()}[score]
    return -(torch.autograd.grad(value, x)[0][0] * d).sum(0)


def partial_by_hand(classifier, x, after, c, points, schedule, seed):
    """The map of one image, pixel by pixel."""
    count = x[0].numel()
    source = np.random.default_rng(seed)
    shares = source.random(points)
    keys = source.random((points, count), np.float32)
    total = torch.zeros_like(x[0])
    for p in range(points):
        guided = p >= schedule.random
        low, high = schedule.guided_share if guided else schedule.random_share
        taken = round(float((low + (high - low) * shares[p]) * count))
        values = total.flatten().tolist()
        falling = sorted(range(count), key=lambda i: -values[i])
        rank = {pixel: place for place, pixel in enumerate(falling)}
        key = [
            rank[i] / count + schedule.jitter * float(keys[p, i]) if guided else float(keys[p, i])
            for i in range(count)
        ]
        point = x.clone()
        for i in sorted(range(count), key=lambda i: key[i])[:taken]:
            point[:, i // x.shape[2], i % x.shape[2]] = after[:, i // x.shape[2], i % x.shape[2]]
        total = total + loss_of(classifier, point, after - x, c, schedule.score)
    return total


@pytest.mark.parametrize("fill", FILLS)
def test_expected_effect_is_the_first_order_loss(fill):
    pixels, classifier = random_pixels(2, 3, 12, 10), toy()
    found = edit_map(classifier, pixels, fill, target=[3, 1])
    for b, c in enumerate([3, 1]):
        d = filled(pixels, fill)[b] - pixels[b]
        expected = loss_of(classifier, pixels[b], d, c, "log-probability")
        torch.testing.assert_close(found[b], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("fill", ["black", "noise", "+0.1"])
@pytest.mark.parametrize(("points", "schedule"), [
    (1, schedule_of()),
    (7, schedule_of()),
    (5, schedule_of(random=0, jitter=0.6, score="log-probability")),
    (5, schedule_of(random=5, random_share=(0.5, 0.5))),
])  # fmt: skip
def test_partial_edit_is_the_plain_loop(fill, points, schedule):
    pixels, classifier = random_pixels(2, 3, 8, 9), toy()
    changed, target = filled(pixels, fill), torch.tensor([0, 4])
    found = partial_edit(question_of(classifier, pixels, changed, target, points), **vars(schedule))
    for b, seed in enumerate(image_seeds(pixels, 0)):
        expected = partial_by_hand(
            classifier, pixels[b], changed[b], int(target[b]), points, schedule, seed
        )
        torch.testing.assert_close(found[b], expected, rtol=1e-8, atol=1e-11)


def test_the_public_call_is_the_default_schedule():
    pixels, classifier = random_pixels(2, 3, 8, 9), toy()
    target = classifier(pixels).argmax(1)
    expected = partial_edit(question_of(classifier, pixels, filled(pixels, "white"), target, 16))
    assert torch.equal(edit_map(classifier, pixels, "white", "partial-edit"), expected)


def test_by_hand_two_pixels():
    """Logits (2a + b, 0) at pixels (0.5, 1): black takes 2 * 0.5 and 1 * 1 of the log-odds."""
    weights = torch.tensor([[2.0, 1.0], [0.0, 0.0]]).double().reshape(2, 1, 1, 2)
    classifier = Classifier(Linear(weights), channels=1)
    pixels = torch.tensor([0.5, 1.0]).double().reshape(1, 1, 1, 2)
    chance = 1 / (1 + np.exp(-2))
    found = edit_map(classifier, pixels, "black", target=0)
    assert found.flatten().tolist() == pytest.approx([1 - chance, 1 - chance])
    found = edit_map(classifier, pixels, "black", "partial-edit", 3, target=0)
    assert found.flatten().tolist() == pytest.approx([3.0, 3.0])
    found = edit_map(classifier, pixels, "white", "partial-edit", 3, target=0)
    assert found.flatten().tolist() == pytest.approx([-3.0, 0.0])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**20), fill=st.sampled_from(FILLS), points=st.integers(1, 6))
def test_all_points_of_a_linear_margin_are_equal(seed, fill, points):
    """Two linear classes: the log-odds are linear, so partial-edit is points times the change."""
    weights = random_pixels(2, 3, 4, 5, seed=seed) - 0.5
    pixels = random_pixels(2, 3, 4, 5, seed=seed + 1)
    found = edit_map(Classifier(Linear(weights)), pixels, fill, "partial-edit", points, target=1)
    change = filled(pixels, fill) - pixels
    expected = points * -((weights[1] - weights[0]) * change).sum(dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**20), share=st.sampled_from([0.0, 1.0]))
def test_with_everything_or_nothing_changed_the_points_are_known(seed, share):
    """Share 1 samples the changed image, share 0 the image; a quadratic's gradients differ."""
    a, b = (random_pixels(2, 1, 3, 3, seed=seed + i) - 0.5 for i in (0, 1))
    pixels, changed = (
        random_pixels(1, 1, 3, 3, seed=seed + 2),
        random_pixels(1, 1, 3, 3, seed=seed + 3),
    )
    schedule = schedule_of(random=2, random_share=(share, share), guided_share=(share, share))
    classifier = Classifier(Quadratic(a, b), channels=1)
    found = partial_edit(question_of(classifier, pixels, changed, 0, 4), **vars(schedule))
    at = changed if share else pixels
    gradient = (a[0] - a[1]) * at + b[0] - b[1]
    torch.testing.assert_close(found, 4 * -(gradient * (changed - pixels)).sum(1))


def test_a_generator_decides_and_is_drawn_from():
    pixels, classifier = random_pixels(2, 3, 12, 12), toy()

    def map_from(generator):
        return edit_map(classifier, pixels, "black", "partial-edit", 6, generator=generator)

    source = torch.Generator().manual_seed(5)
    first, second = map_from(source), map_from(source)
    assert not torch.allclose(first, second)
    assert not torch.allclose(first, map_from(None))
    assert torch.equal(first, map_from(torch.Generator().manual_seed(5)))


class Counting(torch.nn.Module):
    """Passes through and counts the rows that gradients are computed for."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.rows = inner, 0

    def forward(self, x):
        self.rows += len(x) if x.requires_grad else 0
        return self.inner(x)


def any_change_by_hand(classifier, x, c, seed):
    """The map of any change of one image (C, H, W), pixel by pixel."""
    count = x[0].numel()
    source = np.random.default_rng(seed)
    total = torch.zeros_like(x[0])

    def add(places, change, weight):
        nonlocal total
        after, point = filled(x[None], change)[0], x.clone()
        for i in places:
            point[:, i // x.shape[2], i % x.shape[2]] = after[:, i // x.shape[2], i % x.shape[2]]
        loss = loss_of(classifier, point, after - x, c, "log-odds")
        total = total + weight * loss / loss.norm()

    def shaken(highest):
        noise = source.random(count, np.float32).tolist()
        falling = sorted(range(count), key=lambda i: -total.flatten()[i].item())
        key = {pixel: place / count + highest * noise[pixel] for place, pixel in enumerate(falling)}
        return sorted(range(count), key=key.__getitem__)

    for _ in range(5):
        for change in ("mean", "blur", "black"):
            keys = source.random(count, np.float32).tolist()
            order, taken = (
                sorted(range(count), key=keys.__getitem__),
                round(source.random() * count),
            )
            add(order[:taken], change, 1)
            add(order[taken:], change, 1)
    for share in (0.4, 0.3, 0.2, 0.1):
        add(shaken(0.1)[round(share * count) :], "black", 1)
    for share in (0.2, 0.18, 0.16, 0.14, 0.12, 0.1, 0.08, 0.06, 0.04, 0.02):
        for change in ("blur", "mean", "blur:0.03"):
            add(shaken(0.1)[: round(share * count)], change, 2)
    return total


def test_any_change_is_the_plain_loop():
    pixels, classifier = random_pixels(2, 3, 8, 9), toy()
    found = edit_map(classifier, pixels, "black", "any-change", target=[3, 1])
    for b, c in enumerate([3, 1]):
        expected = any_change_by_hand(classifier, pixels[b], c, 0)
        torch.testing.assert_close(found[b], expected, rtol=1e-8, atol=1e-11)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**20))
def test_any_change_of_a_linear_margin_is_its_expectation(seed):
    """Log-odds of two linear classes: a change has one effect wherever, so only counts matter."""
    weights = random_pixels(2, 3, 4, 5, seed=seed) - 0.5
    pixels = random_pixels(2, 3, 4, 5, seed=seed + 1)
    found = edit_map(Classifier(Linear(weights)), pixels, "white", "any-change", target=1)
    expected = torch.zeros_like(found)
    for change, count in {"mean": 30, "blur": 30, "blur:0.03": 20, "black": 14}.items():
        effect = -((weights[1] - weights[0]) * (filled(pixels, change) - pixels)).sum(dim=1)
        expected += count * effect / effect.flatten(1).norm(dim=1).view(-1, 1, 1)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_any_change_is_one_map_for_every_change_and_image_of_a_seed():
    pixels, classifier = random_pixels(2, 3, 12, 12), toy()
    one = edit_map(classifier, pixels, "black", "any-change", 40, 1)
    assert torch.equal(one, edit_map(classifier, pixels, "noise", "any-change", 40, 1))
    first, second = (
        edit_map(classifier, pixels, "black", "any-change", 40, 1, torch.Generator().manual_seed(s))
        for s in (5, 6)
    )
    assert not torch.allclose(first, second)
    twins = pixels[:1] + torch.tensor([0.0, 1e-7]).view(2, 1, 1, 1)
    near = edit_map(classifier, twins.clamp(0, 1), "black", "any-change", 30, 1)
    torch.testing.assert_close(near[0], near[1], rtol=1e-3, atol=1e-3)


def test_any_change_costs_at_most_64_gradient_passes():
    counting = Counting(small_cnn().double())
    pixels = random_pixels(1, 3, 12, 12)
    for points, rows in ((None, 64), (10, 10), (100, 64)):
        counting.rows = 0
        edit_map(Classifier(counting), pixels, "black", "any-change", points, 0)
        assert counting.rows == rows


@pytest.mark.parametrize("images", [1, 4])
def test_sixteen_points_cost_at_most_twenty_gradient_passes(images):
    counting = Counting(small_cnn().double())
    pixels = random_pixels(images, 3, 12, 12)
    edit_map(Classifier(counting), pixels, "black", "partial-edit")
    # The one row run alone, for each batch of points, has a forward pass and no backward one.
    assert 16 * images <= counting.rows <= 16 * images + 16
    counting.rows = 0
    edit_map(Classifier(counting), pixels[:1], "black")
    assert counting.rows == 1


def test_the_change_may_be_pixels():
    pixels, classifier = random_pixels(2, 3, 12, 12), toy()
    for name in EDIT_MAPS:
        named = edit_map(classifier, pixels, "noise", name, 4)
        given_pixels = edit_map(classifier, pixels, filled(pixels, "noise"), name, 4)
        assert torch.equal(named, given_pixels)
        unchanged = edit_map(classifier, pixels, pixels, name, 4)
        assert unchanged.abs().max() == 0 or name == "any-change"


def tiles():
    """The two packaged photos, scaled down and cut in 24 pieces of 32 px."""
    rows = []
    for name in ("cat", "coffee"):
        photo = Image.open(packaged_photo(name)).convert("RGB").resize((128, 96))
        grid = np.asarray(photo, np.float32).reshape(3, 32, 4, 32, 3) / 255
        rows.append(grid.transpose(0, 2, 4, 1, 3).reshape(12, 3, 32, 32))
    return torch.from_numpy(np.concatenate(rows))


@pytest.mark.parametrize("fill", ["black", "white"])
def test_edits_by_edit_maps_change_the_prediction_of_a_trained_network_sooner(fill):
    pixels, classifier = tiles(), load_classifier("cifar10-cnn")
    maps = dict(saliency_maps(class_gradients(classifier, pixels), ["original"]))
    maps |= {name: edit_map(classifier, pixels, fill, name) for name in EDIT_MAPS}
    curves = deletion_curve(classifier, pixels, maps, fill, protocol="matched")
    area = {name: curve.area() for name, curve in curves.items()}
    assert area["expected-effect"] < 0.9 * area["original"]
    assert area["partial-edit"] < 0.25 * area["original"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"method": "partial"}, ChoiceError, "unknown edit map 'partial'.*partial-edit"),
        ({"points": 1.5}, ChoiceError, "points is 1.5: expected a whole number"),
        ({"pixels": random_pixels(0, 3, 12, 12)}, ImageError, "with at least one image"),
        ({"change": torch.full((2, 3, 12, 12), torch.nan)}, ImageError, "change holds NaN"),
        ({"change": torch.full((2, 3, 12, 12), 255.0)}, ImageError, "change has values from 255"),
        ({"points": 0}, ChoiceError, "points is 0: expected at least 1"),
        ({"change": "blak"}, ChoiceError, "unknown fill 'blak': did you mean black"),
        ({"change": torch.zeros(2, 3, 5, 5)}, ImageError, r"change has shape \(2, 3, 5, 5\)"),
        ({"pixels": random_pixels(2, 1, 9, 9)}, ImageError, "pixels have 1 channels"),
        ({"target": 9}, ChoiceError, "target 9 is out of range"),
        ({"classifier": toy(multi_label=True)}, ChoiceError, "has no predicted class"),
        ({"classifier": Classifier(torch.nn.Flatten(0))}, ModelError, "expected logits"),
    ],
)
def test_wrong_arguments_are_named(arguments, error, message):
    arguments_ = {"classifier": toy(), "pixels": random_pixels(2, 3, 12, 12), "change": "black"}
    with pytest.raises(error, match=message):
        edit_map(**{**arguments_, **arguments})


@pytest.mark.parametrize("four", [np.int64(4), np.float32(4), torch.tensor(4)])
def test_points_and_targets_may_be_numbers_of_any_library(four):
    pixels, classifier = random_pixels(1, 3, 9, 9), toy()
    target = np.int64(2) if isinstance(four, np.generic) else torch.tensor(2)
    found = edit_map(classifier, pixels, "black", "partial-edit", four, target)
    assert torch.equal(found, edit_map(classifier, pixels, "black", "partial-edit", 4, 2))


def test_a_new_edit_map_takes_two_rows(monkeypatch):
    row = choices.MapChoice("first-channel", "the change of the first channel", "signed")
    monkeypatch.setitem(choices.EDIT_MAPS, "first-channel", row)
    monkeypatch.setitem(EDIT_MAPS, "first-channel", lambda q: (q.pixels - q.changed)[:, 0])
    pixels = random_pixels(1, 3, 9, 9)
    assert torch.equal(edit_map(toy(), pixels, "black", "first-channel"), pixels[:, 0])


def test_a_multi_label_classifier_is_asked_about_its_target():
    found = edit_map(
        toy(multi_label=True), random_pixels(2, 3, 12, 12), "black", "partial-edit", 3, 2
    )
    assert found.shape == (2, 12, 12)
