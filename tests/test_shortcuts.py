"""Convolutions of a few pixels as products, where it may be, and nothing else."""

import itertools

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

import chiaroscuro.shortcuts as module
from chiaroscuro import Classifier, deletion_curve
from chiaroscuro.shortcuts import SmallConvolutions, shortcuts
from tests.toys import random_pixels

ROWS = module._FEWEST_ROWS


def strides(values):
    """Steps in memory along each axis that has any."""
    return [step for step, size in zip(values.stride(), values.shape, strict=True) if size > 1]


def channels_last(values):
    return values.contiguous(memory_format=torch.channels_last)


def inside(function, *given):
    """What a function answers without and with cheaper convolutions."""
    with torch.no_grad():
        plain = function(*given)
        with SmallConvolutions():
            return plain, function(*given)


def small(*, rows=ROWS, channels=4, dtype=torch.float32):
    return channels_last(torch.rand(rows, channels, 2, 2, dtype=dtype))


@pytest.fixture
def products(monkeypatch):
    """The shapes of the matrices that were multiplied with."""
    seen = []
    plain = module.times

    def times(rows, matrix, bias):
        seen.append(tuple(matrix.shape))
        return plain(rows, matrix, bias)

    monkeypatch.setattr(module, "times", times)
    return seen


FULL = [
    # kernel, stride, padding, size, and outputs
    (3, 1, 1, (2, 2), 4),
    (3, 1, 1, (1, 1), 1),
    (3, 2, 1, (2, 2), 1),
    (3, 2, 1, (1, 2), 1),
    (5, 2, 2, (2, 3), 2),
    (5, 1, 2, (3, 3), 9),
    ((3, 2), 1, (1, 0), (2, 2), 2),
]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("kernel", "stride", "padding", "size", "outputs"), FULL)
def test_a_convolution_that_reads_everything_is_a_product(
    products, kernel, stride, padding, size, outputs, bias
):
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 5, kernel, stride, padding, bias=bias).double()
    plain, found = inside(conv, channels_last(torch.randn(ROWS, 3, *size, dtype=torch.float64)))
    assert products == [(5 * outputs, 3 * size[0] * size[1])]
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-12)


@given(
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    size=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    layout=st.sampled_from([torch.contiguous_format, torch.channels_last]),
)
@example((3, 3), (1, 1), (2, 2), (1, 1), torch.contiguous_format)  # one pixel has both layouts
@example((3, 3), (1, 1), (2, 2), (1, 1), torch.channels_last)
def test_every_convolution_keeps_its_numbers(kernel, stride, padding, size, layout):
    if any(n + 2 * p < k for n, p, k in zip(size, padding, kernel, strict=True)):
        return
    conv = nn.Conv2d(2, 3, kernel, stride, padding).double()
    rows = torch.randn(ROWS, 2, *size, dtype=torch.float64).contiguous(memory_format=layout)
    plain, found = inside(conv, rows)
    assert found.shape == plain.shape
    assert strides(found) == strides(plain)
    torch.testing.assert_close(found, plain, rtol=0, atol=1e-12)


def test_what_is_not_a_number_stays_where_it_was():
    # Where some output does not read some input, a matrix would multiply it by zero.
    for size, padding in itertools.product([(1, 4), (4, 1), (2, 2), (1, 8), (2, 4)], [0, 1, 2]):
        if min(size) + 2 * padding < 3:
            continue
        conv = nn.Conv2d(2, 1, 3, padding=padding).double()
        rows = channels_last(torch.randn(ROWS, 2, *size, dtype=torch.float64))
        rows[0, 0, 0, 0], rows[1, 0, -1, -1] = torch.inf, torch.nan
        plain, found = inside(conv, rows)
        assert torch.equal(found.isnan(), plain.isnan())
        assert torch.equal(found.isinf(), plain.isinf())


@pytest.mark.parametrize(
    ("layer", "pixels"),
    [
        (nn.Conv2d(4, 4, 3, padding=1), small(rows=ROWS - 1)),
        (nn.Conv2d(4, 4, 3, padding=1, groups=2), small()),
        (nn.Conv2d(4, 4, 3, padding=2, dilation=2), small()),
        (nn.Conv2d(4, 4, 3, padding="same"), small()),
        (nn.Conv2d(4, 4, 1), small()),
        (nn.Conv2d(4, 4, 3, padding=2), small()),  # its corners read one pixel
        (nn.Conv2d(4, 4, 3, padding=1), channels_last(torch.rand(ROWS, 4, 3, 3))),
        (nn.Conv2d(4, 4, 3, padding=1), torch.rand(ROWS, 4, 2, 2)),
        (nn.Conv2d(2000, 1100, 3, padding=1), small(channels=2000)),  # a matrix of 141 MB
        (nn.Conv2d(4, 4, 3, padding=1), torch.rand(4, 2, 2)),
    ],
    ids=[
        "few",
        "groups",
        "dilation",
        "same",
        "single",
        "corners",
        "large",
        "other layout",
        "matrix",
        "one image",
    ],
)
def test_other_convolutions_are_left_alone(products, layer, pixels):
    plain, found = inside(layer, pixels)
    assert products == []
    assert torch.equal(found, plain)


def test_gradients_and_number_formats_are_left_alone(products):
    conv = nn.Conv2d(4, 4, 3, padding=1)
    with SmallConvolutions():
        conv(small()).sum().backward()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            assert conv(small()).dtype is torch.bfloat16
        with torch.no_grad(), pytest.raises(RuntimeError, match="double"):
            conv(small(dtype=torch.float64))
        with torch.no_grad(), pytest.raises(RuntimeError, match="to have 4 channels"):
            conv(small(channels=3))
    assert products == []
    assert conv.weight.grad is not None


def test_own_kinds_of_tensors_are_left_alone(products):
    class Own(torch.Tensor):
        pass

    plain, found = inside(nn.Conv2d(4, 4, 3, padding=1), small().as_subclass(Own))
    assert type(found) is Own
    assert products == []
    assert torch.equal(found, plain)


def test_weights_that_are_made_anew_are_not_kept(products):
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3, padding=1))
    plain, found = inside(conv, small())
    assert products == []
    assert torch.equal(found, plain)


def test_a_matrix_is_made_once(products, monkeypatch):
    made = []
    plain = module.fill_matrix
    monkeypatch.setattr(module, "fill_matrix", lambda *given: made.append(plain(*given)))
    one, two, pixels = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), small()
    with torch.no_grad(), SmallConvolutions():
        found = [one(pixels), two(pixels), one(pixels)]
    assert (len(made), len(products)) == (2, 3)
    for conv, result in zip((one, two, one), found, strict=True):
        torch.testing.assert_close(result, conv(pixels))


def test_half_the_digits_are_multiplied_so_too(products):
    conv = nn.Conv2d(4, 4, 3, padding=1).bfloat16()
    plain, found = inside(conv, small(dtype=torch.bfloat16))
    torch.testing.assert_close(found, plain)
    assert products == [(16, 16)]


def test_other_calls_are_left_alone(products):
    conv, pixels = nn.Conv2d(4, 4, 3), small()
    for call in (
        lambda x: nn.functional.conv2d(x, conv.weight, bias=conv.bias, padding=1),
        lambda x: nn.functional.conv2d(x, conv.weight, None, [1, 1], [1]),
        lambda x: nn.functional.conv2d(x, conv.weight, None, 1, 1, (1, 1), 1),
        lambda x: nn.functional.conv2d(x, conv.weight[..., :2, :2]),
    ):
        plain, found = inside(call, pixels)
        assert torch.equal(found, plain)
    assert products == []


def test_what_vmap_sees_is_left_alone(products):
    conv = nn.Conv2d(4, 4, 3, padding=1)
    plain, found = inside(torch.vmap(conv), torch.stack([small(), small()]))
    assert torch.equal(found, plain)
    assert products == []


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
        x = nn.functional.max_pool2d(self.stem(x).relu(), 3, 2, 1)
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
