"""Neighbors that are one step: padding, normalization, products by channel, strided blocks."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from chiaroscuro.gradients.backward.fusion import fuse, hand_offs, pool
from chiaroscuro.gradients.backward.layers import MaxPool
from chiaroscuro.gradients.backward.rules import step_of
from chiaroscuro.gradients.backward.steps import Scale
from chiaroscuro.gradients.backward.tape import Tape
from tests.gradients.oracle import Net, check, engine_gradients, norm, plain_gradients
from tests.toys import random_pixels


class Block(nn.Module):
    """Padding, convolution and batch normalization in a row, in a given variant."""

    def __init__(self, *, pad=(0, 1, 0, 1), bias=True, affine=True, groups=1, stride=2,
                 dilation=1, padding=0, mode="constant", value=0.0, kernel=3):  # fmt: skip
        super().__init__()
        self.pad, self.mode, self.value = pad, mode, value
        self.conv = nn.Conv2d(
            4, 8, kernel, stride, padding=padding, dilation=dilation, groups=groups, bias=bias
        )
        self.norm = norm(8, affine=affine)

    def forward(self, x):
        x = x.relu()
        if self.pad is not None:
            x = F.pad(x, self.pad, self.mode, self.value if self.mode == "constant" else None)
        return self.norm(self.conv(x)).relu()


VARIANTS = [
    *({"pad": pad, "stride": stride, "groups": groups}
      for pad in [(0, 1, 0, 1), (1, 0, 2, 1), (2, 2, 2, 2), (0,) * 4, (1, 1, 0, 3), (5, 4, 6, 3)]
      for stride in (1, 2) for groups in (1, 4)),
    {"bias": False}, {"affine": False}, {"pad": None, "padding": 1}, {"padding": 1},
    {"padding": "valid"}, {"dilation": 2}, {"value": 0.5}, {"mode": "reflect"},
    {"mode": "replicate"}, {"pad": (0, -1, 1, 0)}, {"pad": (1, 1), "stride": 1}, {"kernel": 1},
    {"padding": "same", "stride": 1, "kernel": 5},
]  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_padding_convolution_and_normalization(variant):
    torch.manual_seed(3)
    unknown = check(Net(Block(**variant)), random_pixels(2, 3, 9, 8))
    assert unknown <= {"ReflectionPad2DBackward0", "ReplicationPad2DBackward0"}


class Times(nn.Module):
    """A product with a constant."""

    def __init__(self, constant):
        super().__init__()
        self.constant = constant

    def forward(self, x):
        return x * self.constant


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(4, 1, 1), (1, 4, 1, 1)])
def test_products_by_channel_go_into_the_convolutions_around_them(groups, stride, shape):
    torch.manual_seed(3)
    one = nn.Conv2d(4, 4, 3, stride, groups=groups)
    two = nn.Conv2d(4, 6, 3, stride, groups=2)
    number = torch.tensor([0.5, -2, 3, 0], dtype=torch.float64).view(shape)
    net = Net(nn.Sequential(nn.ReLU(), Times(number), one, Times(1 / (number + 4)), two))
    pixels = random_pixels(2, 3, 11, 12)
    assert not check(net, pixels)
    scales = [step for step in pooled_steps(net, pixels)[0] if isinstance(step, Scale)]
    assert len(scales) == 1  # the activation's


def pooled_steps(net, pixels):
    """The steps of a network's way back after fusing, and the shapes of what is under way."""
    leaf = pixels.clone().requires_grad_(True)
    tape = Tape.of(net(leaf), leaf)
    shapes, alone = [entry.shapes for entry in tape.entries], hand_offs(tape)
    steps = [step_of(entry) for entry in tape.entries[:-1]]
    fuse(steps, shapes, alone)
    pool(steps, shapes, alone)
    return steps, shapes


@pytest.mark.parametrize("window", [(2,), (3, 2, 1), (3, 2), (5, 3, 2, 1, False, True)])
@pytest.mark.parametrize("classes", [3, 400])
@pytest.mark.parametrize("before", ["relu", "norm", "gate"])
def test_products_come_before_a_maximums_window(before, window, classes):
    torch.manual_seed(3)
    layers = {
        "relu": [nn.ReLU()],
        "norm": [norm(4), nn.ReLU()],
        "gate": [nn.Sigmoid(), Times(torch.linspace(-2, 2, 54).double().view(6, 9))],
    }
    inner = nn.Sequential(*layers[before], nn.MaxPool2d(*window), nn.Conv2d(4, 2, 1).double())
    net, pixels = Net(inner, classes=classes), random_pixels(2, 3, 6, 9)
    assert not check(net, pixels, classes=classes, basis=1 << 30)
    steps, shapes = pooled_steps(net, pixels)
    kinds = [type(step) for step in steps if isinstance(step, Scale | MaxPool)]
    assert kinds == [Scale, MaxPool]
    scale, pool = (step for step in steps if isinstance(step, Scale | MaxPool))
    assert scale.factor.shape == pool.places.shape
    assert shapes[steps.index(pool)][0] == pool.places.shape


@pytest.mark.parametrize(
    "work",
    [
        lambda h: F.max_pool2d(h.relu(), 3, 1, 1),  # as many maxima as values
        lambda h: F.max_pool2d(h.relu(), 2, dilation=2),  # a window may lie in the padding alone
        lambda h: F.max_pool2d(h * torch.full((1, 1), 2.5).double(), 2),  # one number is enough
    ],
)
def test_other_products_stay_behind_the_window(work):
    net = Net(work)
    assert not check(net)
    steps, _ = pooled_steps(net, random_pixels(2, 3, 6, 8))
    assert [type(s) for s in steps if isinstance(s, Scale | MaxPool)] == [MaxPool, Scale]


def test_a_product_that_others_need_stays_behind_the_window():
    net = Net(lambda h: F.max_pool2d(h.relu(), 2).mean((2, 3)) + h.relu().square().mean((2, 3)))
    both = Net(lambda h: _pooled_and_whole(h.relu()))
    for case in (net, both):
        assert not check(case)
    kinds = [type(s) for s in pooled_steps(both, random_pixels(2, 3, 6, 8))[0]]
    assert kinds.index(MaxPool) < max(i for i, kind in enumerate(kinds) if kind is Scale)


def _pooled_and_whole(x):
    return F.max_pool2d(x, 2).mean((2, 3)) + x.mean((2, 3))


def test_an_infinite_slope_is_not_passed_over():
    # The root's slope at 0, times the 0 of what is no maximum, is no number.
    net = Net(lambda x: F.max_pool2d(x.sqrt(), 2), stem=False)
    pixels = random_pixels(2, 3, 6, 8)
    pixels[:, :, ::2] = 0
    made, _ = engine_gradients(net, pixels)
    wanted = plain_gradients(net, pixels)
    assert wanted.isnan().any()
    assert torch.equal(made.isnan(), wanted.isnan())


@pytest.mark.parametrize("between", ["relu", "number", "gate", "pad", "norm", "used twice"])
@pytest.mark.parametrize("kernel", [3, 1])
def test_single_pixels_then_a_strided_depthwise_convolution(between, kernel):
    torch.manual_seed(3)
    one, two, batch = nn.Conv2d(4, 6, 1), nn.Conv2d(6, 6, kernel, 2, 1, groups=6), norm(6)
    works = {
        "relu": lambda h: two(one(h).relu()),
        "number": lambda h: two(one(h) * 2.5),
        "gate": lambda h: two(one(h) * torch.linspace(-1, 1, 6).double().view(6, 1, 1)),
        "pad": lambda h: two(one(F.pad(h, (0, 1, 0, 1))).relu()),
        "norm": lambda h: batch(two(batch(one(h)).sigmoid())),
        "used twice": lambda h: _twice(two, one(h).relu()),
    }
    nn.ModuleList([one, two]).double()
    assert check(Net(works[between])) == set()


def _twice(conv, x):
    return conv(x).mean((2, 3)) + x.exp().mean((2, 3))
