"""Our maps in the installed pytorch-grad-cam: its targets, its ROAD, its pictures."""

import re

import numpy as np
import pytest
import torch
from pytorch_grad_cam.metrics.road import (
    ROADCombined,
    ROADLeastRelevantFirst,
    ROADMostRelevantFirst,
)
from pytorch_grad_cam.utils import model_targets
from pytorch_grad_cam.utils.image import show_cam_on_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from chiaroscuro import (
    ChoiceError,
    Classifier,
    InputError,
    ModelError,
    class_gradients,
    saliency_maps,
)
from chiaroscuro.adapters import PixelNetwork, grad_cam_maps, grad_cam_targets, road_scores
from chiaroscuro.choices import RANKING_MAPS
from tests.test_guard import assert_same, prepared, snapshot
from tests.toys import Linear, random_pixels, small_cnn

REFUSED = {
    "ClassifierOutputSoftmaxTarget": (
        model_targets.ClassifierOutputSoftmaxTarget(1),
        "returns no single output of a row of 5: a map explains one class; give "
        "ClassifierOutputTarget with "
        "score='log-probability'",
    ),
    "ClassifierOutputReST": (
        model_targets.ClassifierOutputReST(1),
        "give ClassifierOutputTarget, with score='logit' or 'log-probability'",
    ),
    "FinerWeightedTarget": (
        model_targets.FinerWeightedTarget(1, [2, 3], 0.6),
        "give ClassifierOutputTarget, with the compared classes as rivals=[...]",
    ),
    "BinaryClassifierOutputTarget": (
        model_targets.BinaryClassifierOutputTarget(1),
        "returns no single output of a row of 5 (shape",
    ),
    "RawScoresOutputTarget": (
        model_targets.RawScoresOutputTarget(),
        "returns no single output of a row of 5 (shape",
    ),
    "SoftmaxOutputTarget": (
        model_targets.SoftmaxOutputTarget(),
        "returns no single output of a row of 5 (shape",
    ),
    "SemanticSegmentationTarget": (
        model_targets.SemanticSegmentationTarget(1, np.ones((2, 2))),
        "returns no single output of a row of 5 (too many indices",
    ),
    "<lambda>": (lambda row: row[1] - row[2], "give ClassifierOutputTarget(k) or a class index"),
    "max": (torch.max, "returns no single output"),
}


@pytest.fixture
def single():
    classifier = Classifier(small_cnn(), mean=0.5, std=0.25, size=12)
    return classifier, random_pixels(3, 3, 12, 12, dtype=torch.float32)


@pytest.mark.parametrize("make", [ClassifierOutputTarget, lambda k: lambda row: row[k]])
def test_targets_that_pick_an_output_are_classes(toy, make):
    pixels = random_pixels(3, 3, 12, 12)
    found = grad_cam_targets(toy, pixels, [make(4), make(0), make(2)])
    assert found.tolist() == [4, 0, 2]
    gradients = class_gradients(toy, pixels, found)
    assert gradients.target.tolist() == [4, 0, 2]


@pytest.mark.parametrize("name", REFUSED)
def test_every_other_target_is_refused_in_one_line(toy, name):
    target, words = REFUSED[name]
    with pytest.raises(ChoiceError, match=re.escape(words)) as caught:
        grad_cam_targets(toy, random_pixels(1, 3, 12, 12), [target])
    assert str(caught.value).startswith(f"target {name} ")
    assert "\n" not in str(caught.value)


def test_targets_are_counted(toy):
    pixels = random_pixels(2, 3, 12, 12)
    with pytest.raises(ChoiceError, match="1 targets for 2 images: give one each"):
        grad_cam_targets(toy, pixels, [ClassifierOutputTarget(1)])
    with pytest.raises(ChoiceError, match="targets is one callable: give a list"):
        grad_cam_maps(toy, pixels, ClassifierOutputTarget(1))


def test_one_column_is_two_classes_and_keeps_the_sign():
    """A target that returns the one output s is the class that s speaks for: class 1 of two."""
    w = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    classifier = Classifier(Linear(w))
    pixels = random_pixels(4, 3, 4, 4)
    binary = model_targets.BinaryClassifierOutputTarget
    targets = [ClassifierOutputTarget(0), binary(1), binary(0), lambda row: -row[0]]
    assert grad_cam_targets(classifier, pixels, targets).tolist() == [1, 1, 0, 0]
    with pytest.raises(
        ChoiceError, match="ClassifierOutputTarget returns no single output of a row of 1"
    ):
        grad_cam_targets(classifier, pixels[:1], [ClassifierOutputTarget(1)])
    found = grad_cam_maps(classifier, pixels, targets, "positive")
    for image, sign in enumerate([1, 1, -1, -1]):
        expected = (sign * w[0]).relu().amax(dim=0)
        spread = (expected - expected.min()) / (expected.max() - expected.min())
        np.testing.assert_allclose(found[image], spread.numpy())


@pytest.mark.parametrize("name", RANKING_MAPS)
@pytest.mark.parametrize("targets", [None, 2, [4, 0, 2], "theirs"])
def test_maps_are_ours_scaled(single, name, targets):
    classifier, pixels = single
    meant = [4, 0, 2] if targets == "theirs" else targets
    given = list(map(ClassifierOutputTarget, meant)) if targets == "theirs" else targets
    found = grad_cam_maps(classifier, pixels, given, name)
    gradients = class_gradients(classifier, pixels, meant)
    expected = saliency_maps(gradients, [name], normalize="minmax")[name]
    assert np.array_equal(found, expected.numpy())
    assert found.shape == (3, 12, 12)


def test_their_picture_shows_our_map(single):
    classifier, pixels = single
    (found, *_) = grad_cam_maps(classifier, pixels, 1, "negative")
    image = np.zeros((12, 12, 3), np.float32)
    picture = show_cam_on_image(image, found, use_rgb=True, image_weight=0)
    red, green, blue = picture[found == 1].T.tolist()
    assert red[0] > 100 and green == blue == [0]
    red, green, blue = picture[found == 0].T
    assert blue.min() > 100 and len(blue) > 5 and red.max() == green.max() == 0


def by_hand(values):
    """Places from 0, the lowest, to 1 of a map without ties."""
    flat = values.reshape(len(values), -1).numpy()
    return (flat.argsort(axis=1).argsort(axis=1) / (flat.shape[1] - 1)).reshape(values.shape)


def test_road_scores_are_theirs_on_ranks(single):
    classifier, pixels = single
    maps = {
        name: random_pixels(3, 12, 12, seed=seed) - 0.5 for name, seed in (("one", 1), ("two", 2))
    }
    state = torch.get_rng_state()
    found = road_scores(classifier, pixels, maps, [4, 0, 2], [20, 60], seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    targets = list(map(ClassifierOutputTarget, [4, 0, 2]))
    for name, values in maps.items():
        torch.manual_seed(3)
        theirs = ROADCombined([20, 60])(pixels, by_hand(values), targets, PixelNetwork(classifier))
        np.testing.assert_array_equal(found[name].numpy(), theirs)
    assert not torch.allclose(found["one"], found["two"])
    again = road_scores(classifier, pixels, maps, targets, [20, 60], seed=3)
    assert all(torch.equal(again[name], found[name]) for name in maps)


def test_road_takes_other_floats(single):
    classifier, pixels = single
    maps = {"x": random_pixels(3, 12, 12)}
    expected = road_scores(classifier, pixels, maps, 1, [50])
    double = road_scores(classifier.to(torch.float64), pixels.double(), maps, 1, [50])
    torch.testing.assert_close(double["x"], expected["x"], rtol=1e-4, atol=1e-5)


def test_road_prefers_the_map_that_knows_the_pixels():
    """One bright square decides the class: the map of it wins over its opposite."""
    weights = torch.zeros(2, 1, 8, 8)
    weights[0, 0, 2:4, 2:4] = 1
    pixels = random_pixels(2, 1, 8, 8, dtype=torch.float32) * 0.2
    pixels[:, :, 2:4, 2:4] = 1
    classifier = Classifier(Linear(weights), channels=1)
    right = saliency_maps(class_gradients(classifier, pixels, 0), ["positive"])["positive"]
    found = road_scores(classifier, pixels, {"right": right, "wrong": -right}, 0, [90])
    # At percentile 90 seven of 64 pixels go, the square's four among them.
    lost = torch.tensor([float((weights[0] * image).sum()) for image in pixels])
    assert (found["right"] > 0.3 * lost).all()
    assert (found["wrong"] < -0.3 * lost).all()


def removed(metric, pixels, maps, network):
    _, changed = metric(
        pixels, maps, [ClassifierOutputTarget(0)] * 3, network, return_visualization=True
    )
    return (changed != pixels).any(dim=1).flatten(1).sum(dim=1).tolist()


def test_why_road_gets_ranks(single, monkeypatch):
    """A percentile among a sparse map's zeros takes every pixel; of ranks, its share."""
    classifier, pixels = single
    network = PixelNetwork(classifier)
    active = saliency_maps(class_gradients(classifier, pixels), ["active"])["active"]
    assert ((active == 0).float().mean(dim=(1, 2)) > 0.3).all()
    assert removed(ROADMostRelevantFirst(25), pixels, active.numpy(), network) == [144] * 3
    seen = []

    def spy(self, given, ranks, targets, model):
        seen.append(ranks)
        return np.zeros(3, np.float32)

    monkeypatch.setattr(ROADCombined, "__call__", spy)
    road_scores(classifier, pixels, {"active": active})
    (ranks,) = seen
    assert np.array_equal(np.sort(ranks.reshape(3, -1)), np.tile(np.arange(144) / 143, (3, 1)))
    assert removed(ROADMostRelevantFirst(25), pixels, ranks, network) == [108] * 3
    assert removed(ROADLeastRelevantFirst(25), pixels, ranks, network) == [108] * 3
    order = torch.from_numpy(ranks).flatten(1).argsort(dim=1)
    assert (active.flatten(1).gather(1, order).diff(dim=1) >= 0).all()


@pytest.mark.parametrize(
    ("maps", "targets", "error", "words"),
    [
        ((3, 12, 12), [0, 1], ChoiceError, "target has 2 classes for 3 images"),
        ((3, 12, 12), 5, ChoiceError, "target 5 is out of range: expected 0..4"),
        ((3, 12, 12), -1, ChoiceError, "target -1 is out of range"),
        ((3, 12, 12), [torch.max] * 3, ChoiceError, "target max returns no single output"),
        ((3, 3, 12, 12), 1, InputError, r"map 'x' has shape \(3, 3, 12, 12\): expected"),
    ],
)
def test_what_road_cannot_use_is_refused(single, maps, targets, error, words):
    classifier, pixels = single
    with pytest.raises(error, match=words):
        road_scores(classifier, pixels, {"x": torch.rand(maps)}, targets, [50])


def test_a_multi_label_network_needs_targets(single):
    _, pixels = single
    classifier = Classifier(small_cnn(), multi_label=True)
    maps = {"x": random_pixels(3, 12, 12)}
    with pytest.raises(ChoiceError, match="no predicted class: give a target"):
        road_scores(classifier, pixels, maps, percentiles=[50])
    assert road_scores(classifier, pixels, maps, 1, [50])["x"].isfinite().all()


@pytest.mark.parametrize("fails", [False, True])
def test_the_network_is_left_as_found(fails):
    net = prepared(fails).float()
    pixels = random_pixels(3, 3, 12, 12, dtype=torch.float32)
    before = snapshot(net, pixels)
    classifier = Classifier(net)

    def run():
        road_scores(classifier, pixels, {"x": random_pixels(3, 12, 12)}, percentiles=[50])
        grad_cam_maps(classifier, pixels, [ClassifierOutputTarget(1)] * 3)

    if fails:
        with pytest.raises(ModelError, match="broken on purpose"):
            run()
    else:
        run()
    assert_same(before, snapshot(net, pixels))


@pytest.mark.parametrize("weights", [[1.0, 0.5], [1.0, -1.0, 0.0]])
def test_other_networks_are_not_taken_for_one_column(weights):
    class Weighted(nn.Module):
        def forward(self, x):
            return x.flatten(1).sum(dim=1, keepdim=True) * torch.tensor(weights)

    found = grad_cam_targets(
        Classifier(Weighted()), torch.rand(1, 3, 4, 4), [ClassifierOutputTarget(1)]
    )
    assert found.tolist() == [1]
