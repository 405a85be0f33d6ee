"""Functions that take axes away: sums, means, norms, extremes; and softmax, which sums inside."""

from collections.abc import Callable

import torch
from torch import Tensor

from chiaroscuro.gradients.backward.attention import Softmax
from chiaroscuro.gradients.backward.steps import (
    Cotangent,
    Cotangents,
    Linear,
    Rule,
    Step,
)
from chiaroscuro.gradients.backward.tape import Entry, axes, signed


def _spread(
    entry: Entry, *, everything: bool = False
) -> tuple[set[int], Callable[[Tensor], Tensor]]:
    """The axes that the operation took away, and what repeats a gradient (V, ...) along them."""
    shape, out = entry.input_shape(), entry.shapes[0]
    dims = None if everything else entry.saved("dim")
    listed = [dims] if isinstance(dims, int) else dims or range(len(shape))
    gone = {signed(value) % max(1, len(shape)) for value in listed}
    missing = (slice(None), *(None if i in gone else slice(None) for i in range(len(shape))))
    repeats = [-1, *(n if i in gone else -1 for i, n in enumerate(shape))]
    kept = len(shape) == len(out)
    return gone, lambda gradient: (gradient if kept else gradient[missing]).expand(repeats)


def _sum(entry: Entry) -> Step:
    """To each its share."""
    gone, spread = _spread(entry, everything=not entry.name.endswith("1"))
    out = entry.shapes[0].numel()
    count = entry.input_shape().numel() / max(1, out) if entry.name.startswith("Mean") else 1
    # An expanded gradient shares its elements, so nobody may write into it.
    return Linear(
        lambda gradient: spread(gradient if count == 1 else gradient / count),
        gives="shared",
        by_channel=gone.isdisjoint({0, 1}),
    )


def _reduction(entry: Entry) -> Step:
    """Each input goes into one value of every output: its slope is the gradient of their sum."""
    _, spread = _spread(entry)
    factors: list[Tensor | None] = []
    for number, (shape, dtype, device) in enumerate(entry.outputs):
        ones: list[Tensor | None] = [None] * len(entry.outputs)
        ones[number] = torch.ones(shape, dtype=dtype, device=device)
        (factor, *_) = entry.backward(ones) if dtype.is_floating_point else [None]
        factors.append(None if factor is None else factor.detach())

    def back(cotangents: Cotangents) -> Cotangents:
        total: Tensor | None = None
        for cotangent, factor in zip(cotangents, factors, strict=True):
            if cotangent is not None and factor is not None:
                part = spread(cotangent.tensor) * factor
                total = part if total is None else total.add_(part)
        return [None if total is None else Cotangent(total, True)]

    return back


def _log_softmax(entry: Entry) -> Step:
    share, (along,) = entry.saved("result").detach().exp(), axes(entry, "dim")
    return Linear(lambda gradient: gradient - share * gradient.sum(along + 1, keepdim=True))


def _softmax(entry: Entry) -> Step:
    (along,) = axes(entry, "dim")
    return Softmax(entry.saved("result").detach(), along)


_ONE_EACH = "Amax Amin LinalgVectorNorm Logsumexp Max Min Std StdMean Var VarMean"
REDUCTIONS: dict[str, Rule] = {
    **{f"{kind}Backward{n}": _sum for kind in ("Mean", "Sum") for n in range(2)},
    **{f"{kind}Backward0": _reduction for kind in _ONE_EACH.split()},
    "LogSoftmaxBackward0": _log_softmax,
    "SafeSoftmaxBackward0": _softmax,
    "SoftmaxBackward0": _softmax,
}
"""By autograd's name of the operation."""
