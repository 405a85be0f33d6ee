"""What a network returns, as logits."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from chiaroscuro.errors import ModelError

_NAMES = ("logits", "out")
"""Where outputs with named parts keep their logits."""


def read_logits(output: Any, batch: int, name: str, classes: int | None) -> Tensor:
    """The logits (B, K) in a network's output: a tensor, its part `logits` or `out`, or the one
    tensor (B, K) of a tuple.

    (B, K, 1, 1) is read as (B, K). `classes`: K where it is known; the first tensor (B, K) is the
    logits then. Raises `ModelError` where no tensor or several could be the logits.
    """
    if isinstance(output, Tensor):
        logits = _squeezed(output)
        if logits.ndim != 2 or logits.shape[0] != batch or logits.shape[1] < 1:
            raise ModelError(
                f"{name} returned shape {tuple(output.shape)} for {batch} images: "
                f"expected logits (B, K) = ({batch}, K)"
            )
        if not logits.is_floating_point():
            raise ModelError(f"{name} returned {output.dtype}: expected floating-point logits")
        return logits
    for part in _NAMES:
        named = output.get(part) if isinstance(output, Mapping) else getattr(output, part, None)
        if isinstance(named, Tensor):
            return read_logits(named, batch, name, classes)
    parts = (
        list(output.values() if isinstance(output, Mapping) else output)
        if isinstance(output, Mapping | Sequence)
        else []
    )
    tensors = [part for part in parts if isinstance(part, Tensor)]
    fitting = [t for t in map(_squeezed, tensors) if t.ndim == 2 and t.shape[0] == batch]
    if len(fitting) > 1 and classes is not None:
        widths = (1, 2) if classes == 2 else (classes,)
        fitting = [t for t in fitting if t.shape[1] in widths][:1]  # auxiliary heads come after
    if len(fitting) == 1:
        return read_logits(fitting[0], batch, name, classes)
    shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors) or "no tensors"
    raise ModelError(
        f"{name} returned a {type(output).__name__} with {shapes}: expected logits as a tensor "
        f"({batch}, K), ['logits'], ['out'] or .logits; give labels where several tensors could be "
        "the logits, or wrap the network in one that returns them"
    )


def _squeezed(tensor: Tensor) -> Tensor:
    return tensor.flatten(1) if tensor.ndim == 4 and tensor.shape[2:] == (1, 1) else tensor
