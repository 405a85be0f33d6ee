"""Every form of a convolution's way back against plain autograd, whatever the geometry."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chiaroscuro.gradients.backward.kernels import (
    Convolution,
    are_phases,
    dense,
    flipped,
    in_phases,
    kernel_of,
    native,
    phase_decomposed,
    strided_pointwise,
    zero_stuffed,
)
from chiaroscuro.matmul import times
from tests.gradients.oracle import close

ROWS = 3


def numbers(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def forward(x, weight, stride, pads, dilation, groups):
    """The convolution itself; pads (top, bottom, left, right) may differ on every side."""
    top, bottom, left, right = pads
    return F.conv2d(F.pad(x, (left, right, top, bottom)), weight, None, stride, 0, dilation, groups)


def geometry(size, kernel, stride=(1, 1), pads=(0, 0, 0, 0), dilation=(1, 1), groups=1,
             channels=2, multiplier=3):  # fmt: skip
    """A convolution, and what takes its input to its output by PyTorch alone."""
    weight = numbers(
        channels * multiplier if groups > 1 else multiplier, channels // groups, *kernel
    )
    x = numbers(ROWS, channels, *size, seed=1).requires_grad_(True)
    y = forward(x, weight, stride, pads, dilation, groups)
    conv = Convolution(
        weight, stride, (pads[0], pads[2]), dilation, groups, tuple(size), tuple(y.shape[2:])
    )
    return conv, x, y


def compare(kernel, x, y):
    """Twice, with fewer rows the second time: buffers that are kept must not leak."""
    for rows, seed in ((ROWS, 2), (ROWS - 1, 3), (ROWS, 4)):
        gradient = numbers(*y.shape, seed=seed)
        gradient[rows:] = 0
        (wanted,) = torch.autograd.grad(y, x, gradient, retain_graph=True)
        close(kernel(gradient[:rows]), wanted[:rows])


FORMS = (flipped, zero_stuffed, phase_decomposed, strided_pointwise, dense, native)


def serves(form, conv):
    """The geometries that each form is written for."""
    depthwise = conv.weight.shape[1] == 1 and conv.groups == conv.weight.shape[0]
    return {
        flipped: conv.stride == (1, 1),
        zero_stuffed: conv.dilation == (1, 1) and depthwise,
        phase_decomposed: conv.dilation == (1, 1) and conv.groups == 1,
        strided_pointwise: conv.groups == 1
        and conv.weight.shape[2:] == (1, 1)
        and all_are_pixels(conv),
        dense: conv.dilation == (1, 1) and conv.groups == 1 and conv.size[0] * conv.size[1] < 60,
        native: True,
    }[form]


def all_are_pixels(conv):
    """Whether a convolution of single pixels reads no padding."""
    places = zip(conv.before, conv.stride, conv.out, conv.size, strict=True)
    return all(p == 0 and s * o - s < n for p, s, o, n in places)


def symmetric(pads):
    return pads[0] == pads[1] and pads[2] == pads[3]


def check_all_forms(**what):
    conv, x, y = geometry(**what)
    # Uneven paddings come from fusion alone, which asks whether a forward form serves.
    even = symmetric(what["pads"])
    if even or kernel_of(conv) is not native:
        compare(kernel_of(conv)(conv), x, y)
    for form in FORMS:
        if serves(form, conv) and (form is not native or even):
            compare(form(conv), x, y)


@st.composite
def geometries(draw):
    kernel, stride, dilation = ([draw(st.integers(1, n)) for _ in "hw"] for n in (7, 4, 2))
    if draw(st.booleans()):
        dilation = [1, 1]
    size = [draw(st.integers(1, 9)) for _ in "hw"]
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    pads = []
    for n, r, k in zip(size, reach, kernel, strict=True):
        before = draw(st.integers(0, k + 2))
        after = before if draw(st.booleans()) else draw(st.integers(0, k + 2))
        short = max(0, r - n - before - after)
        pads += [before + short, after + short]
    channels, groups = draw(st.sampled_from([(1, 1), (2, 1), (5, 1), (2, 2), (4, 2), (3, 3)]))
    return {
        "size": size, "kernel": kernel, "stride": tuple(stride), "pads": tuple(pads),
        "dilation": tuple(dilation), "groups": groups, "channels": channels,
        "multiplier": draw(st.integers(1, 2)) if groups > 1 else draw(st.integers(1, 4)),
    }  # fmt: skip


NOTHING_BUT_PADDING = {
    "size": [1, 1], "kernel": [1, 3], "stride": (1, 3), "pads": (0, 0, 4, 0), "dilation": (1, 1),
    "groups": 1, "channels": 1, "multiplier": 1,
}  # fmt: skip


@settings(max_examples=300, deadline=None)
@example(NOTHING_BUT_PADDING)
@given(geometries())
def test_any_geometry(what):
    check_all_forms(**what)


@pytest.mark.parametrize("kernel", [(1, 1), (2, 3), (5, 3), (7, 7)], ids=str)
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (3, 1), (4, 4)], ids=str)
@pytest.mark.parametrize("padding", [0, 1, 3, 9])
@pytest.mark.parametrize("groups", [1, 4])
def test_a_grid(kernel, stride, padding, groups):
    for size in ((7, 7), (8, 10), (12, 9)):
        check_all_forms(
            size=size, kernel=kernel, stride=stride, pads=(padding,) * 4, groups=groups, channels=4,
            multiplier=1 if groups > 1 else 3, dilation=(1, 1),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("what", "form"),
    [
        # ResNet and EfficientNet-Lite0: stem, bodies, strided ones, small pictures at the end.
        ({"size": (224, 224), "kernel": (3, 3), "stride": (2, 2), "channels": 3}, phase_decomposed),
        ({"size": (32, 32), "kernel": (3, 3), "pads": (1,) * 4, "channels": 16}, flipped),
        ({"size": (14, 14), "kernel": (1, 1), "channels": 16}, flipped),
        ({"size": (14, 14), "kernel": (5, 5), "pads": (2,) * 4, "groups": 16, "channels": 16},
         flipped),
        ({"size": (14, 14), "kernel": (5, 5), "stride": (2, 2), "pads": (1, 2, 1, 2),
          "groups": 16, "channels": 16, "multiplier": 1}, zero_stuffed),
        ({"size": (16, 16), "kernel": (3, 3), "stride": (2, 2), "pads": (1,) * 4, "channels": 16},
         native),
        ({"size": (16, 16), "kernel": (1, 1), "stride": (2, 2), "channels": 16}, strided_pointwise),
        ({"size": (9, 12), "kernel": (1, 1), "stride": (2, 5), "channels": 8}, strided_pointwise),
        ({"size": (9, 9), "kernel": (1, 1), "stride": (2, 2), "pads": (1,) * 4, "channels": 16},
         native),
        ({"size": (16, 16), "kernel": (4, 4), "stride": (4, 4), "channels": 16}, phase_decomposed),
        ({"size": (2, 2), "kernel": (3, 3), "pads": (1,) * 4, "channels": 16}, dense),
        ({"size": (1, 1), "kernel": (1, 1), "channels": 16}, dense),
        ({"size": (9, 9), "kernel": (3, 3), "stride": (2, 2), "dilation": (2, 2)}, native),
        ({"size": (9, 9), "kernel": (3, 3), "dilation": (2, 2), "groups": 2}, flipped),
        ({"size": (9, 9), "kernel": (3, 3), "stride": (2, 2), "groups": 2, "multiplier": 2},
         native),
    ],
)  # fmt: skip
def test_the_form_that_is_meant(what, form):
    conv, x, y = geometry(**what)
    assert kernel_of(conv) is form
    compare(form(conv), x, y)


PHASED = [
    (size, kernel, stride, padding)
    for size, kernel, stride, padding in itertools.product(
        ((9, 6), (2, 3), (5, 5)), ((3, 3), (5, 2), (7, 7)), ((2, 2), (3, 1), (2, 3)), (0, 1, 4)
    )
    if all(n + 2 * padding >= k for n, k in zip(size, kernel, strict=True))
]


@pytest.mark.parametrize("factor", [(ROWS, 4, None, None), (1, 4, 1, 1), (), (None, 1)], ids=str)
def test_phases_of_a_strided_block(factor):
    met = 0
    for size, kernel, stride, padding in PHASED:
        shape = tuple(size[i - len(factor)] if n is None else n for i, n in enumerate(factor))
        first, scale = numbers(4, 3, 1, 1, seed=5), numbers(*shape, seed=6)
        weight = numbers(4, 1, *kernel, seed=7)
        x = numbers(ROWS, 3, *size, seed=1).requires_grad_(True)
        y = forward(F.conv2d(x, first) * scale, weight, stride, (padding,) * 4, (1, 1), 4)
        before = Convolution(first, (1, 1), (0, 0), (1, 1), 1, size, size)
        conv = Convolution(weight, stride, (padding, padding), (1, 1), 4, size, tuple(y.shape[2:]))
        fits = all(k >= s and n >= s for k, s, n in zip(kernel, stride, size, strict=True))
        if not fits or kernel_of(conv) is not zero_stuffed:
            assert not are_phases(conv, before)
            continue
        assert are_phases(conv, before)
        met += 1
        back = in_phases(conv, scale, before)
        for seed in (8, 9):
            gradient = numbers(2, *y.shape, seed=seed)
            wanted = [torch.autograd.grad(y, x, g, retain_graph=True)[0] for g in gradient]
            close(back(gradient.flatten(0, 1)), torch.cat(wanted))
    assert met > 20


def test_phases_are_refused_where_the_two_do_not_fit():
    conv, _, _ = geometry((8, 8), (3, 3), (2, 2), groups=4, channels=4, multiplier=1)
    good = Convolution(numbers(4, 3, 1, 1), (1, 1), (0, 0), (1, 1), 1, (8, 8), (8, 8))
    assert are_phases(conv, good)
    for what in ({"size": (7, 8)}, {"stride": (2, 2)}, {"before": (1, 1)}, {"groups": 2},
                 {"weight": numbers(4, 3, 3, 3)}):  # fmt: skip
        assert not are_phases(conv, Convolution(**{**vars(good), **what})), what
    narrow, _, _ = geometry((8, 8), (1, 3), (2, 2), groups=4, channels=4, multiplier=1)
    assert not are_phases(narrow, good)


@pytest.mark.parametrize(
    ("count", "inner", "outer"), [(1, 3, 5), (2, 1, 1), (7, 5, 3), (40, 64, 9)]
)
def test_times_is_a_matrix_product(count, inner, outer):
    rows, matrix = numbers(count, inner), numbers(outer, inner, seed=1)
    wanted = torch.einsum("ni,oi->no", rows, matrix)
    close(times(rows, matrix), wanted)
    close(times(rows.T.contiguous().T, matrix.T.contiguous().T), wanted)
