"""Which calls and which networks take the cheaper way."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from chiaroscuro import Classifier, deletion_curve
from chiaroscuro.shortcuts import shortcuts
from tests.shortcuts.sides import answer, inside, small, strides
from tests.toys import random_pixels


def test_arguments_by_name_are_as_good(products, maxima):
    conv, pixels = nn.Conv2d(4, 4, 3), small()
    given = {"weight": conv.weight, "bias": conv.bias, "padding": 1}
    for call in (
        lambda x: F.conv2d(input=x, **given),
        lambda x: F.conv2d(x, **given),
        lambda x: F.conv2d(x, conv.weight, bias=conv.bias, padding=(np.int64(1), 1)),
        lambda x: F.conv2d(x, conv.weight, None, [1, 1], [1]),
        lambda x: F.max_pool2d(input=x, kernel_size=2),
        lambda x: F.max_pool2d(x, np.int64(2), stride=()),
        lambda x: answer(lambda: F.max_pool2d(x, (2, 2, 2))),
    ):
        plain, found = inside(call, pixels)
        assert isinstance(plain, str) or strides(found) == strides(plain)
        assert found == plain if isinstance(plain, str) else torch.allclose(found, plain, atol=1e-6)
    assert len(products) == 2
    assert maxima == [True, True]


def test_what_vmap_sees_is_left_alone(products, maxima):
    conv, pool = nn.Conv2d(4, 4, 3, padding=1), nn.MaxPool2d(2)
    plain, found = inside(torch.vmap(lambda x: pool(conv(x))), torch.stack([small(), small()]))
    assert torch.equal(found, plain)
    assert products == maxima == []


def test_a_view_works_where_it_did():
    conv = nn.Conv2d(4, 4, 3, padding=1)
    plain, found = inside(lambda x: conv(x.contiguous()).view(len(x), -1), small())
    assert torch.equal(found, plain)


class Residual(nn.Module):
    """Two small convolutions in a block of no chain, behind a window."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.one, self.two = (nn.Conv2d(8, 8, 3, padding=1) for _ in range(2))
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        x = F.max_pool2d(self.stem(x).relu(), 3, 2, 1)
        return self.head((x + self.two(self.one(x).relu())).mean((2, 3)))


def test_curves_take_the_cheaper_way(products):
    torch.manual_seed(0)
    net = Residual().eval()
    pixels = random_pixels(40, 3, 8, 8, dtype=torch.float32)
    curve = deletion_curve(Classifier(net), pixels, pixels.amax(1), "black", [0, 0.1, 0.5])
    assert products[:2] == [(32, 32)] * 2
    wanted = net(pixels).softmax(1).amax(1)
    torch.testing.assert_close(curve.probability[:, 0], wanted)


def uses(net):
    """Whether functions are watched while a network's edits are predicted."""
    with shortcuts(net):
        return bool(torch.overrides._get_current_function_mode_stack())


def test_networks_with_faster_ways_of_their_own_keep_them():
    chain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    assert uses(chain)
    assert not uses(nn.Sequential(chain, nn.TransformerEncoderLayer(4, 2)))
    assert not uses(nn.Sequential(chain, nn.MultiheadAttention(4, 2)))
    assert not uses(torch.compile(chain, backend="eager"))
    chain.compile(backend="eager")
    assert not uses(chain)
