"""How each operation of PyTorch goes backward for many classes at once.

`RULES` names the operations that are served here; every other one is asked of PyTorch's engine class
by class, which is exact too and only slower. A rule may decline by returning None.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from chiaroscuro.gradients.convolution import read_convolution, times
from chiaroscuro.gradients.steps import (
    Apart,
    Convolve,
    Crop,
    Linear,
    Opaque,
    Pass,
    Scale,
    Step,
    per_class,
    sum_to,
)
from chiaroscuro.gradients.tape import Entry

Rule = Callable[[Entry], Step | None]


def step_of(entry: Entry) -> Step:
    """The step that takes gradients of the operation's outputs to those of its inputs."""
    rule = RULES.get(entry.name)
    step = rule(entry) if rule is not None else None
    return Opaque(entry) if step is None else step


def _elementwise(entry: Entry) -> Step:
    """y = f(x) element by element: the derivative is the gradient of the sum of y."""
    about = entry.node._input_metadata[0]
    with torch.enable_grad():
        ones = torch.ones(entry.shapes[0], dtype=about.dtype, device=about.device)
        (slope,) = entry.ask_engine([ones])
    assert slope is not None
    return Scale(slope.detach())


def _add(entry: Entry) -> Step:
    return Pass(entry, [1.0, float(entry.node._saved_alpha)])


def _subtract(entry: Entry) -> Step:
    return Pass(entry, [1.0, -float(entry.node._saved_alpha)])


def _multiply(entry: Entry) -> Step | None:
    return _products(entry, [entry.node._saved_other, entry.node._saved_self])


def _divide(entry: Entry) -> Step | None:
    return None if entry.edges[1] is not None else _products(entry, [1 / entry.node._saved_other])


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
            return Scale(factor.detach())
    return Apart(works)


def _product(factor: Tensor, shape: Sequence[int], gradient: Tensor) -> Tensor:
    return sum_to(gradient * factor, shape)


def _convolution(entry: Entry) -> Step | None:
    conv = read_convolution(entry)
    return None if conv is None else Convolve(conv)


def _batch_norm(entry: Entry) -> Step | None:
    """With fixed statistics each channel is multiplied by a number."""
    node = entry.node
    if node._saved_training or node._saved_running_var is None:
        return None
    scale = torch.rsqrt(node._saved_running_var + node._saved_eps)
    if node._saved_weight is not None:
        scale = scale * node._saved_weight
    return Scale(scale.detach().to(node._input_metadata[0].dtype), channels=True)


def _layer_norm(entry: Entry) -> Step:
    node = entry.node
    values = node._saved_input, node._saved_result1, node._saved_result2
    return Linear(_LayerNorm(values, node._saved_normalized_shape, node._saved_weight))


class _LayerNorm:
    """PyTorch's own backward, with the normalised values repeated for every class once."""

    def __init__(
        self, values: Sequence[Tensor], shape: Sequence[int], weight: Tensor | None
    ) -> None:
        self.values = [value.detach() for value in values]
        self.shape, self.weight = list(shape), weight
        self._repeated: list[Tensor] = []

    def __call__(self, gradient: Tensor) -> Tensor:
        classes = len(gradient)
        if not self._repeated or len(self._repeated[0]) < classes:
            self._repeated = [value.expand(classes, *value.shape).contiguous() for value in self.values]
        data, mean, scale = (value[:classes] for value in self._repeated)
        found, _, _ = torch.ops.aten.native_layer_norm_backward(
            gradient.contiguous(), data, self.shape, mean, scale, self.weight, self.weight,
            [True, False, False],
        )  # fmt: skip
        return torch.as_tensor(found)


def _max_pool(entry: Entry) -> Step:
    return Linear(_MaxPool(entry))


class _MaxPool:
    """PyTorch's own backward, with the places of the maxima repeated for every class once."""

    def __init__(self, entry: Entry) -> None:
        node = entry.node
        self.places = node._saved_result1
        self.data = node._saved_self.detach()
        self.options = [
            list(values)
            for values in (
                node._saved_kernel_size, node._saved_stride, node._saved_padding,
                node._saved_dilation,
            )
        ]  # fmt: skip
        self.ceil = node._saved_ceil_mode
        self._repeated: tuple[Tensor, Tensor] | None = None

    def __call__(self, gradient: Tensor) -> Tensor:
        rows = gradient.flatten(0, 1)
        if self._repeated is None or len(self._repeated[0]) < len(rows):
            repeated = self.places.repeat(len(gradient), 1, 1, 1)
            layout = torch.channels_last
            # Only its shape and layout are read: memory never written to is never taken.
            like = torch.empty(
                (len(rows), *self.data.shape[1:]), dtype=gradient.dtype, device=gradient.device,
                memory_format=layout,
            )  # fmt: skip
            self._repeated = repeated.contiguous(memory_format=layout), like
        places, like = (value[: len(rows)] for value in self._repeated)
        found = torch.ops.aten.max_pool2d_with_indices_backward(
            rows.contiguous(memory_format=torch.channels_last), like, *self.options, self.ceil,
            places,
        )  # fmt: skip
        return torch.as_tensor(found).unflatten(0, gradient.shape[:2])


def _average_pool(entry: Entry) -> Step:
    node = entry.node
    shape = entry.input_shape()

    def back(rows: Tensor) -> Tensor:
        found = torch.ops.aten.avg_pool2d_backward(
            rows, rows.new_empty(len(rows), *shape[1:]), node._saved_kernel_size,
            node._saved_stride, node._saved_padding, node._saved_ceil_mode,
            node._saved_count_include_pad, node._saved_divisor_override,
        )  # fmt: skip
        return torch.as_tensor(found)

    return Linear(partial(per_class, work=back))


def _adaptive_pool(entry: Entry) -> Step:
    shape = entry.input_shape()

    def back(rows: Tensor) -> Tensor:
        like = rows.new_empty(len(rows), *shape[1:])
        return torch.as_tensor(torch.ops.aten._adaptive_avg_pool2d_backward(rows, like))

    return Linear(partial(per_class, work=back))


def _mean(entry: Entry) -> Step:
    shape, node = entry.input_shape(), entry.node
    count = shape.numel() / max(1, entry.shapes[0].numel())
    repeat = _repeat(entry)
    return Linear(lambda gradient: repeat(gradient / count).expand(-1, *shape), gives="shared")


def _sum(entry: Entry) -> Step:
    shape, repeat = entry.input_shape(), _repeat(entry)
    # An expanded gradient shares its elements, so nobody may write into it.
    return Linear(lambda gradient: repeat(gradient).expand(-1, *shape), gives="shared")


def _repeat(entry: Entry) -> Callable[[Tensor], Tensor]:
    """Put the axes back that a sum or mean took away."""
    shape, node = entry.input_shape(), entry.node
    axes = getattr(node, "_saved_dim", None)
    everything = range(len(shape))
    gone = {axis(value, len(shape)) for value in axes} if axes else set(everything)
    kept = [1 if i in gone else shape[i] for i in everything]
    return lambda gradient: gradient.reshape(-1, *kept)


def axis(value: int, count: int) -> int:
    """An axis as autograd keeps it (negative ones as unsigned numbers), counted from 0."""
    return (value - 2**64 if value >= 2**63 else value) % max(1, count)


def _reshape(entry: Entry) -> Step:
    shape = entry.input_shape()
    return Linear(lambda gradient: gradient.reshape(len(gradient), *shape), gives="view")


def _as_strided(entry: Entry) -> Step | None:
    """Only where it adds or drops axes of length 1, as pooling to one pixel does."""
    shape, out = entry.input_shape(), entry.shapes[0]
    same = [n for n in shape if n != 1] == [n for n in out if n != 1]
    return _reshape(entry) if same and not entry.node._saved_storage_offset else None


def _permute(entry: Entry) -> Step:
    order = [axis(value, len(entry.shapes[0])) for value in entry.node._saved_dims]
    back = [0, *(1 + order.index(i) for i in range(len(order)))]
    return Linear(lambda gradient: gradient.permute(back), gives="view")


def _transpose(entry: Entry) -> Step:
    count = len(entry.shapes[0])
    first, second = (1 + axis(v, count) for v in (entry.node._saved_dim0, entry.node._saved_dim1))
    return Linear(lambda gradient: gradient.transpose(first, second), gives="view")


def _flip_matrix(_: Entry) -> Step:
    return Linear(lambda gradient: gradient.transpose(-1, -2), gives="view")


def _expand(entry: Entry) -> Step:
    return Pass(entry)


def _slice(entry: Entry) -> Step:
    node, shape = entry.node, entry.input_shape()
    along = 1 + axis(node._saved_dim, len(shape))
    place = slice(node._saved_start, node._saved_end, node._saved_step)
    return Linear(partial(_put, shape, (*[slice(None)] * along, place)))


def _select(entry: Entry) -> Step:
    shape = entry.input_shape()
    along = axis(entry.node._saved_dim, len(shape))
    index = axis(entry.node._saved_index, shape[along])
    return Linear(partial(_put, shape, (*[slice(None)] * (1 + along), index)))


def _put(shape: Sequence[int], place: tuple[slice | int, ...], gradient: Tensor) -> Tensor:
    """Zeros of the shape with the gradient in its place."""
    found = gradient.new_zeros(len(gradient), *shape)
    found[place] = gradient
    return found


def _cat(entry: Entry) -> Step | None:
    if None in entry.edges:
        return None
    shapes = [entry.input_shape(i) for i in range(len(entry.edges))]
    along = axis(entry.node._saved_dim, len(entry.shapes[0]))
    sizes = [shape[along] for shape in shapes]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return Apart(
        [
            partial(torch.narrow, dim=along + 1, start=start, length=size)
            for start, size in zip(starts, sizes, strict=True)
        ]
    )


def _crop(entry: Entry) -> Step:
    return Crop(entry.node._saved_pad)


def _matrix(entry: Entry, first: int) -> Step | None:
    """a @ b, where inputs number `first` and the next are a and b; b without gradient only."""
    if len(entry.edges) > first + 1 and entry.edges[first + 1] is not None:
        return None
    right = entry.node._saved_mat2
    if right is None or any(edge is not None for edge in entry.edges[:first]):
        return None
    weight = right.detach()
    return Linear(
        lambda gradient: times(gradient.flatten(0, 1), weight).unflatten(0, gradient.shape[:2]),
        first,
    )


def _addmm(entry: Entry) -> Step | None:
    plain = float(entry.node._saved_alpha) == 1
    return _matrix(entry, 1) if plain else None


def _bmm(entry: Entry) -> Step:
    left, right = entry.node._saved_self, entry.node._saved_mat2
    works = [
        None if entry.edges[0] is None else lambda gradient: gradient @ right.detach().mT,
        None if entry.edges[1] is None else lambda gradient: left.detach().mT @ gradient,
    ]
    return Apart(works)


def _softmax(entry: Entry) -> Step:
    share = entry.node._saved_result.detach()
    along = 1 + axis(entry.node._saved_dim, share.ndim)

    def back(gradient: Tensor) -> Tensor:
        weighted = gradient * share
        return weighted - share * weighted.sum(dim=along, keepdim=True)

    return Linear(back)


_ELEMENTWISE = (
    "Abs", "Celu", "Clamp", "ClampMax", "ClampMin", "Cos", "Elu", "Erf", "Exp", "Gelu",
    "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyRelu", "LogSigmoid", "Log", "Mish", "Neg", "Pow",
    "Reciprocal", "Relu", "Rsqrt", "Selu", "Sigmoid", "Silu", "Sin", "Softplus", "Sqrt", "Tanh",
    "Threshold",
)  # fmt: skip
_SAME = ("Alias", "Clone")
_RESHAPING = ("View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze")


def _named(kinds: Sequence[str], rule: Rule) -> dict[str, Rule]:
    """The rule under the names of all overloads."""
    return {f"{kind}Backward{n}": rule for kind in kinds for n in range(4)}


RULES: dict[str, Rule] = {
    **_named(_ELEMENTWISE, _elementwise),
    **_named(_SAME, Pass),
    **_named(_RESHAPING, _reshape),
    "AdaptiveAvgPool2DBackward0": _adaptive_pool,
    "AddBackward0": _add,
    "AddmmBackward0": _addmm,
    "AsStridedBackward1": _as_strided,
    "AvgPool2DBackward0": _average_pool,
    "BmmBackward0": _bmm,
    "CatBackward0": _cat,
    "ConstantPadNdBackward0": _crop,
    "ConvolutionBackward0": _convolution,
    "DivBackward0": _divide,
    "ExpandBackward0": _expand,
    "MaxPool2DWithIndicesBackward0": _max_pool,
    "MeanBackward0": _mean,
    "MeanBackward1": _mean,
    "MmBackward0": lambda entry: _matrix(entry, 0),
    "MulBackward0": _multiply,
    "NativeBatchNormBackward0": _batch_norm,
    "NativeLayerNormBackward0": _layer_norm,
    "PermuteBackward0": _permute,
    "SelectBackward0": _select,
    "SliceBackward0": _slice,
    "SoftmaxBackward0": _softmax,
    "SubBackward0": _subtract,
    "SumBackward0": _sum,
    "SumBackward1": _sum,
    "TBackward0": _flip_matrix,
    "TransposeBackward0": _transpose,
}
"""Every operation that is served for many classes at once, by autograd's name of it."""
