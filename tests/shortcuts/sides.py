"""A function without and with cheaper functions, and what both are given."""

import torch

from chiaroscuro.shortcuts import functions
from chiaroscuro.shortcuts.functions import CheaperFunctions

ROWS = functions._FEWEST_ROWS


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


def small(*, rows=ROWS, channels=4, dtype=torch.float32):
    return channels_last(torch.rand(rows, channels, 2, 2, dtype=dtype))


def answer(function, *given):
    """What it returns, or what its error says."""
    try:
        return function(*given)
    except RuntimeError as error:
        return str(error)
