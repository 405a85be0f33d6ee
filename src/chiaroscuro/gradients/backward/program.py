"""The way back through a network: linear steps, for many classes at once."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from chiaroscuro.device import device_profile
from chiaroscuro.gradients.backward import fusion
from chiaroscuro.gradients.backward.fusion import identity
from chiaroscuro.gradients.backward.rules import keeps_rows, step_of
from chiaroscuro.gradients.backward.steps import (
    Add,
    Cotangent,
    Cotangents,
    Linear,
    Opaque,
    Scale,
    Step,
)
from chiaroscuro.gradients.backward.tape import Entry, Shapes, Tape
from chiaroscuro.gradients.backward.tokens import thin
from chiaroscuro.matmul import times

_WORTH = 0.9
"""A basis is used where it needs fewer than this share of the backward passes."""
_WEIGHTS_PART = 4
"""The part of a basis's bytes that weights without zero channels may take."""
_FEATURES_AT_ONCE = 16
"""Features written into a basis together: as many numbers as a line of the cache holds."""

MakeCotangents = Callable[[int, int], Tensor]
"""d(score)/d(logits) of classes first..last-1, (V, R, K): made when their turn comes."""


class Chunk(NamedTuple):
    """Gradients (V, R, n) of classes `first`.. at the values `start`.. of each row.

    A row's N = H W C values lie as networks are fastest: pixel by pixel, channels last.
    """

    first: int
    start: int
    gradients: Tensor

    @property
    def values(self) -> slice:
        """Where its values lie in a row."""
        return slice(self.start, self.start + self.gradients.shape[2])


def flattened(images: Tensor, lead: int = 2) -> Tensor:
    """Values (..., N) of images (..., C, H, W): a view where their channels come last.

    Axes before that of the channels: `lead`. Volumes (..., C, D, H, W) have one more behind.
    """
    return images.movedim(lead, -1).flatten(lead)


def restored(values: Tensor, shape: Sequence[int]) -> Tensor:
    """Images (..., C, H, W) of values (..., N), a view; `shape` is (C, H, W)."""
    channels, *size = shape
    return torch.unflatten(values, -1, (*size, channels)).movedim(-1, values.ndim - 1)


@dataclass(frozen=True, slots=True)
class _Stage:
    """Steps first..last-1, between two bottlenecks: places where a single gradient is under way.

    `number` is the output through which it enters, `shape` its shape for one class, `size` the most
    elements that one of its steps reads and writes. `narrows`: at its start the gradient has
    this shape and its first axis is that of the rows, so that a basis may begin here.
    """

    first: int
    last: int
    number: int
    shape: torch.Size
    size: int
    narrows: bool


class Program:
    """The way back from logits to the pixels of R rows, read off one forward pass.

    `chunk`: bytes that a step may read and write at a time. `classes`: how many will be requested
    in all; where some layer has fewer features than that, the gradients of its features (a basis,
    of at most `basis` bytes with the weights of the classes) are computed once, and those of
    classes are combinations of them. `read` turns operations into steps. `notes`: operations whose
    rule could not read their node.
    """

    def __init__(
        self,
        tape: Tape,
        chunk: int,
        classes: int,
        basis: int,
        read: Callable[[Entry], Step] = step_of,
    ) -> None:
        next_alone = fusion.hand_offs(tape)
        shapes = [entry.shapes for entry in tape.entries]
        steps = [read(entry) for entry in tape.entries[:-1]]
        whys = [step.note for step in steps if isinstance(step, Opaque)]
        self.notes: Sequence[str] = list(dict.fromkeys(filter(None, whys)))
        fusion.fuse(steps, shapes, next_alone)
        thin(steps, shapes, tape)
        if classes >= device_profile().many_classes:
            fusion.narrow(steps, shapes, next_alone, basis // _WEIGHTS_PART)
        fusion.phase(steps, next_alone)
        fusion.pool(steps, shapes, next_alone)
        fusion.round_products(steps)
        # Nodes are let go, and with them what only they keep: inputs of convolutions above all. A
        # custom operation's node lives as long as the graph does.
        self._graph = tape.logits if any(entry.is_custom for entry in tape.entries) else None
        self._steps = steps
        self._edges = [entry.edges for entry in tape.entries]
        self._formats = [[output.dtype for output in entry.outputs] for entry in tape.entries]
        ((self._pixels, dtype, _),) = tape.entries[-1].outputs
        self._itemsize = dtype.itemsize
        self._chunk = chunk
        stages = _stages(tape, steps, shapes)
        bottleneck = self._bottleneck(stages, classes, basis)
        self._head = self._segments(stages[:bottleneck])
        self._tail = [] if bottleneck is None else self._segments(stages[bottleneck:])
        self._basis: Tensor | None = None

    def run(
        self, count: int, cotangents: MakeCotangents, *, by_class: bool = False
    ) -> Iterator[Chunk]:
        """The pixels' gradients for `count` classes, chunk by chunk.

        A few classes at a time, each whole; from a basis all classes, a few pixels at a time,
        unless `by_class` asks for whole ones.
        """
        from_logits = self._from_logits(count, cotangents)
        if not self._tail:
            for first, gradients in from_logits:
                yield Chunk(first, 0, flattened(gradients))
            return
        weights = torch.cat([part.reshape(*part.shape[:2], -1) for _, part in from_logits])
        yield from self._combine(weights, by_class=by_class)

    def _from_logits(self, count: int, cotangents: MakeCotangents) -> Iterator[tuple[int, Tensor]]:
        """Through the first segments, with as many cotangents at a time as fit there."""
        at_once = self._fitting(self._head[0]) if self._head else 1
        parts = math.ceil(count / at_once)
        for first, last in pairwise(count * i // parts for i in range(parts + 1)):
            start = Cotangent(cotangents(first, last), False)
            yield from self._descend(self._head, start, first)

    def _bottleneck(self, stages: Sequence[_Stage], classes: int, basis: int) -> int | None:
        """The stage that starts with the fewest features a row, if they are worth a basis."""
        rows = self._pixels[0]
        sizes = {
            i: stage.shape.numel() // rows
            for i, stage in enumerate(stages)
            if i and stage.narrows and stage.shape[:1] == (rows,)
        }
        best = min(sizes, key=sizes.__getitem__, default=None)
        if best is None or sizes[best] >= _WORTH * classes:
            return None
        values = sizes[best] * (self._pixels.numel() + classes * rows)
        return best if values * self._itemsize <= basis else None

    def _fitting(self, stage: _Stage) -> int:
        """Classes that fit the chunk in a stage, and no more than keep cores busy."""
        profile, size = device_profile(), stage.size * self._itemsize
        busy = max(math.ceil(profile.busy_rows / self._pixels[0]), profile.busy_bytes // size)
        return max(1, min(self._chunk // size, busy))

    def _segments(self, stages: Sequence[_Stage]) -> list[_Stage]:
        """Neighboring stages as one, wherever fewer classes than before need not be taken."""
        segments: list[_Stage] = []
        for stage in stages:
            if segments and self._fitting(stage) >= self._fitting(segments[-1]):
                segments[-1] = replace(segments[-1], last=stage.last)
            else:
                segments.append(stage)
        return segments

    def _combine(self, weights: Tensor, *, by_class: bool) -> Iterator[Chunk]:
        """Gradients of classes from their weights (V, R, n) on a basis (R, N, n).

        All classes of a few values at a time: the basis is read once, and their extremes are
        taken while they are in the cache. `by_class`: a few classes at a time instead.
        """
        if self._basis is None:
            self._basis = self._make_basis(weights)
        basis = self._basis
        classes, rows, features = weights.shape
        if by_class:
            at_once = max(1, self._chunk // (basis[..., 0].numel() * self._itemsize))
            for first in range(0, classes, at_once):
                yield Chunk(first, 0, _products(basis, weights[first : first + at_once].unbind(1)))
            return
        matrices = [row.contiguous() for row in weights.unbind(1)]
        read_and_written = rows * (classes + features) * self._itemsize
        span = max(1, self._chunk // read_and_written)
        for start in range(0, basis.shape[1], span):
            yield Chunk(0, start, _products(basis[:, start : start + span], matrices))

    def _make_basis(self, like: Tensor) -> Tensor:
        """The pixels' gradients of every feature at the bottleneck: (R, N, n)."""
        stage = self._tail[0]
        rows, features = self._pixels[0], like.shape[2]
        basis = like.new_empty(rows, self._pixels[1:].numel(), features)
        waiting: list[Tensor] = []
        written, span = 0, self._fitting(stage)
        for start in range(0, features, span):
            stop = min(features, start + span)
            ones = like.new_zeros(stop - start, rows, features)
            ones.diagonal(offset=start, dim1=0, dim2=2).fill_(1)
            cotangent = Cotangent(ones.view(-1, *stage.shape), True)
            for first, gradients in self._descend(self._tail, cotangent, start):
                waiting.append(flattened(gradients))
                end = first + len(gradients)
                if end - written >= _FEATURES_AT_ONCE or end == features:
                    basis[:, :, written:end] = torch.cat(waiting).permute(1, 2, 0)
                    waiting, written = [], end
        return basis

    def _descend(
        self, segments: Sequence[_Stage], cotangent: Cotangent, start: int
    ) -> Iterator[tuple[int, Tensor]]:
        """Through all segments, in parts whose gradients fit the chunk."""
        if not segments:
            yield start, cotangent.tensor
            return
        parts = math.ceil(len(cotangent.tensor) / self._fitting(segments[0]))
        for part in cotangent.tensor.tensor_split(parts):
            end = self._pass(segments[0], Cotangent(part, cotangent.owned))
            yield from self._descend(segments[1:], end, start)
            start += len(part)

    def _pass(self, stage: _Stage, cotangent: Cotangent) -> Cotangent:
        """The gradient at the end of one stage."""
        pending = {stage.first: {stage.number: cotangent}}
        for place in range(stage.first, stage.last):
            arrived = pending.pop(place, None)
            if arrived is None:
                continue  # no gradient reaches this operation
            cotangents: Cotangents = [arrived.get(i) for i in range(len(self._formats[place]))]
            results = self._steps[place](cotangents)
            for edge, result in zip(self._edges[place], results, strict=False):
                if edge is None or result is None:
                    continue
                waiting = pending.setdefault(edge.place, {})
                added = _in_format(result, self._formats[edge.place][edge.number])
                there = waiting.get(edge.number)
                waiting[edge.number] = added if there is None else _sum(there, added)
        ((_, (last,)),) = ((place, waiting.values()) for place, waiting in pending.items())
        return last


def _products(basis: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Gradients (V, R, n) of values (R, n, features) of a basis, a matrix (V, features) a row."""
    parts = [times(row, matrix) for row, matrix in zip(basis, matrices, strict=True)]
    joined = parts[0][None] if len(parts) == 1 else torch.stack(parts)
    return joined.permute(2, 0, 1)


def _in_format(cotangent: Cotangent, dtype: torch.dtype) -> Cotangent:
    """In the number format of the tensor that the gradient belongs to, as autograd has it."""
    tensor = cotangent.tensor
    if tensor.dtype == dtype:
        return cotangent
    if tensor.is_complex() and not dtype.is_complex:
        tensor = tensor.real
    return Cotangent(tensor.to(dtype), tensor.dtype != dtype)


def _sum(first: Cotangent, second: Cotangent) -> Cotangent:
    if second.owned and not first.owned:
        first, second = second, first
    total = first.tensor.add_(second.tensor) if first.owned else first.tensor + second.tensor
    return Cotangent(total, True)


def _stages(tape: Tape, steps: Sequence[Step], shapes: Sequence[Shapes]) -> list[_Stage]:
    """The steps, cut where nothing but one gradient is under way."""
    fixed = True
    # By edge, the elements that are there: those before a step that a later one does.
    under_way = {tape.start: shapes[0][tape.start.number].numel()}
    entry, size = tape.start, 0
    stages, first, narrows = [], 0, False
    for place, operation in enumerate(tape.entries):
        if place and len(under_way) == 1:
            shape = shapes[entry.place][entry.number]
            stages.append(_Stage(first, place, entry.number, shape, size, narrows))
            (entry,) = under_way
            first, size = place, 0
            # A step that was joined into this one handed on a gradient of another shape.
            narrows = fixed and steps[place - 1] is not identity
        fixed = fixed and keeps_rows(operation)
        arriving = [edge for edge in under_way if edge.place == place]
        read = sum(map(under_way.pop, arriving))
        if place == len(steps):
            break
        edges = {edge for edge in operation.edges if edge is not None}
        written = {edge: shapes[edge.place][edge.number].numel() for edge in edges}
        if steps[place] is identity:
            written = dict.fromkeys(edges, read)
        under_way |= written
        size = max(size, _in_hand(steps[place], read, sum(written.values())))
    return stages


def _in_hand(step: Step, read: int, written: int) -> int:
    """Elements that a step reads and writes, where it may work in place."""
    is_view = isinstance(step, Linear) and step.gives in ("view", "shared")
    in_place = step is identity or isinstance(step, Add | Scale) or is_view
    return read if in_place else read + written


class AutogradFallback:
    """The way back by PyTorch's engine, class by class: where hooks watch, or for lack of rules."""

    notes: Sequence[str] = ()

    def __init__(self, logits: Tensor, leaf: Tensor) -> None:
        self.logits, self.leaf = logits, leaf

    def run(
        self, count: int, cotangents: MakeCotangents, *, by_class: bool = False
    ) -> Iterator[Chunk]:
        """As `Program.run`; classes are whole anyway."""
        del by_class
        for number in range(count):
            (cotangent,) = cotangents(number, number + 1)
            with torch.enable_grad():
                (gradient,) = torch.autograd.grad(
                    self.logits, self.leaf, cotangent, retain_graph=True
                )
            yield Chunk(number, 0, flattened(gradient[None]))


BackwardPlan = Program | AutogradFallback
