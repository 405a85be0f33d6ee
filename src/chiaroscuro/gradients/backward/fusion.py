"""Neighboring steps as one, and channels that carry nothing left out."""

import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import TypeGuard

import torch
from torch import Tensor

from chiaroscuro.device import device_profile
from chiaroscuro.gradients.backward import kernels
from chiaroscuro.gradients.backward.layers import MaxPool
from chiaroscuro.gradients.backward.steps import (
    Convolve,
    Cotangents,
    Crop,
    Linear,
    Matrix,
    Phased,
    Scale,
    Step,
)
from chiaroscuro.gradients.backward.tape import Shapes, Tape
from chiaroscuro.matmul import rounded


def identity(cotangents: Cotangents) -> Cotangents:
    """The step of an operation whose work a later step does."""
    return cotangents


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


def _onwards(place: int, next_alone: Mapping[int, int]) -> Iterator[int]:
    """The places after this one, each handing to the following alone."""
    while (following := next_alone.get(place)) is not None:
        yield (place := following)


def fuse(steps: list[Step], shapes: Sequence[Shapes], next_alone: Mapping[int, int]) -> None:
    """Move normalizations and paddings into convolutions, and join products.

    A step that was joined into a later one hands on its own gradient.
    """
    for place, following in sorted(next_alone.items()):
        joined = _joined(steps[place], steps[following], len(shapes[following][0]))
        if joined is not None:
            steps[place], steps[following] = identity, joined


def _joined(step: Step, following: Step, ndim: int) -> Step | None:
    """Both in one step, or None."""
    match step, following:
        case Scale(), Convolve() if _takes(following, step):
            return Convolve(following.conv.scaled(step.factor))
        case Convolve(), Scale() if _takes(step, following):
            return Convolve(step.conv.shaded(following.factor))
        case Scale(channels=True), Scale(channels=True):
            return Scale(step.factor * following.factor, channels=True)
        case Scale(), Scale():
            return Scale(step.spread(ndim) * following.spread(ndim))
        case Convolve(), Crop(pad=pad) if len(pad) == 4 and min(pad) >= 0:
            cropped = step.conv.cropped(pad)
            return None if kernels.kernel_of(cropped) is kernels.native else Convolve(cropped)
    return None


def _takes(step: Convolve, scale: Scale) -> bool:
    """Whether a convolution's weights can hold the product, in their own number format."""
    return scale.channels and scale.factor.dtype == step.conv.weight.dtype


def phase(steps: list[Step], next_alone: Mapping[int, int]) -> None:
    """Take a strided depthwise convolution, a product and single pixels before it as one step."""
    for place in range(len(steps)):
        others = (i for i in _onwards(place, next_alone) if steps[i] is not identity)
        chain = [place, *itertools.islice(others, 2)]
        match [steps[i] for i in chain]:
            case Convolve(conv=conv), Scale(channels=False, factor=factor), Convolve(conv=first):
                if kernels.are_phases(conv, first):
                    for i in chain:
                        steps[i] = identity
                    steps[chain[-1]] = Phased(conv, factor, first)


def pool(steps: list[Step], shapes: list[Shapes], next_alone: Mapping[int, int]) -> None:
    """Put products before instead of behind the way through a maximum's window.

    Gradients reach the maxima alone: where those are fewer, there is less to multiply. `shapes`
    become those of what is under way in between.
    """
    for place, first in enumerate(steps):
        if not (isinstance(first, MaxPool) and first.thins_out):
            continue
        between = []
        for i in _onwards(place, next_alone):
            between.append(i)
            if steps[i] is not identity:
                break
        last = steps[between[-1]] if between else None
        # Zero times infinity is no number, which a maximum's window would pass over.
        if (
            isinstance(last, Scale)
            and not last.channels
            and last.factor.shape[2:] == first.size
            and _is_finite(last)
        ):
            steps[place], steps[between[-1]] = Scale(first.chosen(last.factor)), first
            for i in between:
                shapes[i] = shapes[place]


def narrow(
    steps: list[Step], shapes: list[Shapes], next_alone: Mapping[int, int], room: int
) -> None:
    """Leave out channels that carry nothing, of steps and of the shapes of what is under way.

    An activation that is off at every pixel of every row stops its channel, whatever the class.
    Where gradients go from one product (a convolution, a matrix) to the next, and in between each
    channel goes to itself alone, such a channel is zero at the end: the first product need not give
    it, and the next need not read it. `room`: bytes that the weights of what is left may take next
    to the network's own.
    """
    for place in range(len(steps)):
        first, between = steps[place], []
        if not _is_product(first):
            continue
        for i in _onwards(place, next_alone):
            if _is_product(steps[i]) or not _is_by_channel(steps[i]):
                break
            between.append(i)
        end = next_alone.get(between[-1], place) if between else place
        last = steps[end]
        if end == place or not _is_product(last):
            continue
        channels = _worthwhile([steps[i] for i in between])
        if channels is None:
            continue
        first, last = _part(first, channels, gives=True), _part(last, channels, gives=False)
        room -= first.weight.nbytes + last.weight.nbytes
        if room < 0:
            return
        steps[place], steps[end] = first, last
        for i in between:
            steps[i] = _within(steps[i], channels)
        for i in (*between, end):
            (rows, _, *rest), *others = shapes[i]
            shapes[i] = (torch.Size((rows, len(channels), *rest)), *others)


def round_products(steps: list[Step]) -> None:
    """Constants of products in the format that is asked for; the first and the last one's stay.

    The one is small and tells classes apart; what the other gives is compared between classes.
    """
    products = [i for i, step in enumerate(steps) if isinstance(step, Matrix | Convolve)]
    for i in products[1:-1]:
        match steps[i]:
            case Matrix(weight=weight, place=place):
                steps[i] = Matrix(rounded(weight), place)
            case Convolve(conv=conv) if not conv.is_depthwise:
                steps[i] = Convolve(replace(conv, weight=rounded(conv.weight)))


def _worthwhile(between: Sequence[Step]) -> Tensor | None:
    """The channels that carry something, where arithmetic has less to do with them alone."""
    scales = [step for step in between if isinstance(step, Scale)]
    if not scales:
        return None
    live = reduce(torch.logical_and, map(_live, scales))
    count, lanes = int(live.sum()), device_profile().lanes
    fewer = math.ceil(count / lanes) < math.ceil(len(live) / lanes)
    # Nothing stops an infinite gradient: zero times infinity is no number.
    if not fewer or not all(map(_is_finite, scales)):
        return None
    # One that carries nothing stays where all do: no kernel takes tensors without channels.
    return live.nonzero().flatten() if count else live.new_zeros(1, dtype=torch.long)


def _is_finite(scale: Scale) -> bool:
    """Whether every number is; NaN is both the least and the largest."""
    return bool(torch.stack(scale.factor.aminmax()).isfinite().all())


def _live(scale: Scale) -> Tensor:
    """Which channels are not multiplied by zero everywhere: booleans (C,), or one for all."""
    others = [i for i in range(scale.factor.ndim) if i != 1]
    return scale.factor != 0 if scale.channels else scale.factor.any(dim=others)


def _is_product(step: Step) -> TypeGuard[Convolve | Matrix]:
    """Whether it takes and gives all channels together."""
    return isinstance(step, Matrix) or (isinstance(step, Convolve) and step.conv.groups == 1)


def _is_by_channel(step: Step) -> bool:
    """Whether each channel's gradient goes to that channel alone."""
    if isinstance(step, Convolve):
        return step.conv.is_depthwise
    by_channel = isinstance(step, Linear) and step.by_channel
    return by_channel or step is identity or isinstance(step, MaxPool | Scale)


def _part(step: Convolve | Matrix, channels: Tensor, *, gives: bool) -> Convolve | Matrix:
    """A product that gives these channels alone, or that takes them alone."""
    index = channels if gives is isinstance(step, Matrix) else (slice(None), channels)
    if isinstance(step, Matrix):
        return Matrix(step.weight[index], step.place)
    return Convolve(replace(step.conv, weight=step.weight[index]))


def _within(step: Step, channels: Tensor) -> Step:
    """A step by channel, of and to these channels alone."""
    match step:
        case Convolve(conv=conv):
            weight = conv.weight[channels]
            return Convolve(replace(conv, weight=weight, groups=len(channels)))
        case MaxPool(places=places):
            return MaxPool(places[:, channels], step.size, step.options, ceil=step.ceil)
        case Scale(channels=True, factor=factor):
            return Scale(factor[channels], channels=True)
        case Scale(factor=factor) if factor.shape[1] != 1:
            # Taken along the last axis, the others keep the order in which gradients lie.
            return Scale(factor.movedim(1, -1)[..., channels].movedim(-1, 1))
    return step
