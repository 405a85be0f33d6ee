"""Neighboring steps as one, where the first hands its gradient to the second alone."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from chiaroscuro.gradients.backward.convolution import Convolution
from chiaroscuro.gradients.backward.kernels import (
    ZeroStuffed,
    convolve,
    is_flexible,
    kernel_of,
    phase_taps,
    turned,
)
from chiaroscuro.gradients.backward.layers import MaxPool
from chiaroscuro.gradients.backward.steps import (
    Convolve,
    Cotangent,
    Cotangents,
    Crop,
    Scale,
    Step,
    one,
)
from chiaroscuro.gradients.backward.tape import Shapes, Tape
from chiaroscuro.matmul import Pair


class StridedDepthwise:
    """Way back through a strided depthwise convolution, a product with a constant (N, C, H, W) and
    a convolution of single pixels before it: one phase of the stride after the other.

    What lies between the two convolutions is never whole: a phase of it stays in the cache.
    """

    def __init__(self, conv: Convolution, factor: Tensor, before: Convolution) -> None:
        self.conv, self.before = conv.without_values, before.without_values
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
            kernel_of(conv) is ZeroStuffed
            and all(k >= s for k, s in zip(conv.weight.shape[2:], conv.stride, strict=True))
            and all(n >= s for n, s in zip(conv.size, conv.stride, strict=True))
            and before.weight.shape[2:] == (1, 1)
            and before.groups == 1
            and (before.stride, before.before, before.size) == ((1, 1), (0, 0), before.out)
        )

    def __call__(self, cotangents: Cotangents) -> Cotangents:
        """As every `Step`."""
        return [Cotangent(self.back(one(cotangents).tensor), True)]

    def back(self, gradient: Tensor) -> Tensor:
        """Gradients (V, N, Co, Ho, Wo) to those of the first convolution's input."""
        rows = gradient.flatten(0, 1).contiguous(memory_format=torch.channels_last)
        output = rows.new_empty(len(rows), *self.conv.size, self.before.channels).permute(
            0, 3, 1, 2
        )
        for phase in self.phases:
            middle = torch.unflatten(phase(rows), 0, gradient.shape[:2]).mul_(phase.factor)
            down, across = phase.place
            output[:, :, down, across] = F.conv2d(middle.flatten(0, 1), self.weight)
        return torch.unflatten(output, 0, gradient.shape[:2])


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


def fused(
    steps: Sequence[Step], shapes: Sequence[Shapes], next_alone: Mapping[int, int]
) -> list[Step]:
    """The steps with normalizations and paddings moved into convolutions, and products joined.

    A step that was joined into a later one hands on its own gradient.
    """
    fused_steps = list(steps)
    for place in range(len(fused_steps)):
        following = next_alone.get(place)
        if following is None:
            continue
        joined = _joined(fused_steps[place], fused_steps[following], len(shapes[following][0]))
        if joined is not None:
            fused_steps[place], fused_steps[following] = identity, joined
    return fused_steps


def phased(steps: Sequence[Step], next_alone: Mapping[int, int]) -> list[Step]:
    """The steps with strided depthwise convolutions and what goes before them as one."""
    fused_steps = list(steps)
    for place in range(len(fused_steps)):
        chain = _chain(place, fused_steps, next_alone, _PHASED)
        joined = _phased([fused_steps[i] for i in chain]) if len(chain) == _PHASED else None
        if joined is not None:
            for i in chain:
                fused_steps[i] = identity
            fused_steps[chain[-1]] = joined
    return fused_steps


_PHASED = 3


def pooled(
    steps: Sequence[Step], shapes: list[Shapes], next_alone: Mapping[int, int]
) -> list[Step]:
    """The steps with products before instead of behind the way through a maximum's window.

    Gradients reach the maxima alone: where those are fewer, there is less to multiply. `shapes`
    become those of what is under way in between.
    """
    fused_steps = list(steps)
    for place in range(len(fused_steps)):
        first, *others = _chain(place, fused_steps, next_alone, 2) or [place]
        last = others[0] if others else first
        pool, scale = fused_steps[first], fused_steps[last]
        if not (isinstance(pool, MaxPool) and isinstance(scale, Scale) and pool.thins_out):
            continue
        if scale.channels or scale.factor.shape[2:] != pool.size:
            continue
        # Zero times infinity is no number, which a maximum's window would pass over.
        if bool(scale.factor.isfinite().all()):
            fused_steps[first], fused_steps[last] = Scale(pool.chosen(scale.factor)), pool
            here = first
            while here != last:
                here = next_alone[here]
                shapes[here] = shapes[first]
    return fused_steps


def hand_offs(tape: Tape) -> dict[int, int]:
    """The steps that hand their gradient to one other step, which gets it from nobody else."""
    heads = [[edge.place for edge in entry.edges if edge is not None] for entry in tape.entries]
    into = Counter(place for places in heads for place in places)
    last = len(tape.entries) - 1
    return {
        i: places[0]
        for i, places in enumerate(heads)
        if len(places) == 1 and into[places[0]] == 1 and places[0] != last
    }


def _chain(
    place: int, steps: Sequence[Step], next_alone: Mapping[int, int], count: int
) -> list[int]:
    """The next steps that do something, up to `count`, each handing to the following alone."""
    chain: list[int] = []
    here: int | None = place
    while here is not None and len(chain) < count:
        if steps[here] is not identity:
            chain.append(here)
        elif not chain:
            return []
        here = next_alone.get(here)
    return chain


def identity(cotangents: Cotangents) -> Cotangents:
    """The step of an operation whose work a later step does."""
    return cotangents


def _joined(step: Step, following: Step, ndim: int) -> Step | None:
    """Both in one step, or None."""
    if isinstance(step, Scale) and isinstance(following, Convolve) and _takes(following, step):
        return Convolve(following.conv.scaled(step.factor))
    if isinstance(step, Convolve) and isinstance(following, Scale) and _takes(step, following):
        return Convolve(step.conv.shaded(following.factor))
    if isinstance(step, Scale) and isinstance(following, Scale):
        if step.channels and following.channels:
            return Scale(step.factor * following.factor, channels=True)
        return Scale(step.spread(ndim) * following.spread(ndim))
    if isinstance(step, Convolve) and isinstance(following, Crop) and following.is_flat:
        cropped = step.conv.cropped(following.pad)
        return Convolve(cropped) if is_flexible(cropped) else None
    return None


def _takes(step: Convolve, scale: Scale) -> bool:
    """Whether a convolution's weights can hold the product, in their own number format."""
    return scale.channels and scale.factor.dtype == step.conv.weight.dtype


def _phased(steps: Sequence[Step]) -> Step | None:
    """A strided depthwise convolution, a product and a convolution of single pixels as one."""
    first, scale, last = steps
    if not (
        isinstance(first, Convolve) and isinstance(scale, Scale) and isinstance(last, Convolve)
    ):
        return None
    if scale.channels or not StridedDepthwise.serves(first.conv, last.conv):
        return None
    return StridedDepthwise(first.conv, scale.factor, last.conv)
