"""Activations that do less work, where nobody can see it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from torch import nn
from torch.nn.modules import module as modules

from chiaroscuro.guard import as_found

_ACTIVATIONS = (
    nn.CELU, nn.ELU, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU, nn.Mish, nn.ReLU,
    nn.ReLU6, nn.SELU, nn.SiLU, nn.Threshold,
)  # fmt: skip
_RISING = (nn.Hardtanh, nn.ReLU, nn.ReLU6)
"""Those under which the largest of some values stays the largest."""
_MAKERS = (
    nn.BatchNorm1d, nn.BatchNorm2d, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.GroupNorm,
    nn.LayerNorm, nn.Linear, nn.MaxPool2d,
)  # fmt: skip
"""Layers whose output is always a tensor of its own."""


@contextmanager
def cheaper_activations(module: nn.Module) -> Iterator[None]:
    """Activations come after a maximum's window and overwrite their inputs inside.

    Both only where that is safe; after it everything is as before. For use without gradients.
    Safe is a network of PyTorch's own layers in `Sequential`s, which runs no code of anybody else,
    where no hook looks on; activations overwrite the output of a layer that makes a new one. Other
    threads wait outside. Every other network stays as it is, since it may keep what an activation
    is given. It saves passes over memory that is not in the cache. Numbers are the same
    to rounding: single pixels that keep another layout may meet another kernel in the next layer.

    >>> net = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(), nn.MaxPool2d(2))
    >>> with cheaper_activations(net):
    ...     print([type(layer).__name__ for layer in net], net[2].inplace)
    ['Conv2d', 'MaxPool2d', 'ReLU'] True
    >>> [type(layer).__name__ for layer in net], net[1].inplace
    (['Conv2d', 'ReLU', 'MaxPool2d'], False)
    """
    parts = list(module.modules())
    watched = modules._global_forward_hooks or modules._global_forward_pre_hooks
    if watched or not all(map(_is_plain, parts)):
        yield
        return
    with as_found(module, alone=True):  # another thread's backward pass needs what is overwritten
        orders = [(part, part._modules, _pooled_first(part._modules)) for part in parts]
        overwriting: list[Any] = []
        try:
            for part, _, other in orders:
                part._modules = other
            overwriting = _overwriting(parts)
            for activation in overwriting:
                activation.inplace = True
            yield
        finally:
            for activation in overwriting:
                activation.inplace = False
            for part, order, _ in orders:
                part._modules = order


def _pooled_first(layers: Mapping[str, Any]) -> dict[str, Any]:
    """A chain with each maximum's window before the activation that it follows."""
    names = list(layers)
    for i, (layer, following) in enumerate(pairwise(layers.values())):
        if type(layer) in _RISING and _is_plain_maximum(following):
            names[i : i + 2] = names[i + 1], names[i]
    return {name: layers[name] for name in names}


def _is_plain_maximum(layer: nn.Module) -> bool:
    """Whether it gives maxima alone, each of some input: a dilated window may hold none."""
    plain = type(layer) is nn.MaxPool2d and not layer.return_indices
    return plain and layer.dilation in (1, (1, 1))


def _overwriting(parts: Sequence[nn.Module]) -> list[Any]:
    """The activations that may, in every place where they stand, and do not anyway."""
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
