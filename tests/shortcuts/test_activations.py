"""Activations overwrite what they are given only where nobody can see it."""

import pytest
import torch
from torch import nn

from chiaroscuro import deletion_curve, load_classifier
from chiaroscuro.shortcuts.activations import cheaper_activations
from tests.toys import random_pixels


def conv():
    return nn.Conv2d(3, 3, 3, padding=1)


def overwriting(net):
    """Names of the activations that work in place inside."""
    before = {name: getattr(part, "inplace", None) for name, part in net.named_modules()}
    with cheaper_activations(net):
        inside = {name: getattr(part, "inplace", None) for name, part in net.named_modules()}
    after = {name: getattr(part, "inplace", None) for name, part in net.named_modules()}
    assert after == before
    return [name for name in inside if inside[name] != before[name]]


@pytest.mark.parametrize(
    "activation",
    [nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.SiLU, nn.Mish, nn.Hardswish,
     nn.Hardsigmoid, nn.Hardtanh, lambda: nn.Threshold(0.1, 0.2)],
)  # fmt: skip
def test_the_numbers_stay(activation):
    torch.manual_seed(0)
    net = nn.Sequential(
        conv(), activation(), nn.MaxPool2d(2), nn.Sequential(nn.BatchNorm2d(3), activation()),
        nn.Flatten(), nn.Linear(48, 5), activation(), nn.Linear(5, 4),
    ).eval()  # fmt: skip
    pixels = random_pixels(2, 3, 8, 8, dtype=torch.float32)
    kept = pixels.clone()
    with torch.no_grad():
        wanted = net(pixels)
        assert overwriting(net) == ["1", "3.1", "6"]
        with cheaper_activations(net):
            found = net(pixels)
    torch.testing.assert_close(found, wanted)
    assert torch.equal(pixels, kept)


class Keeping(nn.Module):
    """Runs a chain part by part and keeps what comes out of each."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(conv(), nn.ReLU())

    def forward(self, x):
        first = self.body[0](x)
        return (first + self.body[1](first)).flatten(1)


class Own(nn.Sequential):
    """A chain with a forward pass of its own."""

    def forward(self, x):
        kept = self[0](x)
        return (kept + self[1](kept)).flatten(1)


class Hidden(nn.Conv2d):
    """A convolution that keeps its output."""

    def forward(self, x):
        self.kept = super().forward(x)
        return self.kept


ACT = nn.SiLU()


class Adding(nn.Module):
    """Uses an activation that no attribute of its own holds."""

    def forward(self, x):
        return x + ACT(x)


@pytest.mark.parametrize(
    "net",
    [
        Keeping(),
        Own(conv(), nn.ReLU()),
        nn.Sequential(Keeping(), nn.Flatten()),
        nn.Sequential(Hidden(3, 3, 3), nn.ReLU()),
        nn.Sequential(nn.Identity(), nn.ReLU()),
        nn.Sequential(nn.Dropout(), nn.ReLU()),
        nn.Sequential(nn.Sequential(conv()), nn.ReLU()),
        nn.Sequential(conv(), nn.Sequential(nn.ReLU())),
        nn.Sequential(nn.ReLU()),
        nn.Sequential(conv(), nn.ReLU(inplace=True)),
        nn.Sequential(conv(), nn.Tanh()),
        nn.ReLU(),
        nn.Sequential(conv(), ACT, Adding()),
        nn.Sequential(conv(), nn.ReLU(), nn.TransformerEncoderLayer(4, 2)),
    ],
    ids=lambda net: repr(net).replace("\n", "")[:40],
)
def test_others_are_left_alone(net):
    assert overwriting(net) == []


def test_an_activation_of_several_places_must_be_safe_in_all():
    shared = nn.ReLU()
    assert overwriting(nn.Sequential(conv(), shared, conv(), shared)) == ["1"]
    assert overwriting(nn.Sequential(conv(), shared, nn.Identity(), shared)) == []
    assert overwriting(nn.Sequential(conv(), shared, nn.Sequential(shared))) == []


def test_a_network_in_a_circle_is_left_alone():
    net = nn.Sequential(conv(), nn.ReLU())
    net[0].owner = net
    assert overwriting(net) == []


def test_a_compiled_network_is_left_alone():
    net = nn.Sequential(conv(), nn.ReLU())
    net.compile()
    assert overwriting(net) == []


@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize("hook", ["register_forward_hook", "register_forward_pre_hook"])
def test_hooks_see_what_they_always_saw(part, hook):
    net = nn.Sequential(conv(), nn.ReLU())
    handle = getattr(net[part], hook)(lambda *_: None)
    assert overwriting(net) == []
    handle.remove()
    assert overwriting(net) == ["1"]


@pytest.mark.parametrize(
    "register",
    [nn.modules.module.register_module_forward_hook,
     nn.modules.module.register_module_forward_pre_hook],
)  # fmt: skip
def test_hooks_of_all_modules_see_what_they_always_saw(register):
    net = nn.Sequential(conv(), nn.ReLU())
    handle = register(lambda *_: None)
    try:
        assert overwriting(net) == []
    finally:
        handle.remove()


@pytest.mark.parametrize("part", [None, 0, 1])
def test_a_forward_pass_that_was_replaced_is_left_alone(part):
    net = nn.Sequential(conv(), nn.ReLU())
    owner = net if part is None else net[part]
    owner.forward = owner.forward
    assert overwriting(net) == []


def test_it_ends_with_an_error():
    net = nn.Sequential(conv(), nn.ReLU(), nn.MaxPool2d(2))
    with pytest.raises(RuntimeError, match="broken"), cheaper_activations(net):
        raise RuntimeError("broken")
    assert [type(layer) for layer in net][1:] == [nn.ReLU, nn.MaxPool2d]
    assert not net[1].inplace


def order(net):
    """The kinds of layers in the order in which they run inside."""
    with cheaper_activations(net):
        return [type(layer).__name__ for layer in net]


@pytest.mark.parametrize(
    "layer", [nn.ReLU(), nn.ReLU6(), nn.Hardtanh(-0.2, 0.3), nn.ReLU(inplace=True)], ids=repr
)
@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1)], ids=["2", "3"])
def test_a_maximum_comes_before_what_rises_with_it(layer, pool):
    net = nn.Sequential(conv(), layer, pool, nn.Flatten())
    pixels = random_pixels(2, 3, 8, 8, dtype=torch.float32)
    with torch.no_grad():
        wanted = net(pixels)
        assert order(net) == ["Conv2d", "MaxPool2d", type(layer).__name__, "Flatten"]
        with cheaper_activations(net):
            assert torch.equal(net(pixels), wanted)


@pytest.mark.parametrize(
    "layers",
    [
        (nn.LeakyReLU(-0.5), nn.MaxPool2d(2)),  # falls below zero
        (nn.SiLU(), nn.MaxPool2d(2)),  # falls and rises
        (nn.ReLU(), nn.MaxPool2d(2, return_indices=True)),
        (nn.ReLU(), nn.MaxPool2d(2, 1, 1, dilation=3)),  # a window may lie in the padding alone
        (nn.ReLU(), nn.AvgPool2d(2)),
        (nn.ReLU(), nn.Sequential(nn.MaxPool2d(2))),
    ],
    ids=repr,
)
def test_other_neighbors_keep_their_order(layers):
    assert order(nn.Sequential(conv(), *layers))[1:] == [type(x).__name__ for x in layers]


def test_each_maximum_passes_one_activation():
    net = nn.Sequential(conv(), nn.ReLU(), nn.MaxPool2d(2), nn.ReLU(), nn.MaxPool2d(2))
    assert order(net)[1:] == ["MaxPool2d", "ReLU", "MaxPool2d", "ReLU"]


def test_curves_of_the_packaged_network_are_predicted_so(monkeypatch):
    classifier = load_classifier("cifar10-cnn")
    assert len(overwriting(classifier.module)) == 10
    pixels = random_pixels(3, 3, 32, 32, dtype=torch.float32)
    activation, seen = classifier.module[1], []
    plain = nn.MaxPool2d.forward

    def spy(part, x):
        seen.append((activation.inplace, classifier.module[1] is part))
        return plain(part, x)

    monkeypatch.setattr(nn.MaxPool2d, "forward", spy)
    curve = deletion_curve(classifier, pixels, pixels.amax(1), "black", [0, 0.1])
    assert set(seen) == {(True, True)}
    assert not activation.inplace
    assert classifier.module[1] is activation
    wanted = classifier(pixels).softmax(1).amax(1)
    torch.testing.assert_close(curve.probability[:, 0], wanted)
