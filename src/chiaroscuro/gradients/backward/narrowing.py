"""Channels that carry nothing, left out between two products.

An activation that is off at every pixel of every row stops its channel, whatever the class. Where
gradients go from one product (a convolution, a matrix) to the next, and in between each channel
goes to itself alone, such a channel is zero at the end: the first product need not give it, and
the next need not read it.
"""

import math
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import TypeGuard

import torch
from torch import Tensor

from chiaroscuro.device import device_profile
from chiaroscuro.gradients.backward.fusion import identity
from chiaroscuro.gradients.backward.layers import MaxPool
from chiaroscuro.gradients.backward.steps import Convolve, Linear, Matrix, Scale, Step
from chiaroscuro.gradients.backward.tape import Shapes


def narrow(
    steps: list[Step], shapes: list[Shapes], next_alone: Mapping[int, int], room: int
) -> None:
    """Leave such channels out of the steps, and of the shapes of what is under way between them.

    `room`: bytes that the weights of what is left may take next to the network's own.
    """
    for place in range(len(steps)):
        chain = _chain(place, steps, next_alone)
        channels = _worthwhile([steps[i] for i in chain[1:-1]])
        if channels is None:
            continue
        first, last = steps[chain[0]], steps[chain[-1]]
        assert _is_product(first)
        assert _is_product(last)
        first, last = first.handing(channels), last.taking(channels)
        room -= first.nbytes + last.nbytes
        if room < 0:
            return
        steps[chain[0]], steps[chain[-1]] = first, last
        for i in chain[1:-1]:
            step = steps[i]
            steps[i] = step.within(channels) if _is_by_channel(step) else step
        for i in chain[1:]:
            (rows, _, *rest), *others = shapes[i]
            shapes[i] = (torch.Size((rows, len(channels), *rest)), *others)


def _chain(place: int, steps: Sequence[Step], next_alone: Mapping[int, int]) -> list[int]:
    """From one product to the next, each step handing to the following alone; or nothing."""
    chain = [place] if _is_product(steps[place]) else []
    while chain and (following := next_alone.get(chain[-1])) is not None:
        chain.append(following)
        step = steps[following]
        if _is_product(step):
            return chain
        if step is not identity and not _is_by_channel(step):
            return []
    return []


def _worthwhile(between: Sequence[Step]) -> Tensor | None:
    """The channels that carry something, where arithmetic has less to do with them alone."""
    scales = [step for step in between if isinstance(step, Scale)]
    if not scales:
        return None
    live = reduce(torch.logical_and, [scale.live for scale in scales])
    count = int(live.sum())
    lanes = device_profile().lanes
    fewer = math.ceil(count / lanes) < math.ceil(len(live) / lanes)
    # Nothing stops an infinite gradient: zero times infinity is no number.
    if not fewer or not all(bool(scale.factor.isfinite().all()) for scale in scales):
        return None
    # One that carries nothing stays where all do: no kernel takes tensors without channels.
    return live.nonzero().flatten() if count else live.new_zeros(1, dtype=torch.long)


def _is_product(step: Step) -> TypeGuard[Convolve | Matrix]:
    """Whether it takes and gives all channels together."""
    return isinstance(step, Matrix) or (isinstance(step, Convolve) and step.conv.groups == 1)


def _is_by_channel(step: Step) -> TypeGuard[Convolve | Linear | MaxPool | Scale]:
    """Whether each channel's gradient goes to that channel alone."""
    if isinstance(step, Convolve):
        return step.conv.is_depthwise
    return isinstance(step, MaxPool | Scale) or (isinstance(step, Linear) and step.by_channel)
