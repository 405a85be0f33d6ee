"""Cheaper ways to the same logits, for predictions without gradients."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from torch import nn

from chiaroscuro.shortcuts.activations import cheaper_activations
from chiaroscuro.shortcuts.functions import CheaperFunctions

__all__ = ["shortcuts"]


@contextmanager
def shortcuts(module: nn.Module) -> Iterator[None]:
    """A network predicts for less inside, with the same logits to rounding; as before after.

    For use without gradients. What is taken depends on the layers: see `cheaper_activations` and
    `CheaperFunctions`. Compiled networks stay as they are, and so do those with PyTorch's own
    attention, which has a fast way of its own where no functions are watched.

    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Flatten())
    >>> pixels = torch.rand(64, 4, 2, 2)
    >>> with torch.no_grad():
    ...     plain = net(pixels)
    ...     with shortcuts(net):
    ...         torch.testing.assert_close(net(pixels), plain)
    """
    parts = list(module.modules())
    functions = nullcontext() if any(map(_has_own_ways, parts)) else CheaperFunctions()
    with cheaper_activations(module), functions:
        yield


def _has_own_ways(part: nn.Module) -> bool:
    attention = isinstance(part, nn.MultiheadAttention | nn.TransformerEncoderLayer)
    compiled = part._compiled_call_impl is not None or hasattr(part, "_orig_mod")
    return attention or compiled
