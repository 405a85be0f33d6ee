"""Activations that write over what they are given, where nobody can see it."""

from collections import Counter
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

    For use without gradients. Safe is a network of PyTorch's own layers in `Sequential`s, which
    runs no code of anybody else, behind a layer that makes its output anew, and where no hook looks
    on; every other network stays as it is, since it may keep what an activation is given.
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
    """The activations that may, in every place where they stand, and do not anyway."""
    parts = list(module.modules())
    watched = modules._global_forward_hooks or modules._global_forward_pre_hooks
    if watched or not all(map(_is_plain, parts)):
        return []
    chains = [list(part._modules.values()) for part in parts]
    places = Counter(child for chain in chains for child in chain)
    safe = Counter(
        after for chain in chains for before, after in pairwise(chain) if type(before) in _MAKERS
    )
    return [
        part
        for part in parts
        if type(part) in _ACTIVATIONS and not part.inplace and 0 < safe[part] == places[part]
    ]


def _is_plain(part: nn.Module) -> bool:
    """Whether it is a layer or chain of PyTorch's own that nobody changed or looks at."""
    kind = type(part)
    own = kind is nn.Sequential or (
        kind.__module__.startswith("torch.nn.modules.") and not part._modules
    )
    hooked = part._forward_hooks or part._forward_pre_hooks or part._compiled_call_impl is not None
    return own and not hooked and "forward" not in vars(part)
