"""Methods through the real Captum: what they are, what they leave behind, and how they fail."""

import re
import sys

import captum
import pytest
import torch
import torch.nn.functional as F
from captum.attr import InputXGradient, Occlusion
from captum.attr._utils.lrp_rules import EpsilonRule, GammaRule
from torch import nn

from chiaroscuro import ChoiceError, Classifier, ModelError, class_gradients
from chiaroscuro.errors import MissingExtraError
from chiaroscuro.gradients import CAPTUM, PixelModule, engine
from tests.test_guard import assert_same, prepared, snapshot
from tests.toys import all_class_gradients, random_pixels, small_cnn

TARGET = [1, 4]


@pytest.fixture
def classifier():
    return Classifier(small_cnn().double(), mean=(0.5, 0.4, 0.6), std=(0.25, 0.2, 0.3))


def assert_extremes_of(found, attributions, atol=1e-7):
    """own, rival_max and rival_min out of attributions of every class (B, K, C, H, W)."""
    for b, c in enumerate(TARGET):
        rivals = attributions[b, [k for k in range(5) if k != c]]
        torch.testing.assert_close(
            found.target_gradient[b], attributions[b, c], rtol=1e-5, atol=atol
        )
        torch.testing.assert_close(found.rival_max[b], rivals.amax(dim=0), rtol=1e-5, atol=atol)
        torch.testing.assert_close(found.rival_min[b], rivals.amin(dim=0), rtol=1e-5, atol=atol)


class GuidedReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient.clamp(min=0) * (x > 0)


def test_guided_backprop_against_a_relu_of_our_own(classifier):
    pixels = random_pixels(2, 3, 12, 12)
    found = class_gradients(classifier, pixels, TARGET, method="guided-backprop")
    parts = [
        GuidedReLU.apply if isinstance(part, nn.ReLU) else part for part in classifier.module.eval()
    ]

    def score(x):
        mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (classifier.mean, classifier.std))
        x = (x - mean) / std
        for part in parts:
            x = part(x)
        return x

    assert_extremes_of(found, all_class_gradients(score, pixels))


def test_lrp_of_a_relu_network_is_input_times_gradient(classifier):
    pixels = random_pixels(2, 3, 12, 12)
    found = class_gradients(classifier, pixels, TARGET, method="lrp")
    classifier.module.eval()
    products = all_class_gradients(classifier.logits, pixels) * pixels[:, None]
    assert_extremes_of(found, products, atol=1e-6)  # epsilon stands in the rule's divisions


def test_deeplift_is_the_rescale_rule_from_black():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, 9), nn.ReLU(), nn.Linear(9, 5)).double()
    pixels = random_pixels(2, 3, 4, 4)
    found = class_gradients(Classifier(net, mean=0.4, std=0.2), pixels, TARGET, method="deeplift")
    first, last = net[1], net[3]
    z, z0 = (first((x.flatten(1) - 0.4) / 0.2) for x in (pixels, torch.zeros_like(pixels)))
    slopes = (z.relu() - z0.relu()) / (z - z0)
    multipliers = torch.einsum("kh,bh,hi->bki", last.weight, slopes, first.weight) / 0.2
    expected = (multipliers * pixels.flatten(1)[:, None]).view(2, 5, 3, 4, 4).detach()
    assert_extremes_of(found, expected)
    assert found.choices.method == "deeplift"
    assert found.choices.settings == {"name": "deeplift", "captum": captum.__version__}


@pytest.mark.parametrize("rivals", ["all", "top:2", [0, 3]])
def test_any_attribution_of_captum_is_a_method(classifier, rivals, monkeypatch):
    pixels = random_pixels(2, 3, 12, 12)
    theirs = InputXGradient(PixelModule(classifier))
    ours = class_gradients(
        classifier, pixels, TARGET, rivals, method="input-x-gradient", argmax=True
    )
    calls = []
    for at_once in (1, 10**6):
        monkeypatch.setattr(engine.captum, "PIXELS_AT_ONCE", at_once)
        found = class_gradients(
            classifier, pixels, TARGET, rivals, method=theirs, argmax=True,
            progress=lambda *told: calls.append(told),
        )  # fmt: skip
        for name in ("logits", "target_gradient", "rival_max", "rival_min"):
            torch.testing.assert_close(getattr(found, name), getattr(ours, name))
        assert torch.equal(found.rival_argmax, ours.rival_argmax)
        assert torch.equal(found.rivals, ours.rivals)
        assert found.choices.method == "captum:InputXGradient"
        assert calls[-1] == (ours.rivals.numel() + 2,) * 2


def test_an_attribution_that_gives_another_shape_or_model_is_refused(classifier):
    pixels = random_pixels(1, 3, 12, 12)
    with pytest.raises(ChoiceError, match="other logits for these pixels than Sequential: make it"):
        class_gradients(classifier, pixels, method=InputXGradient(classifier.module.eval()))
    odd = InputXGradient(PixelModule(classifier))
    odd.attribute = lambda inputs, target: inputs[0]
    with pytest.raises(ModelError, match=r"gave Tensor \(3, 12, 12\): expected \(1, 3, 12, 12\)"):
        class_gradients(classifier, pixels, method=odd)
    with pytest.raises(ChoiceError, match="explains logits: score 'log-probability'"):
        class_gradients(classifier, pixels, method="lrp", score="log-probability")


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("name", CAPTUM)
def test_the_network_is_as_found(name, fails):
    net = prepared(fails)
    pixels = random_pixels(2, 3, 12, 12).requires_grad_(True)
    before, held = snapshot(net, pixels), [dict(part.__dict__) for part in net.modules()]
    if fails:
        with pytest.raises(ModelError, match="broken on purpose"):
            class_gradients(Classifier(net), pixels, method=name)
    else:
        class_gradients(Classifier(net), pixels, method=name)
    assert_same(before, snapshot(net, pixels))
    for part, was in zip(net.modules(), held, strict=True):
        assert part.__dict__.keys() == was.keys()
        assert all(part.__dict__[key] is was[key] for key in was if key != "training")


@pytest.mark.parametrize("name", CAPTUM)
def test_the_network_is_as_found_where_captum_fails(name):
    net = Residual(nn.GELU()).double().train()
    pixels = random_pixels(1, 3, 6, 6)
    before, held = snapshot(net, pixels), [dict(part.__dict__) for part in net.modules()]
    with pytest.raises(ModelError, match=f"{name} failed on Residual"):
        class_gradients(Classifier(net), pixels, method=name)
    assert_same(before, snapshot(net, pixels))
    assert [part.__dict__.keys() for part in net.modules()] == [was.keys() for was in held]


def test_rules_that_a_user_set_stay_and_hold_for_every_class(classifier):
    pixels = random_pixels(2, 3, 12, 12)
    net = classifier.module
    for part in net:
        if not isinstance(part, nn.ReLU | nn.Dropout):
            part.rule = EpsilonRule()
    net[0].rule = gamma = GammaRule(gamma=0.5, set_bias_to_zero=True)
    weight, pointer = net[0].weight.detach().clone(), net[0].weight.data_ptr()
    theirs = captum.attr.LRP(PixelModule(classifier))
    found = class_gradients(classifier, pixels, TARGET, method=theirs)
    assert net[0].rule is gamma
    assert torch.equal(net[0].weight, weight) and net[0].weight.data_ptr() == pointer
    # The rule of the first layer holds for the last class too: not what epsilon alone gives.
    plain = class_gradients(classifier, pixels, TARGET, method="lrp")
    assert (found.rival_max - plain.rival_max).norm() > 0.05 * plain.rival_max.norm()


class Residual(nn.Module):
    """A convolution with a sum beside it, an activation, and a head."""

    def __init__(self, activation, reused=False):
        super().__init__()
        torch.manual_seed(1)
        self.stem = nn.Conv2d(3, 4, 3)
        self.block = nn.Conv2d(4, 4, 3, padding=1)
        self.act = activation
        self.reused = reused
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(64, 5))

    def forward(self, x):
        x = self.stem(x)
        x = self.act(x) if self.reused else x
        return self.head(self.act(self.block(x) + x))


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.relu, self.two = nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        return self.head(F.relu(self.two(self.relu(self.one(x.flatten(1))))))


@pytest.mark.parametrize(
    ("make", "method", "message"),
    [
        (lambda: Residual(nn.Softsign()), "lrp", r"act \(Softsign\): Module of type"),
        (
            lambda: Residual(nn.ReLU()),
            "lrp",
            r"the network itself \(Residual\), which calls add its",
        ),
        (
            lambda: Residual(nn.ReLU(), reused=True),
            "deeplift",
            r"act \(ReLU\): A Mod",
        ),
        (lambda: Residual(nn.GELU()), "deeplift", r"act \(GELU\): Captum has no rule for it.*miss"),
        (lambda: Residual(nn.GELU()), "guided-backprop", r"act \(GELU\): Captum changes nn.ReLU"),
        (Functional, "guided-backprop", r"\(Functional\), which calls relu itself: Captum changes"),
    ],
)
def test_where_captum_fails_the_error_names_the_module(make, method, message):
    side = 2 if make is Functional else 6
    net = make().double()
    with pytest.raises(ModelError, match=f"{method} failed on .* at .*{message}"):
        class_gradients(Classifier(net), random_pixels(1, 3, side, side), method=method)


def test_a_functional_relu_is_no_trouble_for_lrp():
    pixels = random_pixels(2, 3, 2, 2)
    classifier = Classifier(Functional().double())
    found = class_gradients(classifier, pixels, TARGET, method="lrp")
    assert_extremes_of(found, all_class_gradients(classifier.logits, pixels) * pixels[:, None])


def test_an_error_in_the_attribution_itself_names_no_module(classifier):
    occlusion = Occlusion(PixelModule(classifier))  # asks for a window, which it is not given
    with pytest.raises(ModelError) as raised:
        class_gradients(classifier, random_pixels(1, 3, 12, 12), method=occlusion)
    assert re.match(
        "captum:Occlusion failed on Sequential: .*sliding_window",
        str(raised.value),
    )


def test_without_captum_the_extra_is_named(classifier, monkeypatch):
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(MissingExtraError, match=re.escape("pip install 'chiaroscuro[adapters]'")):
        class_gradients(classifier, random_pixels(1, 3, 12, 12), method="lrp")


def test_pixel_module_is_the_classifier(classifier):
    pixels = random_pixels(2, 3, 12, 12)
    flags = [part.training for part in classifier.module.modules()]
    module = PixelModule(classifier)
    assert [part.training for part in classifier.module.modules()] == flags
    torch.testing.assert_close(module.eval()(pixels), classifier(pixels))
    assert module.module is classifier.module
    binary = Classifier(nn.Sequential(nn.Flatten(), nn.Linear(12, 1)), mean=0.5)
    small = torch.rand(2, 3, 2, 2)
    torch.testing.assert_close(PixelModule(binary)(small), binary(small))
