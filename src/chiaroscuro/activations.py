"""Activations that write over what they are given, where nobody can see it."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from torch import nn
from torch.nn.modules import module as modules

_ACTIVATIONS = (
    nn.CELU, nn.ELU, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU, nn.Mish, nn.ReLU,
    nn.ReLU6, nn.SELU, nn.SiLU, nn.Threshold,
)  # fmt: skip
_MAKERS = (
    nn.BatchNorm1d, nn.BatchNorm2d, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.GroupNorm,
    nn.LayerNorm, nn.Linear,
)  # fmt: skip
"""Layers whose output is always a tensor of its own."""


@contextmanager
def activations_in_place(module: nn.Module) -> Iterator[None]:
    """Activations overwrite what they are given inside, where that is safe; as before after.

    Safe are those in a `Sequential` of `Sequential`s, which PyTorch itself runs part by part,
    behind a layer that makes its output anew, where no hook looks on. A network with a forward
    pass of its own may keep what an activation is given, so there nothing changes.
    It saves a pass over memory that is not in the cache. Numbers are the same to rounding: single
    pixels that keep another layout may meet another kernel in the next layer.

    >>> net = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    >>> with activations_in_place(net):
    ...     print(net[1].inplace)
    True
    >>> net[1].inplace
    False
    """
    chosen = _overwriting(module)
    try:
        for part in chosen:
            part.inplace = True
        yield
    finally:
        for part in chosen:
            part.inplace = False


def _overwriting(module: nn.Module) -> list[Any]:
    """The activations that may; those that overwrite anyway are not among them."""
    if modules._global_forward_hooks or modules._global_forward_pre_hooks:
        return []
    everywhere = [part for _, part in module.named_modules(remove_duplicate=False)]
    return [
        after
        for before, after in _neighbours(module)
        if type(before) in _MAKERS
        and type(after) in _ACTIVATIONS
        and not after.inplace
        and not _is_watched(before)
        and not _is_watched(after)
        and everywhere.count(after) == 1
    ]


def _neighbours(module: nn.Module) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Parts that PyTorch runs one after the other, the first handing to the second alone."""
    if type(module) is not nn.Sequential or "forward" in vars(module):
        return
    parts = list(module)
    yield from pairwise(parts)
    for part in parts:
        yield from _neighbours(part)


def _is_watched(part: nn.Module) -> bool:
    """Whether somebody sees what goes in or comes out."""
    return bool(part._forward_hooks or part._forward_pre_hooks or "forward" in vars(part))
