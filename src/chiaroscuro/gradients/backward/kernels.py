"""The gradient of a convolution's input, as the cheapest forward convolution that gives it.

For y = conv(x, w) with stride s, the input's gradient is, along each axis,
gx[i] = sum over o of gy[o] w[i + p - s o], with p the zeros padded before x. Forward kernels are
better cared for than backward ones in every library, most of all depthwise ones.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from chiaroscuro.device import device_profile
from chiaroscuro.gradients.backward.convolution import Convolution
from chiaroscuro.matmul import Pair, fill_matrix, times

_FEW_CHANNELS = 4
"""Inputs of so few channels take all phases of a stride at once."""


def choose_kernel(conv: Convolution) -> "Kernel":
    """The kernel that takes gradients (R, Co, Ho, Wo) of the output to those of the input."""
    return kernel_of(conv)(conv)


def is_flexible(conv: Convolution) -> bool:
    """Whether a forward form serves it, so that its paddings need not be even."""
    return kernel_of(conv) is not Native


def kernel_of(conv: Convolution) -> "type[Kernel]":
    """The kind of kernel that serves it."""
    if conv.groups == 1 and conv.dilation == (1, 1) and _is_small(conv):
        return Dense
    if _is_slow(conv) and conv.weight.shape[2:] != (1, 1):
        return Native
    if conv.stride == (1, 1):
        return Flipped
    if conv.dilation != (1, 1):
        return Native
    kernel = tuple(conv.weight.shape[2:])
    if conv.groups == 1 and (conv.channels <= _FEW_CHANNELS or kernel == conv.stride):
        return PhaseDecomposed
    if conv.is_depthwise:
        return ZeroStuffed
    if conv.groups == 1 and kernel == (1, 1) and not _reads_padding(conv):
        return StridedPointwise
    return Native


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
    pixels, outs, taps = (math.prod(x) for x in (conv.size, conv.out, conv.weight.shape[2:]))
    size = pixels * outs * conv.weight.shape[0] * conv.weight.shape[1] * 4
    return (1 < pixels < taps and size <= device_profile().matrix_bytes) or pixels == 1


class Kernel(ABC):
    """One way to the input's gradient; subclasses say which in `_back`."""

    def __init__(self, conv: Convolution) -> None:
        self.conv = conv.without_values

    def __call__(self, gradient: Tensor) -> Tensor:
        """Gradients (R, Co, Ho, Wo) of the output to gradients (R, Ci, H, W) of the input."""
        return self._back(gradient.contiguous(memory_format=torch.channels_last))

    @abstractmethod
    def _back(self, gradient: Tensor) -> Tensor:
        """The same for a gradient laid out channels_last."""


class Flipped(Kernel):
    """Stride 1: the same kernel, turned around, in and out exchanged."""

    def __init__(self, conv: Convolution) -> None:
        super().__init__(conv)
        self.weight = turned(conv)
        self.pads = _pads(conv)

    def _back(self, gradient: Tensor) -> Tensor:
        conv = self.conv
        return convolve(gradient, self.weight, self.pads, conv.dilation, conv.groups)


class ZeroStuffed(Kernel):
    """Depthwise with a stride: outputs spread apart by zeros, then as with stride 1."""

    def __init__(self, conv: Convolution) -> None:
        super().__init__(conv)
        self.weight = turned(conv)
        self._canvas: Tensor | None = None

    def _back(self, gradient: Tensor) -> Tensor:
        conv, rows = self.conv, len(gradient)
        kernel = conv.weight.shape[2:]
        if self._canvas is None or len(self._canvas) < rows:
            # Only the places of outputs are ever written: the zeros between them stay.
            height, width = (n + k - 1 for n, k in zip(conv.size, kernel, strict=True))
            self._canvas = gradient.new_zeros(rows, height, width, conv.channels).permute(
                0, 3, 1, 2
            )
        canvas = self._canvas[:rows]
        (down, first_row), (across, first_column) = (
            _landing(k - 1 - p, s, n, length)
            for k, p, s, n, length in zip(
                kernel, conv.before, conv.stride, conv.out, canvas.shape[2:], strict=True
            )
        )
        rows_in = gradient[:, :, first_row : first_row + _count(down)]
        canvas[:, :, down, across] = rows_in[..., first_column : first_column + _count(across)]
        return F.conv2d(canvas, self.weight, groups=conv.groups)


def _landing(start: int, step: int, count: int, length: int) -> tuple[slice, int]:
    """Places start, start + step, ... of `count` outputs that fall inside 0..length-1, and the
    number of outputs that fall before.
    """
    skipped = max(0, -(start // step)) if start < 0 else 0
    first = start + skipped * step
    fitting = max(0, min(count - skipped, -(-(length - first) // step)))
    return slice(first, first + fitting * step, step), skipped


def _count(places: slice) -> int:
    return len(range(places.start, places.stop, places.step))


class PhaseDecomposed(Kernel):
    """A stride of s: s x s convolutions of stride 1, one a phase, as channels of a single one."""

    def __init__(self, conv: Convolution) -> None:
        super().__init__(conv)
        rows, self.lows = zip(
            *(
                phase_taps(k, s, p)
                for k, s, p in zip(conv.weight.shape[2:], conv.stride, conv.before, strict=True)
            ),
            strict=True,
        )
        self.steps = tuple(-(-n // s) for n, s in zip(conv.size, conv.stride, strict=True))
        self.weight = _phase_weight(conv.weight, rows[0], rows[1])
        self.pads = tuple(
            (-low, count - 1 + low + length - 1 - (n - 1))
            for low, count, length, n in zip(
                self.lows, self.steps, self.weight.shape[2:], conv.out, strict=True
            )
        )

    def _back(self, gradient: Tensor) -> Tensor:
        conv, (down, across) = self.conv, self.conv.stride
        result = convolve(gradient, self.weight, self.pads, (1, 1), 1)
        height, width = self.steps
        tiles = result.permute(0, 2, 3, 1).reshape(-1, height, width, down, across, conv.channels)
        woven = tiles.permute(0, 1, 3, 2, 4, 5).reshape(
            -1, height * down, width * across, conv.channels
        )
        return woven[:, : conv.size[0], : conv.size[1]].permute(0, 3, 1, 2)


def phase_taps(kernel: int, stride: int, before: int) -> tuple[list[list[int]], int]:
    """Which tap of the kernel each phase reads at each offset (-1: none), and the first offset.

    Input s t + a takes output t + m through tap a + p - s m.
    """
    offsets = [
        m
        for m in range(-kernel - before, kernel + before + 1)
        if any(0 <= a + before - stride * m < kernel for a in range(stride))
    ]
    span = range(min(offsets), max(offsets) + 1)
    taps = [[a + before - stride * m for m in span] for a in range(stride)]
    return [[t if 0 <= t < kernel else -1 for t in row] for row in taps], span.start


def _phase_weight(weight: Tensor, down: list[list[int]], across: list[list[int]]) -> Tensor:
    """(s s Ci, Co, n, n): the taps of every phase, 0 where it reads none."""
    padded = F.pad(weight, (0, 1, 0, 1))  # tap -1 is a row of zeros
    rows = padded[:, :, torch.tensor(down, device=weight.device)]
    taps = rows[..., torch.tensor(across, device=weight.device)]
    ordered = taps.permute(2, 4, 1, 0, 3, 5).flatten(0, 2)  # (a, b, Ci, Co, n, n)
    return ordered.contiguous(memory_format=torch.channels_last)


class StridedPointwise(Kernel):
    """Single pixels with a stride: a product for those that were read, zeros for the others."""

    def __init__(self, conv: Convolution) -> None:
        super().__init__(conv)
        self.weight = turned(conv)
        self.places = tuple(slice(0, s * n, s) for s, n in zip(conv.stride, conv.out, strict=True))

    def _back(self, gradient: Tensor) -> Tensor:
        conv, (down, across) = self.conv, self.places
        output = gradient.new_zeros(len(gradient), *conv.size, conv.channels).permute(0, 3, 1, 2)
        output[:, :, down, across] = F.conv2d(gradient, self.weight)
        return output


class Dense(Kernel):
    """A few pixels only: one matrix from all outputs to all inputs."""

    def __init__(self, conv: Convolution) -> None:
        super().__init__(conv)
        out, inner = conv.weight.shape[:2]
        matrix = conv.weight.new_zeros(*conv.size, inner, *conv.out, out)
        fill_matrix(matrix.permute(3, 4, 5, 0, 1, 2), conv.weight, conv.stride, conv.before)
        self.matrix = matrix.flatten(3).flatten(0, 2)

    def _back(self, gradient: Tensor) -> Tensor:
        rows = gradient.permute(0, 2, 3, 1).flatten(1)
        result = times(rows, self.matrix)
        return result.view(-1, *self.conv.size, self.conv.channels).permute(0, 3, 1, 2)


class Native(Kernel):
    """PyTorch's own backward pass."""

    def __init__(self, conv: Convolution) -> None:
        super().__init__(conv)
        by_channel = conv.is_depthwise and _is_slow(conv)
        self.layout = torch.contiguous_format if by_channel else torch.channels_last
        self.weight = conv.weight.contiguous(memory_format=self.layout)

    def _back(self, gradient: Tensor) -> Tensor:
        conv, layout = self.conv, self.layout
        shape = (len(gradient), conv.channels, *conv.size)
        like = torch.empty(
            shape, dtype=gradient.dtype, device=gradient.device, memory_format=layout
        )
        gradient = gradient.contiguous(memory_format=layout)
        sizes = (None, conv.stride, conv.before, conv.dilation, False, [0, 0], conv.groups)
        result, _, _ = torch.ops.aten.convolution_backward(
            gradient, like, self.weight, *sizes, [True, False, False]
        )
        return torch.as_tensor(result)


def turned(conv: Convolution) -> Tensor:
    """The kernel of the way back: taps in reverse, in and out channels of each group exchanged."""
    weight = conv.weight.flip(2, 3)
    out, inner, *kernel = weight.shape
    grouped = weight.view(conv.groups, out // conv.groups, inner, *kernel).transpose(1, 2)
    return grouped.reshape(-1, out // conv.groups, *kernel).contiguous(
        memory_format=torch.channels_last
    )


def _pads(conv: Convolution) -> Sequence[Pair]:
    """Zeros before and after the outputs along each axis, so that all inputs come out."""
    reach = [d * (k - 1) for d, k in zip(conv.dilation, conv.weight.shape[2:], strict=True)]
    return tuple(
        (r - p, n + p - o)
        for r, p, n, o in zip(reach, conv.before, conv.size, conv.out, strict=True)
    )


def convolve(
    gradient: Tensor, weight: Tensor, pads: Sequence[Pair], dilation: Pair, groups: int
) -> Tensor:
    """A convolution with these zeros before and after along each axis; negative ones crop."""
    (top, bottom), (left, right) = pads
    down, across = max(top, bottom), max(left, right)
    if min(top, bottom, left, right) < 0:
        padded = F.pad(gradient, (left, right, top, bottom))
        return F.conv2d(padded, weight, None, 1, 0, dilation, groups)
    result = F.conv2d(gradient, weight, None, 1, (down, across), dilation, groups)
    if (top, left) == (bottom, right):
        return result
    # Even padding gives a few rows too many, which cost less than a padded copy.
    height, width = (
        result.shape[2] - 2 * down + top + bottom,
        result.shape[3] - 2 * across + left + right,
    )
    return result[:, :, down - top : down - top + height, across - left : across - left + width]
