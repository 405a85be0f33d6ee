"""A strided depthwise convolution and the convolution of single pixels before it, in one go."""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from chiaroscuro.gradients.convolution import Convolution
from chiaroscuro.gradients.kernels import Spread, convolve, kernel_of, phase_taps, turned
from chiaroscuro.gradients.steps import Flow, Flows, one
from chiaroscuro.products import Pair


class Phased:
    """Way back through a strided depthwise convolution, a product with a constant (N, C, H, W) and
    a convolution of single pixels before it: one phase of the stride after the other.

    What lies between the two convolutions is never whole: a phase of it stays in the cache.
    """

    def __init__(self, conv: Convolution, factor: Tensor, before: Convolution) -> None:
        self.conv, self.before = conv, before
        images = len(factor) if factor.ndim == 4 else 1
        factor = factor.expand(images, conv.channels, *conv.size)
        self.weight = turned(before)
        lines = [
            phase_taps(k, s, p)
            for k, s, p in zip(conv.weight.shape[2:], conv.stride, conv.before, strict=True)
        ]
        self.phases = [
            _Phase(conv, (a, b), lines, factor)
            for a, b in itertools.product(*map(range, conv.stride))
        ]

    @staticmethod
    def serves(conv: Convolution, before: Convolution) -> bool:
        """Whether the two convolutions are of these kinds."""
        return (
            kernel_of(conv) is Spread
            and all(k >= s for k, s in zip(conv.weight.shape[2:], conv.stride, strict=True))
            and all(n >= s for n, s in zip(conv.size, conv.stride, strict=True))
            and before.weight.shape[2:] == (1, 1)
            and before.groups == 1
            and (before.stride, before.before, before.size) == ((1, 1), (0, 0), before.out)
        )

    def __call__(self, flows: Flows) -> Flows:
        """As every `Step`."""
        return [Flow(self.back(one(flows).tensor), True)]

    def back(self, gradient: Tensor) -> Tensor:
        """Gradients (V, N, Co, Ho, Wo) to those of the first convolution's input."""
        rows = gradient.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        made = rows.new_empty(len(rows), *self.conv.size, self.before.channels).permute(0, 3, 1, 2)
        for phase in self.phases:
            middle = torch.unflatten(phase(rows), 0, gradient.shape[:2]).mul_(phase.factor)
            down, across = phase.place
            made[:, :, down, across] = F.conv2d(middle.flatten(0, 1), self.weight)
        return torch.unflatten(made, 0, gradient.shape[:2])


class _Phase:
    """Inputs s t + a, s u + b of a strided depthwise convolution: their own gradient."""

    def __init__(
        self,
        conv: Convolution,
        start: Pair,
        lines: Sequence[tuple[list[list[int]], int]],
        factor: Tensor,
    ) -> None:
        self.groups = conv.groups
        self.place = tuple(slice(a, None, s) for a, s in zip(start, conv.stride, strict=True))
        down, across = self.place
        self.factor = factor[:, :, down, across].contiguous(memory_format=torch.channels_last)
        pads, taps = [], []
        for a, (phases, low), count, n in zip(
            start, lines, self.factor.shape[2:], conv.out, strict=True
        ):
            read = [i for i, tap in enumerate(phases[a]) if tap >= 0]
            pads.append((-low - read[0], count + low + read[-1] - n))
            taps.append([phases[a][i] for i in read])
        self.pads = tuple(pads)
        weight = conv.weight[:, :, taps[0]][..., taps[1]]
        self.weight = weight.contiguous(memory_format=torch.channels_last)

    def __call__(self, rows: Tensor) -> Tensor:
        """Gradients (R, C, Ho, Wo) to those of this phase's inputs."""
        return convolve(rows, self.weight, self.pads, (1, 1), self.groups)
