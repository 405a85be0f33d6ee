"""Convolutions, normalizations and poolings: what networks for images are made of."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from chiaroscuro.gradients.backward.convolution import read_convolution
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


def attention(entry: Entry) -> Step | None:
    """The way back; declines where heads share keys or values."""
    query, key, value = (saved.detach() for saved in entry.all_saved("query", "key", "value"))
    if query.shape[:-2] != key.shape[:-2]:
        return None
    scale = entry.saved("scale")
    scaled = query * (query.shape[-1] ** -0.5 if scale is None else scale)
    return _Attention(scaled, key, value, _mask(entry, query, key), entry)


def _mask(entry: Entry, query: Tensor, key: Tensor) -> Tensor | None:
    """What is added to the products of queries and keys."""
    length, others = query.shape[-2], key.shape[-2]
    if entry.saved("is_causal"):
        above = query.new_full((length, others), -torch.inf)
        return above.triu(1)
    mask: Tensor | None = entry.saved("attn_mask")
    return mask


class _Attention:
    """Y = P v with P = softmax(q k' + mask); the weights P are computed once for all classes.

    With g the gradient of y: gv = P' g, gs = P (g v' - sum of g y), gq = gs k, gk = gs' q.
    """

    def __init__(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, entry: Entry
    ) -> None:
        self.query, self.key, self.value = query, key, value
        scores = query @ key.mT
        self.share = (scores if mask is None else scores + mask).softmax(dim=-1)
        scale = entry.saved("scale")
        self.scale = query.shape[-1] ** -0.5 if scale is None else scale
        self.wanted = [edge is not None for edge in entry.edges[:3]]

    def __call__(self, cotangents: Cotangents) -> Cotangents:
        """As every `Step`."""
        gradient = one(cotangents).tensor
        to_share = gradient @ self.value.mT
        to_share -= (to_share * self.share).sum(dim=-1, keepdim=True)
        scores = to_share.mul_(self.share)
        to_query, to_key = scores @ self.key * self.scale, scores.mT @ self.query
        inputs = (to_query, to_key, self.share.mT @ gradient)
        return [Cotangent(t, True) if w else None for t, w in zip(inputs, self.wanted, strict=True)]


def _convolution(entry: Entry) -> Step | None:
    conv = read_convolution(entry) if entry.follows_first_alone else None
    return None if conv is None else Convolve(conv)


def _batch_norm(entry: Entry) -> Step | None:
    """With fixed statistics each channel is multiplied by a number."""
    fixed = not entry.saved("training") and entry.saved("running_var") is not None
    if not fixed or not entry.follows_first_alone:
        return None
    scale = torch.rsqrt(entry.saved("running_var") + entry.saved("eps"))
    if entry.saved("weight") is not None:
        scale = scale * entry.saved("weight")
    return Scale(scale.detach().to(entry.dtypes[0]), channels=True)


def _layer_norm(entry: Entry) -> Step | None:
    if not entry.follows_first_alone:
        return None
    values = entry.all_saved("input", "result1", "result2")
    return Linear(_LayerNorm(values, entry.saved("normalized_shape"), entry.saved("weight")))


class _LayerNorm:
    """PyTorch's own backward, with the values before normalization repeated for every class.

    They are repeated for each call: a network has many such layers, and keeping the copies of
    all of them would cost more memory than it saves time.
    """

    def __init__(
        self, values: Sequence[Tensor], shape: Sequence[int], weight: Tensor | None
    ) -> None:
        self.values = [value.detach() for value in values]
        self.shape, self.weight = list(shape), weight

    def __call__(self, gradient: Tensor) -> Tensor:
        """Gradients (V, ...) of the output to those of the input."""
        repeated = [value.expand(len(gradient), *value.shape).contiguous() for value in self.values]
        data, mean, scale = repeated
        sizes = (self.shape, mean, scale, self.weight, self.weight)
        result, _, _ = torch.ops.aten.native_layer_norm_backward(
            gradient.contiguous(), data, *sizes, [True, False, False]
        )
        return torch.as_tensor(result)


def _group_norm(entry: Entry) -> Step | None:
    return Linear(_GroupNorm(entry)) if entry.follows_first_alone else None


class _GroupNorm:
    """With y = (x - mean) r w: the input's gradient is r (g w - mean(g w) - z mean(g w z)),
    means over each group, with z = (x - mean) r.
    """

    def __init__(self, entry: Entry) -> None:
        self.grouped = (*entry.all_saved("N", "group"), -1)
        mean, rate = (
            value.detach().view(*self.grouped[:2], 1)
            for value in entry.all_saved("result1", "result2")
        )
        self.rate = rate
        self.values = (entry.saved("input").detach().reshape(self.grouped) - mean) * rate
        weight = entry.saved("weight")
        axes = len(entry.shapes[0]) - 2
        self.weight = None if weight is None else weight.detach().view(-1, *(1,) * axes)

    def __call__(self, gradient: Tensor) -> Tensor:
        """Gradients (V, N, C, ...) of the output to those of the input."""
        weighted = gradient if self.weight is None else gradient * self.weight
        grouped = weighted.reshape(len(gradient), *self.grouped)
        along = (grouped * self.values).mean(dim=-1, keepdim=True)
        result = grouped - grouped.mean(dim=-1, keepdim=True) - self.values * along
        scaled: Tensor = result * self.rate
        return scaled.view(gradient.shape)


def _max_pool(entry: Entry) -> Step | None:
    if len(entry.shapes[0]) != 4:
        return None
    names = ("kernel_size", "stride", "padding", "dilation")
    options = [list(values) for values in entry.all_saved(*names)]
    return MaxPool(
        entry.saved("result1"), entry.input_shape()[2:], options, ceil=entry.saved("ceil_mode")
    )


class MaxPool:
    """PyTorch's own backward, with the places of the maxima repeated for every class once.

    `places` (N, C, Ho, Wo) in inputs of height and width `size`; `options`: kernel, stride,
    padding and dilation.
    """

    def __init__(
        self, places: Tensor, size: Sequence[int], options: Sequence[list[int]], *, ceil: bool
    ) -> None:
        self.places, self.size, self.options, self.ceil = places, size, options, ceil
        self._repeated: tuple[Tensor, Tensor] | None = None

    def within(self, channels: Tensor) -> "MaxPool":
        """The same for these channels alone."""
        return MaxPool(self.places[:, channels], self.size, self.options, ceil=self.ceil)

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
        return [Cotangent(self._back(one(cotangents).tensor), True)]

    def _back(self, gradient: Tensor) -> Tensor:
        """Gradients (V, N, C, H, W) of the output to those of the input."""
        rows = gradient.flatten(0, 1)
        if self._repeated is None or len(self._repeated[0]) < len(rows):
            repeated = self.places.repeat(len(gradient), 1, 1, 1)
            layout = torch.channels_last
            # Only its shape and layout are read: memory never written to is never taken.
            shape = (*rows.shape[:2], *self.size)
            like = torch.empty(shape, dtype=rows.dtype, device=rows.device, memory_format=layout)
            self._repeated = repeated.contiguous(memory_format=layout), like
        places, like = (value[: len(rows)] for value in self._repeated)
        rows = rows.contiguous(memory_format=torch.channels_last)
        result = torch.ops.aten.max_pool2d_with_indices_backward(
            rows, like, *self.options, self.ceil, places
        )
        return torch.unflatten(result, 0, gradient.shape[:2])


def _average_pool(entry: Entry) -> Step | None:
    shape = entry.input_shape()
    if len(shape) != 4:
        return None
    options = entry.all_saved(
        "kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override"
    )

    def back(rows: Tensor) -> Tensor:
        like = rows.new_empty(*rows.shape[:2], *shape[2:])
        return torch.as_tensor(torch.ops.aten.avg_pool2d_backward(rows, like, *options))

    return Linear(partial(per_class, work=back), by_channel=True)


def _adaptive_pool(entry: Entry) -> Step | None:
    shape = entry.input_shape()
    if len(shape) != 4:
        return None

    def back(rows: Tensor) -> Tensor:
        like = rows.new_empty(*rows.shape[:2], *shape[2:])
        return torch.as_tensor(torch.ops.aten._adaptive_avg_pool2d_backward(rows, like))

    return Linear(partial(per_class, work=back), by_channel=True)


def _upsample(work: Callable[..., Tensor], *options: str) -> Rule:
    """Back from a larger picture, as PyTorch does for many at once."""

    def rule(entry: Entry) -> Step:
        shape = entry.input_shape()
        options_of = [entry.saved(name) for name in (*options, "scales_h", "scales_w")]
        size = entry.saved("output_size")

        def back(rows: Tensor) -> Tensor:
            return work(rows, size, [*rows.shape[:2], *shape[2:]], *options_of)

        return Linear(partial(per_class, work=back), by_channel=True)

    return rule


LAYERS: dict[str, Rule] = {
    "AdaptiveAvgPool2DBackward0": _adaptive_pool,
    "AvgPool2DBackward0": _average_pool,
    "ConvolutionBackward0": _convolution,
    "MaxPool2DWithIndicesBackward0": _max_pool,
    "NativeBatchNormBackward0": _batch_norm,
    "NativeGroupNormBackward0": _group_norm,
    "NativeLayerNormBackward0": _layer_norm,
    "UpsampleBilinear2DBackward0": _upsample(
        torch.ops.aten.upsample_bilinear2d_backward, "align_corners"
    ),
    "UpsampleNearest2DBackward0": _upsample(torch.ops.aten.upsample_nearest2d_backward),
}
"""By autograd's name of the operation."""
