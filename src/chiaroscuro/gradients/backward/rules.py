"""How each operation of PyTorch goes backward for many classes at once.

`RULES` names the operations that are served here; of every other one `one_way` may read a step.
What is left runs its own backward pass class by class, which is exact too and only slower. A rule
may decline by returning None.
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import accumulate, pairwise, zip_longest

import torch
import torch.nn.functional as F
from torch import Tensor

from chiaroscuro.errors import first_line
from chiaroscuro.gradients.backward.layers import LAYERS
from chiaroscuro.gradients.backward.moves import MOVES, one_way
from chiaroscuro.gradients.backward.reductions import REDUCTIONS
from chiaroscuro.gradients.backward.steps import (
    Add,
    Crop,
    Linear,
    Matrix,
    Opaque,
    Permute,
    Reshape,
    Rule,
    Scale,
    Scatter,
    Step,
    Work,
    sum_to,
)
from chiaroscuro.gradients.backward.tape import Entry, UnknownNodeError, axes, signed
from chiaroscuro.matmul import from_left, from_right, rounded

_UNREADABLE = (
    UnknownNodeError, AttributeError, IndexError, NotImplementedError, TypeError, ValueError
)  # fmt: skip


def step_of(entry: Entry) -> Step:
    """The step that takes gradients of the operation's outputs to those of its inputs."""
    try:
        for rule in (RULES.get(entry.name), one_way) if entry.is_real else ():
            if rule is not None and (step := rule(entry)) is not None:
                return step
        return Opaque(entry)
    except _UNREADABLE as error:
        why = f"{entry.name} runs class by class, since its rule failed: {first_line(error)}"
        return Opaque(entry, why)


# Operations that move elements and compute nothing.


def _reshape(entry: Entry) -> Step:
    return Reshape(entry.input_shape(), entry.shapes[0])


def _as_strided(entry: Entry) -> Step | None:
    """Only where pooling to one pixel gives its means other strides: the elements stay."""
    behind, _ = entry.node.next_functions[0]
    pooled = behind.name() == "MeanBackward1" and entry.input_shape() == entry.shapes[0]
    return _reshape(entry) if pooled and entry.shapes[0][2:] == (1, 1) else None


def _permute(entry: Entry) -> Step:
    count = len(entry.shapes[0])
    order = [signed(value) % count for value in entry.saved("dims")]
    return Permute([order.index(i) for i in range(count)])


def _transpose(entry: Entry) -> Step:
    first, second = axes(entry, "dim0", "dim1")
    order = list(range(len(entry.shapes[0])))
    order[first], order[second] = second, first
    return Permute(order)


def _scatter(entry: Entry, *places: slice | int) -> Step:
    """Back from parts of the input along one axis."""
    shape = entry.input_shape()
    return Scatter(shape, signed(entry.saved("dim")) % len(shape), places)


def _slice(entry: Entry) -> Step:
    if entry.input_shape() == entry.shapes[0]:  # of everything, as older PyTorch reads `x[:, 0]`
        return _reshape(entry)
    first, last = (None if n is None else signed(n) for n in entry.all_saved("start", "end"))
    return _scatter(entry, slice(first, last, entry.saved("step")))


def _split(entry: Entry) -> Step:
    (along,) = axes(entry, "dim")
    ends = accumulate((shape[along] for shape in entry.shapes), initial=0)
    return _scatter(entry, *(slice(first, last) for first, last in pairwise(ends)))


def _cat(entry: Entry) -> Step | None:
    """Each part's start is read off the operation's own backward pass of positions."""
    (out, dtype, device), (along,) = entry.outputs[0], axes(entry, "dim")
    shapes = [None if about is None else about.shape for about in entry.inputs]
    if any(shape is not None and len(shape) != len(out) for shape in shapes):
        return None  # an empty part of no shape, which `cat` skips
    if out[along] * torch.finfo(dtype).eps > 1:
        return None  # positions are rounded
    line = torch.arange(out[along], device=device).to(dtype)
    positions = line.view(-1, *[1] * (len(out) - along - 1)).expand(out)
    works: list[Work | None] = []
    for shape, part in zip(shapes, entry.backward([positions]), strict=True):
        if shape is None or part is None:
            works.append(None)
            continue
        start = int(part.flatten()[0]) if part.numel() else 0
        works.append(partial(torch.narrow, dim=along + 1, start=start, length=shape[along]))
    return Linear(*works, gives="either")


def _stack(entry: Entry) -> Step:
    (along,) = axes(entry, "dim")
    works = [
        None if edge is None else partial(torch.select, dim=along + 1, index=i)
        for i, edge in enumerate(entry.edges)
    ]
    return Linear(*works, gives="either")


def _flip(entry: Entry) -> Step:
    along = [signed(value) % len(entry.shapes[0]) + 1 for value in entry.saved("dims")]
    return Linear(lambda gradient: gradient.flip(along))


def _roll(entry: Entry) -> Step | None:
    along = [signed(value) % len(entry.shapes[0]) + 1 for value in entry.saved("dims")]
    shifts = [-signed(value) for value in entry.saved("shifts")]
    return Linear(lambda gradient: gradient.roll(shifts, along)) if along else None


def _unfold(entry: Entry) -> Step:
    shape, (length, stride) = entry.input_shape(), entry.all_saved("size", "step")
    along = signed(entry.saved("dimension")) % len(shape) + 1

    def back(gradient: Tensor) -> Tensor:
        whole = [len(gradient), *shape]
        result = torch.ops.aten.unfold_backward(gradient, whole, along, length, stride)
        return torch.as_tensor(result)

    return Linear(back)


def _to_format(entry: Entry) -> Step | None:
    """Another number format; every gradient is brought to that of its tensor anyway."""
    return Add(entry) if entry.inputs[0].device == entry.outputs[0].device else None


def keeps_rows(entry: Entry) -> bool:
    """Whether the first axis of the inputs, where the rows are, is also that of the output."""
    try:
        match entry.name:
            case "PermuteBackward0":
                return signed(entry.saved("dims")[0]) % len(entry.shapes[0]) == 0
            case "TransposeBackward0":
                return 0 not in axes(entry, "dim0", "dim1")
            case "MmBackward0" | "AddmmBackward0":
                return entry.edges[-1] is None
            case "AsStridedBackward1" | "IndexBackward0" | "TBackward0" | "UnfoldBackward0":
                return False
            case name:
                return name in RULES and not _is_along_rows(entry)
    except UnknownNodeError:
        return False


def _is_along_rows(entry: Entry) -> bool:
    """Whether it takes the first axis apart, joins along it, sums over it or reorders it."""
    abouts = (about for about in (*entry.outputs, *entry.inputs) if about is not None)
    count = max(1, *(len(about.shape) for about in abouts))
    for name in ("dim", "dims"):
        with suppress(UnknownNodeError):
            dims = entry.saved(name)
            listed = [dims] if isinstance(dims, int) else dims or [0]
            return any(signed(value) % count == 0 for value in listed)
    return False


# Functions of single elements, and products.


def _elementwise(entry: Entry) -> Step | None:
    """Y = f(x, ...) element by element: the derivative is the gradient of the sum of y."""
    inputs = [about for about in entry.inputs if about is not None]
    if any(about.shape != entry.shapes[0] for about in inputs):
        return None  # a broadcast input gets a sum
    # One number, repeated, so that the result has the layout of the value that was saved.
    shape, dtype, device = entry.outputs[0]
    ones = torch.ones((), dtype=dtype, device=device).expand(shape)
    return products(entry, entry.backward([ones]))


def _alpha(entry: Entry) -> float:
    return float(entry.saved("alpha"))


def _divide(entry: Entry) -> Step | None:
    # "1 / other" would have PyTorch's default format where a plain number was divided by.
    other = entry.saved("other").detach().to(entry.outputs[0].dtype)
    upper = None if entry.edges[1] is None else entry.saved("self").detach()
    # Divided twice, since the square of a small number may be zero.
    below = None if upper is None else -(upper / other / other)
    return products(entry, [torch.ones_like(other) / other, below])


def _add_product(entry: Entry) -> Step | None:
    """Y = a + value b c."""
    value, second, third = entry.all_saved("value", "tensor1", "tensor2")
    ones = torch.ones((), dtype=entry.outputs[0].dtype, device=entry.outputs[0].device)
    factors = (None if each is None else each.detach() * value for each in (third, second))
    return products(entry, [ones, *factors])


def products(entry: Entry, factors: Sequence[Tensor | None]) -> Step | None:
    """Each input's gradient is the output's times a constant, summed where it was broadcast."""
    works: list[Work | None] = []
    for about, factor in zip_longest(entry.inputs, factors):
        if about is None:
            works.append(None)
        elif factor is None:
            return None
        else:
            works.append(partial(_product, factor.detach(), about.shape))
    first, shape = factors[0], entry.shapes[0]
    if first is not None and entry.follows_first_alone and entry.input_shape() == shape:
        return _scale(first.detach(), shape)
    return Linear(*works, gives="either")


def _scale(factor: Tensor, shape: Sequence[int]) -> Scale:
    """The product, one number a channel where the constant is that: convolutions take it in."""
    if len(shape) == 4 and factor.shape[-3:] == (shape[1], 1, 1) and factor.numel() == shape[1]:
        return Scale(factor.flatten(), channels=True)
    return Scale(factor[(None,) * (len(shape) - factor.ndim)])


def _product(factor: Tensor, shape: Sequence[int], gradient: Tensor) -> Tensor:
    return sum_to(gradient * factor, shape)


def _matrix(entry: Entry) -> Step | None:
    """C + a @ b, or a @ b alone."""
    *added, first, second = entry.edges
    left, right = entry.all_saved("mat1" if added else "self", "mat2")
    if added and entry.all_saved("alpha", "beta") != [1, 1]:
        return None
    if not any(added) and second is None:
        return Matrix(right.detach(), len(added))
    left, right = map(_constant, (left, right))
    return Linear(
        *(edge and partial(sum_to, shape=entry.input_shape()) for edge in added),
        first and (lambda gradient: gradient.to(right.dtype) @ right.mT),
        second and (lambda gradient: left.mT @ gradient.to(left.dtype)),
        gives="either",
    )


def _bmm(entry: Entry) -> Step:
    left, right = map(_constant, entry.all_saved("self", "mat2"))
    first, second = entry.edges
    return Linear(
        first and (lambda gradient: from_right(gradient.to(right.dtype), right.mT)),
        second and (lambda gradient: from_left(left, gradient.to(left.dtype))),
    )


def _constant(factor: Tensor | None) -> Tensor:
    """A product's factor, rounded where that is asked for; one that is not needed is empty."""
    return torch.empty(0) if factor is None else rounded(factor.detach())


def _overloads(kinds: str, rule: Rule) -> dict[str, Rule]:
    """The rule under autograd's names of all overloads."""
    return {f"{kind}Backward{n}": rule for kind in kinds.split() for n in range(4)}


_ELEMENTWISE = (
    "Abs Atan2 Celu Clamp ClampMax ClampMin Cos Elu Erf Exp Gelu Hardsigmoid Hardswish Hardtanh "
    "LeakyRelu Lerp LogSigmoid Log MaskedFill Maximum Minimum Mish Neg Pow PreluKernel Reciprocal "
    "Relu Rsqrt Selu Sigmoid Silu Sin Softplus Sqrt Tanh Threshold Where"
)
RULES: dict[str, Rule] = {
    **LAYERS,
    **MOVES,
    **REDUCTIONS,
    **_overloads("Alias Clone Expand", Add),
    **_overloads("View UnsafeView ReshapeAlias Squeeze Unsqueeze", _reshape),
    **_overloads("Split SplitWithSizes UnsafeSplit", _split),
    **_overloads(_ELEMENTWISE, _elementwise),
    **_overloads("Mm Addmm", _matrix),
    **_overloads("Rsub", lambda entry: Add(entry, -_alpha(entry), 1.0)),
    "AddBackward0": lambda entry: Add(entry, 1.0, _alpha(entry)),
    "AddBackward1": Add,
    "AddcmulBackward0": _add_product,
    "AsStridedBackward1": _as_strided,
    "BmmBackward0": _bmm,
    "CatBackward0": _cat,
    "ConstantPadNdBackward0": lambda entry: Crop([signed(n) for n in entry.saved("pad")]),
    "DivBackward0": _divide,
    "DivBackward1": lambda entry: Add(entry, 1 / float(entry.saved("other"))),
    "FlipBackward0": _flip,
    "MulBackward0": lambda entry: products(entry, entry.all_saved("other", "self")),
    "MulBackward1": lambda entry: Add(entry, float(entry.saved("other"))),
    "PermuteBackward0": _permute,
    "PixelShuffleBackward0": lambda entry: Linear(
        partial(F.pixel_unshuffle, downscale_factor=entry.saved("upscale_factor"))
    ),
    "RollBackward0": _roll,
    "SelectBackward0": lambda entry: _scatter(entry, signed(entry.saved("index"))),
    "SliceBackward0": _slice,
    "StackBackward0": _stack,
    "SubBackward1": Add,
    "SubBackward0": lambda entry: Add(entry, 1.0, -_alpha(entry)),
    "TBackward0": lambda entry: Permute([1, 0][-len(entry.shapes[0]) :]),
    "ToCopyBackward0": _to_format,
    "TransposeBackward0": _transpose,
    "UnfoldBackward0": _unfold,
    "UnbindBackward0": lambda entry: _scatter(entry, *range(len(entry.shapes))),
}
"""Every operation that is served for many classes at once, by autograd's name of it."""
