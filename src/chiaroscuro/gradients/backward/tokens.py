"""Positions of an axis whose gradient is zero, left out: a transformer's head reads one token."""

import math
from collections import defaultdict
from collections.abc import Sequence
from copy import copy
from typing import NamedTuple

import torch
from torch import Tensor

from chiaroscuro.gradients.backward.attention import Attention
from chiaroscuro.gradients.backward.layers import LayerNorm
from chiaroscuro.gradients.backward.steps import (
    Add,
    Cotangent,
    Cotangents,
    Matrix,
    Permute,
    Reshape,
    Scale,
    Scatter,
    Step,
)
from chiaroscuro.gradients.backward.tape import Shapes, Tape

_MOST_KEPT = 0.5
"""Positions are left out where no more than this share of them has a gradient."""


class Kept(NamedTuple):
    """Where gradients are not zero: these positions of an axis."""

    axis: int
    at: tuple[int, ...]

    def of(self, shape: Sequence[int]) -> torch.Size:
        """The shape of those positions alone."""
        return torch.Size((*shape[: self.axis], len(self.at), *shape[self.axis + 1 :]))

    def indices(self, device: torch.device) -> Tensor:
        """The positions as a tensor."""
        return torch.tensor(self.at, device=device)

    def taken(self, constant: Tensor) -> Tensor:
        """Those positions of a constant, unless it is repeated along the axis."""
        if constant.shape[self.axis] == 1:
            return constant
        return constant.index_select(self.axis, self.indices(constant.device))


def thin(steps: list[Step], shapes: list[Shapes], tape: Tape) -> None:
    """Leave out positions whose gradient is zero for every class, until something mixes them.

    Behind a head that reads the class token alone, that is all others, back to the last attention.
    """
    arriving: dict[int, list[tuple[int, int, Kept | None]]] = defaultdict(list)
    begun: dict[int, Step] = {}
    for place, entry in enumerate(tape.entries):
        whole, parts = shapes[place][0], arriving[place]
        common = {kept for *_, kept in parts}
        kept = common.pop() if len(common) == len(shapes[place]) == 1 else None
        is_step, given = place < len(steps), None
        thinned = _thinned(steps[place], kept, whole) if kept and is_step else None
        if kept and thinned:
            (steps[place], given), shapes[place] = thinned, (kept.of(whole),)
        else:
            for source, slot, each in parts:
                if each is not None:
                    filled = _Filled(steps[source], slot, each, whole)
                    steps[source] = begun.get(source, filled)
            if is_step:
                whole_step = steps[place]
                steps[place], given = _begun(whole_step)
                begun |= {} if given is None else {place: whole_step}
        for slot, edge in enumerate(entry.edges):
            if edge is not None:
                arriving[edge.place].append((place, slot, given))


def _begun(step: Step) -> tuple[Step, Kept | None]:
    """A step that scatters a few positions gives these alone."""
    if not isinstance(step, Scatter) or len(step.places) > 1:
        return step, None
    if len(step.positions) > _MOST_KEPT * step.shape[step.along]:
        return step, None
    kept = Kept(step.along, tuple(step.positions))
    shape = kept.of(step.shape)
    is_slice = isinstance(step.places[0], slice)
    out = shape if is_slice else [n for i, n in enumerate(shape) if i != kept.axis]
    return Reshape(shape, out), kept


def _thinned(step: Step, kept: Kept, out: torch.Size) -> tuple[Step, Kept | None] | None:
    """The step for these positions of its output, and the input's; None if it mixes them."""
    match step:
        case Add(shapes=shapes) if all(shape in (None, out) for shape in shapes):
            part = copy(step)
            part.shapes = [shape and kept.of(shape) for shape in shapes]
            return part, kept
        case Scale(channels=False, factor=factor):
            return Scale(kept.taken(factor)), kept
        case Matrix() if kept.axis == 0:
            return step, kept
        case LayerNorm(values=values) if kept.axis < len(out) - len(step.shape):
            return LayerNorm([*map(kept.taken, values)], step.weight, step.shape), kept
        case Permute(order=order):
            return step, Kept(order.index(kept.axis), kept.at)
        case Reshape(shape=shape):
            moved = _reshaped(kept, out, shape)
            return moved and (Reshape(moved.of(shape), kept.of(out)), moved)
        case Attention() if kept.axis == len(out) - 2:
            return step.of_queries(kept.indices(step.share.device)), None
    return None


def _reshaped(kept: Kept, out: Sequence[int], shape: Sequence[int]) -> Kept | None:
    """The same positions in another shape, where one of its axes holds them."""
    inner = math.prod(out[kept.axis + 1 :])
    mask = torch.zeros(out[kept.axis], dtype=torch.bool)
    mask[list(kept.at)] = True
    outer = mask.repeat(math.prod(out[: kept.axis]))
    for axis, count in enumerate(shape):
        if count > 1 and math.prod(shape[axis + 1 :]) == inner:
            rows = outer.view(-1, count)
            same = bool((rows == rows[0]).all())
            return Kept(axis, tuple(rows[0].nonzero().flatten().tolist())) if same else None
    return None


class _Filled:
    """A step one of whose results is needed whole: zeros at all but the positions that it gives."""

    def __init__(self, step: Step, slot: int, kept: Kept, shape: Sequence[int]) -> None:
        self.step, self.slot, self.kept, self.shape = step, slot, kept, shape
        self._indices: Tensor | None = None

    def __call__(self, cotangents: Cotangents) -> Cotangents:
        """As every `Step`."""
        results = list(self.step(cotangents))
        some = results[self.slot]
        assert some is not None
        if self._indices is None:
            self._indices = self.kept.indices(some.tensor.device)
        whole = some.tensor.new_zeros(len(some.tensor), *self.shape)
        whole.index_copy_(self.kept.axis + 1, self._indices, some.tensor)
        results[self.slot] = Cotangent(whole, True)
        return results
