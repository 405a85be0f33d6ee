"""What the adapters share: the network that peers call, and maps at pixels outside [0, 1]."""

import copy
import json
import re
import subprocess
import sys

import pytest
import torch
from torch import nn

from chiaroscuro import (
    ChoiceError,
    Classifier,
    ImageError,
    MissingExtraError,
    adapters,
    class_gradients,
)
from chiaroscuro.adapters import (
    PixelNetwork,
    captum_attribution,
    grad_cam_maps,
    quantus_explain,
    road_scores,
)
from chiaroscuro.adapters.question import make_question
from chiaroscuro.gradients import Method
from tests.test_guard import assert_same, prepared, snapshot
from tests.test_maps_oracle import oracle
from tests.toys import Linear, Quadratic, all_class_gradients, random_pixels, small_cnn

PEERS = {"captum": "captum", "quantus": "quantus", "pytorch_grad_cam": "grad-cam"}
FRESH = """
import json, sys
from chiaroscuro import adapters
print(json.dumps(sorted(sys.modules)))
"""


def question(name, rivals="all"):
    return make_question(name, rivals, "gradient", "logit", None)


def curved(classes=5):
    generator = torch.Generator().manual_seed(2)
    shape = (classes, 3, 4, 4)
    a, b = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return Classifier(Quadratic(a, b))


def test_public_names():
    names = {
        "PixelNetwork", "captum_attribution", "captum_picture", "grad_cam_maps",
        "grad_cam_targets", "quantus_explain", "road_scores",
    }  # fmt: skip
    assert all(getattr(adapters, name).__doc__ for name in names)


def test_peers_are_imported_only_when_called():
    done = subprocess.run(
        [sys.executable, "-c", FRESH], capture_output=True, text=True, timeout=240, check=True
    )
    loaded = json.loads(done.stdout)
    assert "chiaroscuro.adapters.peers" in loaded
    assert not PEERS.keys() & set(loaded)


@pytest.mark.parametrize(
    ("peer", "call"),
    [
        ("captum", lambda toy, pixels: captum_attribution(toy)),
        ("quantus", lambda toy, pixels: quantus_explain()),
        ("pytorch_grad_cam", grad_cam_maps),
        ("pytorch_grad_cam", lambda toy, pixels: road_scores(toy, pixels, {})),
    ],
)
def test_a_missing_peer_names_the_extra(toy, monkeypatch, peer, call):
    monkeypatch.setitem(sys.modules, peer, None)
    wanted = f"needs {PEERS[peer]}, which is not installed: run pip install 'chiaroscuro[adapters]'"
    with pytest.raises(MissingExtraError, match=re.escape(wanted)):
        call(toy, random_pixels(1, 3, 12, 12))


def test_the_network_normalizes_at_any_pixels():
    net = small_cnn().double()
    network = PixelNetwork(Classifier(net, mean=[0.4, 0.5, 0.6], std=[0.2, 0.3, 0.5]))
    pixels = random_pixels(2, 3, 12, 12) * 5 - 2
    center, width = (
        torch.tensor(v, dtype=torch.float64).view(3, 1, 1)
        for v in ([0.4, 0.5, 0.6], [0.2, 0.3, 0.5])
    )
    expected = copy.deepcopy(net).eval()((pixels - center) / width)
    torch.testing.assert_close(network(pixels), expected)


def test_the_network_gives_plain_logits_and_passes_gradients():
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = small_cnn().double()

        def forward(self, x):
            return {"logits": self.body(x)}

    net = Wrapped()
    pixels = random_pixels(1, 3, 12, 12).requires_grad_(True)
    logits = PixelNetwork(Classifier(net))(pixels)
    (found,) = torch.autograd.grad(logits[0, 2], pixels)
    expected = all_class_gradients(copy.deepcopy(net.body).eval(), pixels.detach())
    torch.testing.assert_close(found[0], expected[0, 2])


def test_modes_asked_of_the_network_do_not_reach_the_module():
    net = prepared(False)
    pixels = random_pixels(2, 3, 12, 12)
    before = snapshot(net, pixels)
    network = PixelNetwork(Classifier(net))
    assert not network.training
    first = network.eval()(pixels)
    assert torch.equal(network.train()(pixels), first)
    assert not network.training
    assert_same(before, snapshot(net, pixels))


def test_a_copy_of_the_network_asks_its_own_weights():
    network = PixelNetwork(Classifier(small_cnn().double()))
    other = copy.deepcopy(network)
    assert other.classifier.module is other.module
    assert other.module is not network.module
    pixels = random_pixels(1, 3, 12, 12)
    before = network(pixels)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(-1)
    assert torch.equal(network(pixels), before)
    assert not torch.allclose(other(pixels), before)
    network.module = other.module  # as libraries do that swap a part of the network
    assert torch.equal(network(pixels), other(pixels))


@pytest.mark.parametrize("name", ["original", "negative", "active", "inactive", "signed"])
@pytest.mark.parametrize("spread", [1.0, 4.0])
def test_maps_at_any_pixels(name, spread):
    classifier = curved()
    pixels = random_pixels(3, 3, 4, 4) * spread - (spread - 1) / 2
    gradients = all_class_gradients(classifier.module, pixels)
    found = question(name).values(classifier, pixels, [4, 0, 1])
    for image, target in enumerate([4, 0, 1]):
        torch.testing.assert_close(found[image], oracle(gradients[image], target, name))


@pytest.mark.parametrize("target", [None, 1, [2, 0, 1], torch.tensor([2, 0, 1])])
def test_top_rivals_outside_are_those_of_the_pixels_given(target):
    classifier = curved()
    pixels = random_pixels(3, 3, 4, 4) * 6 - 3
    logits, gradients = classifier.module(pixels), all_class_gradients(classifier.module, pixels)
    clamped = classifier.module(pixels.clamp(0, 1))
    assert (logits.argmax(1) != clamped.argmax(1)).any()
    found = question("active", "top:2").values(classifier, pixels, target)
    for image in range(3):
        ranked = logits[image].argsort(descending=True).tolist()
        own = ranked[0] if target is None else 1 if isinstance(target, int) else int(target[image])
        run = [own, *[k for k in ranked if k != own][:2]]
        torch.testing.assert_close(found[image], oracle(gradients[image, run], 0, "active"))


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ([1, 2], "target has 2 classes for 3 images"),
        (5, "target 5 is out of range"),
        (-1, "target -1 is out of range"),
    ],
)
@pytest.mark.parametrize("rivals", ["all", "top:2"])
def test_wrong_targets_are_refused_outside_too(target, words, rivals):
    pixels = random_pixels(3, 3, 4, 4) * 3 - 1
    with pytest.raises(ChoiceError, match=words):
        question("active", rivals).values(curved(), pixels, target)


def test_a_multi_label_network_has_no_predicted_class_outside_either():
    classifier = Classifier(curved().module, multi_label=True)
    pixels = random_pixels(3, 3, 4, 4) * 3 - 1
    for rivals in ("all", "top:2"):
        with pytest.raises(ChoiceError, match="has no predicted class"):
            question("active", rivals).values(classifier, pixels, None)


def test_other_scales_and_methods_are_refused_outside():
    classifier = curved()
    pixels = random_pixels(1, 3, 4, 4)
    with pytest.raises(ImageError, match="divide 8-bit values by 255"):
        question("active").values(classifier, (pixels * 255).round(), 0)
    for method in ("input-x-gradient", Method("input-x-gradient")):
        asked = make_question("original", "all", method, "logit", None)
        own = class_gradients(classifier, pixels, 0).target_gradient
        expected = (pixels * own).abs().amax(dim=1)
        torch.testing.assert_close(asked.values(classifier, pixels, 0), expected)
        with pytest.raises(ChoiceError, match="the only method is gradient, not input-x"):
            asked.values(classifier, pixels + 0.5, 0)
    mean = make_question("original", "mean", "gradient", "logit", None)
    with pytest.raises(ChoiceError, match=r"rivals compete one by one, not as a mean \(mean\)"):
        mean.values(classifier, pixels + 0.5, 0)


@pytest.mark.parametrize("target", ["owl", ["owl", "hen"]])
def test_classes_have_names_outside_too(target):
    classifier = Classifier(curved().module, labels=["cat", "dog", "owl", "hen", "eel"])
    pixels = random_pixels(2, 3, 4, 4) * 3 - 1
    index = [2, 3] if isinstance(target, list) else 2
    found = question("active").values(classifier, pixels, target)
    torch.testing.assert_close(found, question("active").values(classifier, pixels, index))


@pytest.mark.parametrize(
    "pixels", [None, torch.zeros(3, 4, 4), torch.zeros(0, 3, 4, 4), torch.ones(1, 3, 4, 4).int()]
)
def test_what_is_no_image_is_refused(pixels):
    with pytest.raises(ImageError, match="pixels"):
        question("active").values(curved(), pixels, 0)


def test_nan_pixels_are_refused():
    pixels = random_pixels(1, 3, 4, 4)
    pixels[0, 0, 0, 0] = torch.nan
    with pytest.raises(ImageError, match="pixels holds NaN"):
        question("active").values(curved(), pixels, 0)


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"name": "activ"}, "unknown map 'activ': did you mean active"),
        ({"name": "winner"}, "map 'winner' is no attribution: give one of original"),
        ({"name": "active-printed"}, "is no attribution"),
        ({"method": "gradiant"}, "unknown method"),
        ({"method": None}, "unknown method 'None'"),
        ({"score": 1}, "unknown score '1'"),
        ({"score": "odds"}, "unknown score"),
        ({"rivals": "top:0"}, "give all, top:N"),
    ],
)
def test_choices_are_checked_at_once(choice, words):
    asked = {"name": "active", "rivals": "all", "method": "gradient", "score": "logit"} | choice
    with pytest.raises(ChoiceError, match=words):
        make_question(*asked.values(), None)


def test_a_linear_network_by_hand():
    weights = torch.tensor([[2.0, -1.0], [1.0, 1.0]]).view(2, 1, 1, 2).double()
    classifier = Classifier(Linear(weights), channels=1)
    pixels = torch.tensor([[[[-1.0, 3.0]]]]).double()
    asked = {name: question(name).values(classifier, pixels, 0)[0, 0].tolist() for name in (
        "original", "positive", "negative", "active", "inactive", "signed")}  # fmt: skip
    assert asked == {
        "original": [2, 1], "positive": [2, 0], "negative": [0, 1],
        "active": [2, 0], "inactive": [0, 1], "signed": [2, -1],
    }  # fmt: skip
