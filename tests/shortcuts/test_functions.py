"""Convolutions of a few pixels and maxima over windows by a cheaper way, and nothing else."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

from chiaroscuro import Classifier, deletion_curve
from chiaroscuro.shortcuts import convolutions, functions, shortcuts
from chiaroscuro.shortcuts.functions import CheaperFunctions
from tests.toys import random_pixels

ROWS = convolutions._FEWEST_ROWS


@pytest.fixture
def products(monkeypatch):
    """The shapes of the matrices that were multiplied with."""
    seen = []
    plain = convolutions.times

    def times(rows, matrix, bias):
        seen.append(tuple(matrix.shape))
        return plain(rows, matrix, bias)

    monkeypatch.setattr(convolutions, "times", times)
    return seen


@pytest.fixture
def maxima(monkeypatch):
    """Whether each maximum over windows was taken axis by axis."""
    seen = []
    plain = functions.window_maximum

    def window_maximum(*given):
        seen.append((found := plain(*given)) is not None)
        return found

    monkeypatch.setattr(functions, "window_maximum", window_maximum)
    return seen


def strides(values):
    """Steps in memory along each axis that has any."""
    return [step for step, size in zip(values.stride(), values.shape, strict=True) if size > 1]


def channels_last(values):
    return values.contiguous(memory_format=torch.channels_last)


def inside(function, *given):
    """What a function answers without and with cheaper functions."""
    with torch.no_grad():
        plain = function(*given)
        with CheaperFunctions():
            return plain, function(*given)


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


def small(*, rows=ROWS, channels=4, dtype=torch.float32):
    return channels_last(torch.rand(rows, channels, 2, 2, dtype=dtype))


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
    with CheaperFunctions():
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


def test_a_matrix_is_made_once_and_again_for_other_weights(products, monkeypatch):
    made = []
    plain = convolutions.fill_matrix
    monkeypatch.setattr(convolutions, "fill_matrix", lambda *given: made.append(plain(*given)))
    conv, pixels = nn.Conv2d(4, 4, 3, padding=1), small()
    with torch.no_grad(), CheaperFunctions():
        conv(pixels)
        conv(pixels)
        assert len(made) == 1
        conv.weight.mul_(2)
        doubled = conv(pixels)
        conv.weight.data = conv.weight.data * 2
        again = conv(pixels)
    assert len(made) == 3
    assert len(products) == 4
    torch.testing.assert_close(again, conv(pixels))
    bias = conv.bias[:, None, None]
    torch.testing.assert_close(again - bias, 2 * (doubled - bias))


def test_a_matrix_takes_the_place_of_the_one_before(products):
    conv, mode = nn.Conv2d(4, 4, 3, padding=1), CheaperFunctions()
    with torch.no_grad(), mode:
        for _ in range(3):
            conv(small())
            conv.weight.add_(1)
    assert len(products) == 3
    assert len(mode._convolutions._laid) == 1


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


def test_half_the_digits_are_left_to_their_kernels(products):
    conv = nn.Conv2d(4, 4, 3, padding=1).bfloat16()
    plain, found = inside(conv, small(dtype=torch.bfloat16))
    torch.testing.assert_close(found, plain)
    assert products


@given(
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.none() | st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    ceil=st.booleans(),
    dilation=st.sampled_from([1, 1, 1, 2]),
    layout=st.sampled_from([torch.contiguous_format, torch.channels_last]),
)
@example((3, 3), (2, 2), (0, 0), (8, 8), True, 1, torch.channels_last)  # one more for a rest
@example((3, 3), (3, 3), (2, 2), (4, 4), False, 1, torch.channels_last)  # too much padding
@example((2, 2), None, (1, 1), (2, 2), False, 1, torch.channels_last)  # no tap of all windows
def test_every_maximum_keeps_its_numbers(kernel, stride, padding, size, ceil, dilation, layout):
    pool = nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=ceil)
    values = torch.randn(2, 3, *size).contiguous(memory_format=layout)
    plain, found = inside(answer, pool, values)
    assert type(found) is type(plain)
    assert torch.equal(found, plain) if isinstance(plain, torch.Tensor) else found == plain


def answer(function, *given):
    """What it returns, or what its error says."""
    try:
        return function(*given)
    except RuntimeError as error:
        return str(error)


@pytest.mark.parametrize("window", [(2,), (3, 2, 1), (3, 1, 1), (1,), ((3, 2), (1, 2), (1, 0))])
def test_maxima_are_taken_axis_by_axis(maxima, window):
    values = channels_last(torch.randn(2, 3, 9, 8))
    plain, found = inside(nn.MaxPool2d(*window), values)
    assert maxima == [True]
    assert torch.equal(found, plain)
    assert strides(found) == strides(plain)


def test_other_maxima_are_left_alone(maxima):
    class Own(torch.Tensor):
        pass

    values = torch.randn(2, 3, 9, 8)
    for case in (values, values[0], channels_last(values).as_subclass(Own)):
        plain, found = inside(nn.MaxPool2d(2), case)
        assert torch.equal(found, plain)
    assert maxima == []


def test_a_window_of_one_pixel_gives_memory_of_its_own():
    values = torch.rand(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    plain, found = inside(nn.MaxPool2d(1), values)
    assert torch.equal(found, plain)
    assert found.data_ptr() != values.data_ptr()


def test_a_maximum_hands_on_what_is_not_a_number():
    values = torch.randn(1, 4, 8, 8).contiguous(memory_format=torch.channels_last)
    values[0, 1, 3, 4], values[0, 2, 0, 0] = torch.nan, -torch.inf
    plain, found = inside(nn.MaxPool2d(3, 2, 1), values)
    assert torch.equal(found.isnan(), plain.isnan())
    assert torch.equal(found.nan_to_num(), plain.nan_to_num())


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
