"""Maxima over windows, axis by axis: the same ones, and the same errors."""

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import nn

from tests.shortcuts.sides import answer, channels_last, inside, strides


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
