"""Convolutions, normalizations and poolings: what networks for images are made of."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch
from torch import Tensor

from chiaroscuro.gradients.backward.attention import Attention
from chiaroscuro.gradients.backward.kernels import Convolution, empty_like_rows
from chiaroscuro.gradients.backward.steps import (
    Convolve,
    Cotangent,
    Cotangents,
    Linear,
    Rule,
    Scale,
    Step,
    one,
    per_class,
)
from chiaroscuro.gradients.backward.tape import Entry
from chiaroscuro.matmul import Pair

aten = torch.ops.aten


def _attention(entry: Entry, mask: str = "") -> Step | None:
    """The mask is saved under the name `mask`.

    Declines where pixels are behind the mask, for dropout, and for a causal mask that is not
    square: kernels align it differently.
    """
    query, key, value = (saved.detach() for saved in entry.all_saved("query", "key", "value"))
    rows, columns = query.shape[-2], key.shape[-2]
    lopsided = entry.saved("is_causal") and rows != columns
    if any(entry.edges[3:]) or lopsided or entry.saved("dropout_p"):
        return None
    *images, heads = key.shape[:-2]
    if key.shape[:-2] != value.shape[:-2] or list(query.shape[:-3]) != images:
        return None
    scale, added = entry.saved("scale"), entry.saved(mask) if mask else None
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    if entry.saved("is_causal"):
        added = query.new_full((rows, columns), -torch.inf).triu(1)
    wanted = [edge is not None for edge in entry.edges[:3]]
    if query.shape[-3] == heads:
        return Attention(query, key, value, added, scale, wanted)
    # Queries of several heads that share keys are those of one.
    if added is not None:
        added = added.expand(*query.shape[:-1], columns).reshape(*images, heads, -1, columns)
    joined = query.reshape(*images, heads, -1, query.shape[-1])
    return partial(_shared, Attention(joined, key, value, added, scale, wanted), query.shape)


def _shared(step: Attention, shape: torch.Size, cotangents: Cotangents) -> Cotangents:
    """Attention whose queries have this shape before heads were joined."""
    gradient = one(cotangents).tensor
    joined = gradient.reshape(len(gradient), *step.lead, -1, gradient.shape[-1])
    first, *others = step([Cotangent(joined, False)])
    return [first and Cotangent(first.tensor.reshape(-1, *shape), True), *others]


def _convolution(entry: Entry) -> Step | None:
    """Of two dimensions by the fastest kernel; 1-d, 3-d and transposed ones by PyTorch's own."""
    weight = entry.saved("weight")
    if not entry.follows_first_alone:
        return None
    if weight.ndim != 4 or entry.saved("transposed"):
        names = ("stride", "padding", "dilation", "transposed", "output_padding", "groups")
        shape, options = entry.input_shape()[1:], entry.all_saved(*names)

        def back(rows: Tensor) -> Tensor:
            arguments = (rows.new_empty(len(rows), *shape), weight.detach(), None, *options)
            result, _, _ = aten.convolution_backward(rows, *arguments, [True, False, False])
            return torch.as_tensor(result)

        return Linear(partial(per_class, work=back))
    stride, padding, dilation = map(_pair, entry.all_saved("stride", "padding", "dilation"))
    size, out = _pair(entry.input_shape()[2:]), _pair(entry.shapes[0][2:])
    conv = Convolution(weight, stride, padding, dilation, entry.saved("groups"), size, out)
    return Convolve(conv)


def _pair(values: Iterable[int]) -> Pair:
    """Height's and width's number; autograd keeps one alone for both (`padding="valid"`)."""
    first, *others = (int(value) for value in values)
    return first, others[0] if others else first


def _batch_norm(entry: Entry) -> Step | None:
    """With fixed statistics each channel is multiplied by a number."""
    fixed = not entry.saved("training") and entry.saved("running_var") is not None
    if not fixed or not entry.follows_first_alone:
        return None
    scale = torch.rsqrt(entry.saved("running_var") + entry.saved("eps"))
    if entry.saved("weight") is not None:
        scale = scale * entry.saved("weight")
    return Scale(scale.detach().to(entry.outputs[0].dtype), channels=True)


def _layer_norm(entry: Entry) -> Step | None:
    if not entry.follows_first_alone:
        return None
    values = [value.detach() for value in entry.all_saved("input", "result1", "result2")]
    return LayerNorm(values, entry.saved("weight"), list(entry.saved("normalized_shape")))


class LayerNorm(Linear):
    """PyTorch's own backward, with the values (input, mean, rate) repeated for every class."""

    def __init__(
        self, values: Sequence[Tensor], weight: Tensor | None, shape: Sequence[int]
    ) -> None:
        self.values, self.weight, self.shape = values, weight, shape
        super().__init__()

    def __call__(self, cotangents: Cotangents) -> Cotangents:
        """As every `Step`."""
        gradient = one(cotangents).tensor
        # Repeated at each call: copies of all layers' values would cost more memory than time.
        data, mean, rate = (v.expand(len(gradient), *v.shape).contiguous() for v in self.values)
        arguments = (self.shape, mean, rate, self.weight, self.weight, [True, False, False])
        result, _, _ = aten.native_layer_norm_backward(gradient.contiguous(), data, *arguments)
        return [Cotangent(torch.as_tensor(result), True)]


def _group_norm(entry: Entry) -> Step | None:
    """With y = (x - mean) r w: the input's gradient is r (g w - mean(g w) - z mean(g w z)),
    means over each group, with z = (x - mean) r.
    """
    if not entry.follows_first_alone:
        return None
    groups = entry.all_saved("N", "group")
    mean, rate = (v.detach().view(*groups, 1) for v in entry.all_saved("result1", "result2"))
    values = (entry.saved("input").detach().reshape(*groups, -1) - mean) * rate
    weight = entry.saved("weight")
    if weight is not None:
        weight = weight.detach().view(-1, *(1,) * (len(entry.shapes[0]) - 2))

    def back(gradient: Tensor) -> Tensor:
        weighted = gradient if weight is None else gradient * weight
        grouped = weighted.reshape(len(gradient), *groups, -1)
        along = (grouped * values).mean(dim=-1, keepdim=True)
        result = grouped - grouped.mean(dim=-1, keepdim=True) - values * along
        return torch.mul(result, rate).view(gradient.shape)

    return Linear(back)


def _max_pool(entry: Entry) -> Step | None:
    if len(entry.shapes[0]) != 4:
        return None
    options = [
        list(values) for values in entry.all_saved("kernel_size", "stride", "padding", "dilation")
    ]
    size = entry.input_shape()[2:]
    return MaxPool(entry.saved("result1"), size, options, ceil=entry.saved("ceil_mode"))


class MaxPool:
    """PyTorch's own backward, with the places of the maxima repeated for every class once.

    `places` (N, C, Ho, Wo) in inputs of height and width `size`; `options`: kernel, stride,
    padding and dilation.
    """

    def __init__(
        self, places: Tensor, size: Sequence[int], options: Sequence[list[int]], *, ceil: bool
    ) -> None:
        self.places, self.size, self.options, self.ceil = places, size, options, ceil
        self._repeated: Tensor | None = None

    @property
    def thins_out(self) -> bool:
        """Whether it gives fewer values than it takes, each of them some input's."""
        *_, dilation = self.options
        return self.places.shape[2:].numel() < math.prod(self.size) and set(dilation) == {1}

    def chosen(self, values: Tensor) -> Tensor:
        """Those of the inputs' values (N, C, H, W), or one image's, that are the maxima's."""
        spread = values.expand(*self.places.shape[:2], *self.size).flatten(2)
        return spread.gather(2, self.places.flatten(2)).view(self.places.shape)

    def __call__(self, cotangents: Cotangents) -> Cotangents:
        """As every `Step`."""
        return [Cotangent(per_class(one(cotangents).tensor, self._back), True)]

    def _back(self, rows: Tensor) -> Tensor:
        """Gradients (V N, C, H, W) of the output to those of the input."""
        rows = rows.contiguous(memory_format=torch.channels_last)
        if self._repeated is None or len(self._repeated) < len(rows):
            repeated = self.places.repeat(len(rows) // len(self.places), 1, 1, 1)
            self._repeated = repeated.contiguous(memory_format=torch.channels_last)
        like = empty_like_rows(rows, (rows.shape[1], *self.size))
        result = aten.max_pool2d_with_indices_backward(
            rows, like, *self.options, self.ceil, self._repeated[: len(rows)]
        )
        return torch.as_tensor(result)


def _pictures(work: Callable[..., Tensor], *names: str, resizes: bool = False) -> Rule:
    """The rule of PyTorch's own work on many pictures: of rows, with what was saved as `names`.

    A work that `resizes` takes the size before and the input's shape, others an empty input.
    """

    def rule(entry: Entry) -> Step | None:
        shape = entry.input_shape()
        if len(shape) != 4:
            return None
        options = entry.all_saved(*names)

        def back(rows: Tensor) -> Tensor:
            whole = [*rows.shape[:2], *shape[2:]]
            if resizes:
                return torch.as_tensor(work(rows, options[0], whole, *options[1:]))
            return torch.as_tensor(work(rows, rows.new_empty(whole), *options))

        return Linear(partial(per_class, work=back), by_channel=True)

    return rule


def _patches(entry: Entry, work: Callable[..., Tensor]) -> Step:
    """Patches as columns, and columns as patches: each is the other's way back."""
    options = entry.all_saved("kernel_size", "dilation", "padding", "stride")
    sizes = [list(entry.input_shape()[2:])] if work is aten.col2im else []
    return Linear(
        partial(per_class, work=lambda rows: torch.as_tensor(work(rows, *sizes, *options)))
    )


_SCALES = ("scales_h", "scales_w")
LAYERS: dict[str, Rule] = {
    "AdaptiveAvgPool2DBackward0": _pictures(aten._adaptive_avg_pool2d_backward),
    "AvgPool2DBackward0": _pictures(
        aten.avg_pool2d_backward,
        *("kernel_size", "stride", "padding"),
        *("ceil_mode", "count_include_pad", "divisor_override"),
    ),
    "ConvolutionBackward0": _convolution,
    "MaxPool2DWithIndicesBackward0": _max_pool,
    "NativeBatchNormBackward0": _batch_norm,
    "NativeGroupNormBackward0": _group_norm,
    "NativeLayerNormBackward0": _layer_norm,
    "Col2ImBackward0": partial(_patches, work=aten.im2col),
    "Im2ColBackward0": partial(_patches, work=aten.col2im),
    "ReflectionPad2DBackward0": _pictures(aten.reflection_pad2d_backward, "padding"),
    "ReplicationPad2DBackward0": _pictures(aten.replication_pad2d_backward, "padding"),
    "ScaledDotProductCudnnAttentionBackward0": partial(_attention, mask="attn_bias"),
    "ScaledDotProductEfficientAttentionBackward0": partial(_attention, mask="attn_bias"),
    "ScaledDotProductFlashAttentionBackward0": _attention,
    "ScaledDotProductFlashAttentionForCpuBackward0": partial(_attention, mask="attn_mask"),
    "UpsampleBicubic2DBackward0": _pictures(
        aten.upsample_bicubic2d_backward, "output_size", "align_corners", *_SCALES, resizes=True
    ),
    "UpsampleBilinear2DBackward0": _pictures(
        aten.upsample_bilinear2d_backward, "output_size", "align_corners", *_SCALES, resizes=True
    ),
    "UpsampleNearest2DBackward0": _pictures(
        aten.upsample_nearest2d_backward, "output_size", *_SCALES, resizes=True
    ),
}
"""By autograd's name of the operation."""
