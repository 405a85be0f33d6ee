"""How each operation of PyTorch goes backward for many classes at once.

`RULES` names the operations that are served here; every other one runs its own backward
pass class by class, which is exact too and only slower. A rule may decline by returning None.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from chiaroscuro.errors import first_line
from chiaroscuro.gradients.backward.layers import LAYERS, attention
from chiaroscuro.gradients.backward.steps import (
    Add,
    Linear,
    Matrix,
    MultiInput,
    Opaque,
    Rule,
    Scale,
    Step,
    sum_to,
)
from chiaroscuro.gradients.backward.tape import Entry, UnknownNodeError
from chiaroscuro.gradients.backward.views import VIEWS, axis, overloads


def step_of(entry: Entry, notes: list[str] | None = None) -> Step:
    """The step that takes gradients of the operation's outputs to those of its inputs.

    `notes` gets why a rule could not read its node, as where PyTorch renamed a saved value.
    """
    rule = RULES.get(entry.name) if entry.is_real else None
    step = None
    try:
        step = None if rule is None else rule(entry)
    except (UnknownNodeError, AttributeError, IndexError, TypeError, ValueError) as error:
        note = f"{entry.name} runs class by class, since its rule failed: {first_line(error)}"
        if notes is not None and note not in notes:
            notes.append(note)
    return Opaque(entry) if step is None else step


def _elementwise(entry: Entry) -> Step | None:
    """Y = f(x, ...) element by element: the derivative is the gradient of the sum of y."""
    inputs = [i for i, edge in enumerate(entry.edges) if edge is not None]
    if any(entry.input_shape(i) != entry.shapes[0] for i in inputs):
        return None  # a broadcast input gets a sum
    return _products(entry, entry.backward([_ones(entry)]))


def _ones(entry: Entry) -> Tensor:
    """Ones of the output's shape, in the layout of a value that was saved: kernels mix no two."""
    shape = entry.shapes[0]
    dtype, device = entry.dtypes[0], entry.device
    saved = (entry.saved_or_none(name) for name in ("result", "self"))
    for value in saved:
        if isinstance(value, Tensor) and value.shape == shape:
            return torch.ones_like(value, dtype=dtype, device=device)
    return torch.ones(shape, dtype=dtype, device=device)


def _add(entry: Entry) -> Step:
    return Add(entry, [1.0, float(entry.saved("alpha"))])


def _subtract_from(entry: Entry) -> Step:
    return Add(entry, [-float(entry.saved("alpha")), 1.0][: len(entry.edges)])


def _subtract(entry: Entry) -> Step:
    return Add(entry, [1.0, -float(entry.saved("alpha"))])


def _multiply(entry: Entry) -> Step | None:
    return _products(entry, [entry.saved("other"), entry.saved("self")])


def _divide(entry: Entry) -> Step | None:
    return None if entry.edges[1] is not None else _products(entry, [_inverse(entry)])


def _inverse(entry: Entry) -> Tensor:
    # A whole number would be inverted in PyTorch's default format.
    divisor: Tensor = entry.saved("other")
    return 1 / divisor.detach().to(entry.dtypes[0])


def _products(entry: Entry, factors: Sequence[Tensor | None]) -> Step | None:
    """Each input's gradient is the output's times a constant, summed where it was broadcast."""
    works: list[Callable[[Tensor], Tensor] | None] = []
    for number, edge in enumerate(entry.edges):
        factor = factors[number] if number < len(factors) else None
        if edge is None:
            works.append(None)
        elif factor is None:
            return None
        else:
            works.append(partial(_product, factor.detach(), entry.input_shape(number)))
    if entry.edges[0] is not None and works[1:] in ([], [None]):
        factor = factors[0]
        if factor is not None and entry.input_shape() == entry.shapes[0]:
            return _scale(factor.detach(), entry.shapes[0])
    return MultiInput(works)


def _scale(factor: Tensor, shape: Sequence[int]) -> Scale:
    """The product, one number a channel where the constant is that: convolutions take it in."""
    if len(shape) == 4 and factor.shape[-3:] == (shape[1], 1, 1) and factor.numel() == shape[1]:
        return Scale(factor.flatten(), channels=True)
    return Scale(factor[(None,) * (len(shape) - factor.ndim)])


def _product(factor: Tensor, shape: Sequence[int], gradient: Tensor) -> Tensor:
    return sum_to(gradient * factor, shape)


def _mean(entry: Entry) -> Step:
    return _repeat(entry, entry.input_shape().numel() / max(1, entry.shapes[0].numel()))


def _sum(entry: Entry) -> Step:
    return _repeat(entry, 1)


def _repeat(entry: Entry, count: float) -> Step:
    """Back along the axes that a sum took away, to each its share."""
    shape = entry.input_shape()
    axes = entry.saved("dim") if entry.name.endswith("1") else None
    gone = {axis(value, len(shape)) for value in axes} if axes else set(range(len(shape)))
    kept = len(shape) == len(entry.shapes[0])
    missing = (slice(None), *(None if i in gone else slice(None) for i in range(len(shape))))
    spread = [-1, *(n if i in gone else -1 for i, n in enumerate(shape))]

    def back(gradient: Tensor) -> Tensor:
        share = gradient if count == 1 else gradient / count
        return (share if kept else share[missing]).expand(spread)

    # An expanded gradient shares its elements, so nobody may write into it.
    return Linear(back, gives="shared", by_channel=gone.isdisjoint({0, 1}))


def _matrix(entry: Entry, first: int) -> Step | None:
    """A @ b, where inputs number `first` and the next are a and b; b without gradient only."""
    if len(entry.edges) > first + 1 and entry.edges[first + 1] is not None:
        return None
    right = entry.saved("mat2")
    if right is None or any(edge is not None for edge in entry.edges[:first]):
        return None
    return Matrix(right.detach(), first)


def _addmm(entry: Entry) -> Step | None:
    plain = float(entry.saved("alpha")) == 1
    return _matrix(entry, 1) if plain else None


def _bmm(entry: Entry) -> Step:
    left, right = entry.saved("self"), entry.saved("mat2")
    works = [
        None if entry.edges[0] is None else lambda gradient: gradient @ right.detach().mT,
        None if entry.edges[1] is None else lambda gradient: left.detach().mT @ gradient,
    ]
    return MultiInput(works)


def _log_softmax(entry: Entry) -> Step:
    share = entry.saved("result").detach().exp()
    along = 1 + axis(entry.saved("dim"), share.ndim)
    return Linear(lambda gradient: gradient - share * gradient.sum(dim=along, keepdim=True))


def _softmax(entry: Entry) -> Step:
    share = entry.saved("result").detach()
    along = 1 + axis(entry.saved("dim"), share.ndim)

    def back(gradient: Tensor) -> Tensor:
        weighted = gradient * share
        total: Tensor = weighted.sum(dim=along, keepdim=True)
        result: Tensor = weighted - share * total
        return result

    return Linear(back)


_ELEMENTWISE = (
    "Abs", "Atan2", "Celu", "Clamp", "ClampMax", "ClampMin", "Cos", "Elu", "Erf", "Exp", "Gelu",
    "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyRelu", "Lerp", "LogSigmoid", "Log", "MaskedFill",
    "Maximum", "Minimum", "Mish", "Neg", "Pow", "PreluKernel", "Reciprocal", "Relu", "Rsqrt",
    "Selu", "Sigmoid", "Silu", "Sin", "Softplus", "Sqrt", "Tanh", "Threshold", "Where",
)  # fmt: skip
RULES: dict[str, Rule] = {
    **VIEWS,
    **LAYERS,
    **overloads(_ELEMENTWISE, _elementwise),
    "AddBackward0": _add,
    "AddmmBackward0": _addmm,
    "BmmBackward0": _bmm,
    "DivBackward0": _divide,
    "LogSoftmaxBackward0": _log_softmax,
    "MeanBackward0": _mean,
    "MeanBackward1": _mean,
    "MmBackward0": lambda entry: _matrix(entry, 0),
    "MulBackward0": _multiply,
    "RsubBackward0": _subtract_from,
    "RsubBackward1": _subtract_from,
    "ScaledDotProductFlashAttentionForCpuBackward0": attention,
    "SoftmaxBackward0": _softmax,
    "SubBackward0": _subtract,
    "SumBackward0": _sum,
    "SumBackward1": _sum,
}
"""Every operation that is served for many classes at once, by autograd's name of it."""
