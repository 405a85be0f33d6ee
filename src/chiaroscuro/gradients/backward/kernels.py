"""The gradient of a convolution's input, as the cheapest forward convolution that gives it.

For y = conv(x, w) with stride s, the input's gradient is, along each axis,
gx[i] = sum over o of gy[o] w[i + p - s o], with p the zeros padded before x. Forward kernels are
better cared for than backward ones in every library, most of all depthwise ones.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from chiaroscuro.device import device_profile
from chiaroscuro.matmul import Pair, fill_matrix, times

_FEW_CHANNELS = 4
"""Inputs of so few channels take all phases of a stride at once."""
_LAYOUT = torch.channels_last
Kernel = Callable[[Tensor], Tensor]
"""Takes gradients (R, Co, Ho, Wo) of a convolution's output to those (R, Ci, H, W) of its input."""


@dataclass(frozen=True, eq=False)
class Convolution:
    """A two-dimensional convolution's geometry and weights, channels_last.

    `weight` (Co, Ci/groups, kh, kw); `before` the zeros padded above and left; `size` height and
    width of the input, `out` of the output.
    """

    weight: Tensor
    stride: Pair
    before: Pair
    dilation: Pair
    groups: int
    size: Pair
    out: Pair

    @property
    def kernel(self) -> tuple[int, ...]:
        """Height and width of the kernel."""
        return tuple(self.weight.shape[2:])

    @property
    def channels(self) -> int:
        """Channels of the input."""
        return int(self.weight.shape[1]) * self.groups

    @property
    def is_depthwise(self) -> bool:
        """Whether each channel of the output is made of that channel of the input alone."""
        return self.weight.shape[1] == 1 and self.groups == self.weight.shape[0]

    @property
    def without_values(self) -> "Convolution":
        """The same geometry, whose weight has a shape alone and takes no memory."""
        return replace(self, weight=self.weight.to("meta"))

    def scaled(self, factor: Tensor) -> "Convolution":
        """The same after each output channel was multiplied by a number (Co,)."""
        return replace(self, weight=self.weight * factor.view(-1, 1, 1, 1))

    def shaded(self, factor: Tensor) -> "Convolution":
        """The same before which each input channel was multiplied by a number (Ci,)."""
        out, inner = self.weight.shape[:2]
        shares = factor.view(self.groups, 1, inner).expand(-1, out // self.groups, -1)
        return replace(self, weight=self.weight * shares.reshape(out, inner, 1, 1))

    def cropped(self, pad: Sequence[int]) -> "Convolution":
        """The same with zeros (left, right, top, bottom) taken from the input into the padding."""
        left, right, top, bottom = pad
        before = (self.before[0] + top, self.before[1] + left)
        size = (self.size[0] - top - bottom, self.size[1] - left - right)
        return replace(self, before=before, size=size)


def kernel_of(conv: Convolution) -> Callable[[Convolution], Kernel]:
    """What makes the kernel that serves it; all but `native` take paddings that are not even."""
    whole = conv.groups == 1
    if whole and conv.dilation == (1, 1) and _is_small(conv):
        return dense
    if _is_slow(conv) and conv.kernel != (1, 1):
        return native
    if conv.stride == (1, 1):
        return flipped
    if conv.dilation != (1, 1):
        return native
    if whole and (conv.channels <= _FEW_CHANNELS or conv.kernel == conv.stride):
        return phase_decomposed
    if conv.is_depthwise:
        return zero_stuffed
    if whole and conv.kernel == (1, 1) and not _reads_padding(conv):
        return strided_pointwise
    return native


def _is_slow(conv: Convolution) -> bool:
    """Whether forward convolutions in this number format have no fast kernels."""
    name = str(conv.weight.dtype).removeprefix("torch.")
    return conv.weight.device.type == "cpu" and name in device_profile().slow_convolutions


def _reads_padding(conv: Convolution) -> bool:
    """Whether some single pixel that is read lies outside of the input."""
    last = (s * (o - 1) for s, o in zip(conv.stride, conv.out, strict=True))
    return conv.before != (0, 0) or any(i >= n for i, n in zip(last, conv.size, strict=True))


def _is_small(conv: Convolution) -> bool:
    """Whether a matrix from all outputs to all inputs does less than the kernel does."""
    pixels, outs, taps = map(math.prod, (conv.size, conv.out, conv.kernel))
    size = pixels * outs * conv.weight.shape[0] * conv.weight.shape[1] * 4
    return (1 < pixels < taps and size <= device_profile().matrix_bytes) or pixels == 1


def flipped(conv: Convolution) -> Kernel:
    """Stride 1: the same kernel, turned around, in and out exchanged."""
    reach = [d * (k - 1) for d, k in zip(conv.dilation, conv.kernel, strict=True)]
    sizes = zip(reach, conv.before, conv.size, conv.out, strict=True)
    pads = [(r - p, n + p - o) for r, p, n, o in sizes]
    return partial(
        convolve, weight=turned(conv), pads=pads, dilation=conv.dilation, groups=conv.groups
    )


def zero_stuffed(conv: Convolution) -> Kernel:
    """Depthwise with a stride: outputs spread apart by zeros, then as with stride 1."""
    weight, groups = turned(conv), conv.groups
    size = [n + k - 1 for n, k in zip(conv.size, conv.kernel, strict=True)]
    axes = zip(conv.kernel, conv.before, conv.stride, conv.out, size, strict=True)
    (down, rows), (across, columns) = (_landing(k - 1 - p, s, o, n) for k, p, s, o, n in axes)
    canvas = weight.new_zeros(0, *size, groups)

    def back(gradient: Tensor) -> Tensor:
        nonlocal canvas
        if len(canvas) < len(gradient):
            # Only the places of outputs are ever written: the zeros between them stay.
            canvas = gradient.new_zeros(len(gradient), *size, groups)
        spread = canvas[: len(gradient)].permute(0, 3, 1, 2)
        spread[:, :, down, across] = gradient[:, :, rows, columns]
        return F.conv2d(spread, weight, groups=groups)

    return back


def _landing(start: int, step: int, count: int, length: int) -> tuple[slice, slice]:
    """Places start, start + step, ... of `count` outputs inside 0..length-1, and those outputs."""
    skipped = max(0, -(start // step))
    first = start + skipped * step
    fitting = max(0, min(count - skipped, -(-(length - first) // step)))
    return slice(first, first + fitting * step, step), slice(skipped, skipped + fitting)


def phase_decomposed(conv: Convolution) -> Kernel:
    """A stride of s: s x s convolutions of stride 1, one a phase, as channels of a single one.

    Input s t + a takes output t + m through tap a + p - s m, for all m from `low` to `high`.
    """
    pads, zeros = [], []
    axes = zip(conv.kernel, conv.stride, conv.before, conv.size, conv.out, strict=True)
    for k, s, p, n, o in axes:
        low, high = -((k - 1 - p) // s), (s - 1 + p) // s
        pads.append((-low, -(-n // s) + high - o))
        zeros.append((s * high - p, s * (1 - low) + p - k))
    (down, across), (height, width), channels = conv.stride, conv.size, conv.channels
    taps = F.pad(conv.weight, (*zeros[1], *zeros[0]))
    taps = torch.unflatten(torch.unflatten(taps, 3, (-1, across)), 2, (-1, down)).flip(2, 4)
    weight = taps.permute(3, 5, 1, 0, 2, 4).flatten(0, 2).contiguous(memory_format=_LAYOUT)

    def back(gradient: Tensor) -> Tensor:
        result = convolve(gradient, weight, pads).permute(0, 2, 3, 1)
        tiles = torch.unflatten(result, 3, (down, across, channels)).transpose(2, 3)
        woven = tiles.flatten(3, 4).flatten(1, 2)
        return woven[:, :height, :width].permute(0, 3, 1, 2)

    return back


def strided_pointwise(conv: Convolution) -> Kernel:
    """Single pixels with a stride: a product for those that were read, zeros for the others."""
    weight, size, channels = turned(conv), conv.size, conv.channels
    down, across = (slice(0, s * o, s) for s, o in zip(conv.stride, conv.out, strict=True))

    def back(gradient: Tensor) -> Tensor:
        output = gradient.new_zeros(len(gradient), *size, channels).permute(0, 3, 1, 2)
        output[:, :, down, across] = convolve(gradient, weight, ((0, 0), (0, 0)))
        return output

    return back


def in_phases(conv: Convolution, factor: Tensor, before: Convolution) -> Kernel:
    """Depthwise with a stride, behind a product with a constant (N, C, H, W), behind single pixels.

    One phase of the stride after the other, so that what lies between the two is never whole: a
    phase of it stays in the cache. Input s t + a takes output t + m through tap a + p - s m.
    """
    factor = factor.expand(len(factor) if factor.ndim == 4 else 1, conv.channels, *conv.size)
    single, phases = turned(before), []
    axes = [*zip(conv.kernel, conv.stride, conv.before, conv.size, conv.out, strict=True)]
    for starts in itertools.product(*map(range, conv.stride)):
        taps, pads = [], []
        for a, (k, s, p, n, o) in zip(starts, axes, strict=True):
            low, high = -((k - 1 - a - p) // s), (a + p) // s
            taps.append([a + p - s * m for m in range(low, high + 1)])
            pads.append((-low, len(range(a, n, s)) + high - o))
        down, across = (slice(a, None, s) for a, s in zip(starts, conv.stride, strict=True))
        weight = conv.weight[:, :, taps[0]][..., taps[1]].contiguous(memory_format=_LAYOUT)
        part = factor[:, :, down, across].contiguous(memory_format=_LAYOUT)
        phases.append((down, across, partial(convolve, weight=weight, pads=pads), part))
    groups, size, channels = conv.groups, conv.size, before.channels

    def back(gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous(memory_format=_LAYOUT)
        output = gradient.new_empty(len(gradient), *size, channels).permute(0, 3, 1, 2)
        for down, across, phase, part in phases:
            middle = torch.unflatten(phase(gradient, groups=groups), 0, (-1, len(part))).mul_(part)
            output[:, :, down, across] = F.conv2d(middle.flatten(0, 1), single)
        return output

    return back


def are_phases(conv: Convolution, before: Convolution) -> bool:
    """Whether `in_phases` serves a convolution and the one before it."""
    return (
        kernel_of(conv) is zero_stuffed
        and all(k >= s for k, s in zip(conv.kernel, conv.stride, strict=True))
        and all(n >= s for n, s in zip(conv.size, conv.stride, strict=True))
        and before.kernel == (1, 1)
        and before.groups == 1
        and (before.stride, before.before, before.size) == ((1, 1), (0, 0), before.out)
    )


def dense(conv: Convolution) -> Kernel:
    """A few pixels only: one matrix from all outputs to all inputs."""
    (out, inner), size = conv.weight.shape[:2], conv.size
    laid = conv.weight.new_zeros(*conv.out, out, *size, inner)
    fill_matrix(laid, conv.weight, conv.stride, conv.before)
    matrix = laid.flatten(3).flatten(0, 2).T

    def back(gradient: Tensor) -> Tensor:
        result = times(gradient.permute(0, 2, 3, 1).flatten(1), matrix)
        return result.view(-1, *size, inner).permute(0, 3, 1, 2)

    return back


def native(conv: Convolution) -> Kernel:
    """PyTorch's own backward pass."""
    by_channel = conv.is_depthwise and _is_slow(conv)
    layout = torch.contiguous_format if by_channel else _LAYOUT
    weight = conv.weight.contiguous(memory_format=layout)
    shape = (conv.channels, *conv.size)
    sizes = (None, conv.stride, conv.before, conv.dilation, False, [0, 0], conv.groups)

    def back(gradient: Tensor) -> Tensor:
        gradient = gradient.contiguous(memory_format=layout)
        like = empty_like_rows(gradient, shape, layout)
        result, _, _ = torch.ops.aten.convolution_backward(
            gradient, like, weight, *sizes, [True, False, False]
        )
        return torch.as_tensor(result)

    return back


def empty_like_rows(
    rows: Tensor, shape: Sequence[int], layout: torch.memory_format = _LAYOUT
) -> Tensor:
    """Rows of another shape whose shape and layout alone are read: their memory is never taken."""
    whole = (len(rows), *shape)
    return torch.empty(whole, dtype=rows.dtype, device=rows.device, memory_format=layout)


def turned(conv: Convolution) -> Tensor:
    """The kernel of the way back: taps in reverse, in and out channels of each group exchanged."""
    weight = conv.weight.flip(2, 3)
    grouped = torch.unflatten(weight, 0, (conv.groups, -1)).transpose(1, 2)
    return grouped.flatten(0, 1).contiguous(memory_format=_LAYOUT)


def convolve(
    gradient: Tensor, weight: Tensor, pads: Sequence[Pair], dilation: Pair = (1, 1), groups: int = 1
) -> Tensor:
    """A convolution with these zeros before and after along each axis; negative ones crop."""
    gradient = gradient.contiguous(memory_format=_LAYOUT)
    (top, bottom), (left, right) = pads
    if min(top, bottom, left, right) < 0:
        padded = F.pad(gradient, (left, right, top, bottom))
        return F.conv2d(padded, weight, None, 1, 0, dilation, groups)
    # Even padding gives a few rows too many, which cost less than a padded copy.
    down, across = max(top, bottom), max(left, right)
    result = F.conv2d(gradient, weight, None, 1, (down, across), dilation, groups)
    height, width = result.shape[2:]
    return result[:, :, down - top : height - down + bottom, across - left : width - across + right]
