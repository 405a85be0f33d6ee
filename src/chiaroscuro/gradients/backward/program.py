"""The way back through a network: linear steps, for many classes at once."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from chiaroscuro.device import device_profile
from chiaroscuro.gradients.backward.chunks import Chunk, flattened
from chiaroscuro.gradients.backward.fusion import (
    StridedDepthwise,
    fused,
    hand_offs,
    identity,
    phased,
    pooled,
)
from chiaroscuro.gradients.backward.narrowing import narrow
from chiaroscuro.gradients.backward.rules import step_of
from chiaroscuro.gradients.backward.steps import Add, Cotangent, Cotangents, Linear, Scale, Step
from chiaroscuro.gradients.backward.tape import Shapes, Tape
from chiaroscuro.gradients.backward.views import keeps_rows
from chiaroscuro.matmul import times

_WORTH = 0.9
"""A basis is used where it needs fewer than this share of the backward passes."""
_WEIGHTS_PART = 4
"""The part of a basis's bytes that weights without zero channels may take."""
_FEATURES_AT_ONCE = 16
"""Features written into a basis together: as many numbers as a line of the cache holds."""

MakeCotangents = Callable[[int, int], Tensor]
"""d(score)/d(logits) of classes first..last-1, (V, R, K): made when their turn comes."""


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
    classes are combinations of them. `notes`: operations whose rule could not read their node.
    """

    def __init__(self, tape: Tape, chunk: int, classes: int, basis: int) -> None:
        next_alone = hand_offs(tape)
        shapes = [entry.shapes for entry in tape.entries]
        self.notes: list[str] = []
        own_steps = [step_of(entry, self.notes) for entry in tape.entries[:-1]]
        steps = fused(own_steps, shapes, next_alone)
        if classes >= device_profile().many_classes:
            narrow(steps, shapes, next_alone, basis // _WEIGHTS_PART)
        # Nodes are let go, and with them what only they keep: inputs of convolutions above all. A
        # custom operation's node lives as long as the graph does.
        self._graph = tape.logits if any(entry.is_custom for entry in tape.entries) else None
        self._steps = pooled(phased(steps, next_alone), shapes, next_alone)
        self._edges = [entry.edges for entry in tape.entries]
        self._formats = [entry.dtypes for entry in tape.entries]
        (pixels,) = tape.entries[-1].shapes
        self._pixels = pixels
        self._itemsize = torch.finfo(tape.entries[-1].dtypes[0]).bits // 8
        self._chunk = chunk
        stages = _stages(tape, self._steps, shapes)
        bottleneck = self._bottleneck(stages, classes, basis)
        tail = [] if bottleneck is None else stages[bottleneck:]
        head = stages[: len(stages) - len(tail)]
        self._head, self._tail = self._segments(head), self._segments(tail)
        self._basis: Tensor | None = None

    def run(
        self, count: int, cotangents: MakeCotangents, *, by_class: bool = False
    ) -> Iterator[Chunk]:
        """The pixels' gradients for `count` classes, chunk by chunk.

        A few classes at a time, each whole; from a basis all classes, a few pixels at a time,
        unless `by_class` asks for whole ones.
        """
        if not self._tail:
            for first, gradients in self._from_logits(count, cotangents):
                yield Chunk(first, 0, flattened(gradients))
            return
        weights: Tensor | None = None
        for first, gradients in self._from_logits(count, cotangents):
            part = gradients.reshape(*gradients.shape[:2], -1)
            if weights is None:
                weights = part.new_empty(count, *part.shape[1:])
            weights[first : first + len(part)] = part
        assert weights is not None
        yield from self._combine(weights, by_class=by_class)

    def _from_logits(self, count: int, cotangents: MakeCotangents) -> Iterator[tuple[int, Tensor]]:
        """Through the first segments, with as many cotangents at a time as fit there."""
        at_once = self._fitting(self._head[0]) if self._head else 1
        parts = math.ceil(count / at_once)
        smaller, larger = divmod(count, parts)
        ends = [smaller * i + min(i, larger) for i in range(parts + 1)]
        for first, last in pairwise(ends):
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
                matrices = weights[first : first + at_once].unbind(1)
                yield Chunk(first, 0, _products(basis, matrices))
            return
        matrices = tuple(row.contiguous() for row in weights.unbind(1))
        read_and_written = rows * (classes + features) * self._itemsize
        span = max(1, self._chunk // read_and_written)
        for start in range(0, basis.shape[1], span):
            yield Chunk(0, start, _products(basis[:, start : start + span], matrices))

    def _make_basis(self, like: Tensor) -> Tensor:
        """The pixels' gradients of every feature at the bottleneck: (R, N, n)."""
        stage = self._tail[0]
        rows, features = self._pixels[0], like.shape[2]
        basis = _Basis(like, rows, self._pixels[1:].numel(), features)
        span = self._fitting(stage)
        for start in range(0, features, span):
            stop = min(features, start + span)
            ones = like.new_zeros(stop - start, rows, features)
            ones[torch.arange(stop - start), :, torch.arange(start, stop)] = 1
            cotangent = Cotangent(ones.view(-1, *stage.shape), True)
            for _, gradients in self._descend(self._tail, cotangent, start):
                basis.add(flattened(gradients))
        return basis.whole()

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


class _Basis:
    """A basis (R, N, n) that is computed feature by feature and written a few at a time."""

    def __init__(self, like: Tensor, rows: int, values: int, features: int) -> None:
        self._values = like.new_empty(rows, values, features)
        self._waiting = like.new_empty(min(_FEATURES_AT_ONCE, features), rows, values)
        self._written, self._count = 0, 0

    def add(self, gradients: Tensor) -> None:
        """Those (v, R, N) of the next v features."""
        while len(gradients):
            taken = gradients[: len(self._waiting) - self._count]
            self._waiting[self._count : self._count + len(taken)] = taken
            self._count += len(taken)
            gradients = gradients[len(taken) :]
            if self._count == len(self._waiting):
                self._write()

    def _write(self) -> None:
        stop = self._written + self._count
        self._values[:, :, self._written : stop] = self._waiting[: self._count].permute(1, 2, 0)
        self._written, self._count = stop, 0

    def whole(self) -> Tensor:
        """The basis, after all features were added."""
        self._write()
        return self._values


def _in_format(cotangent: Cotangent, dtype: torch.dtype) -> Cotangent:
    """In the number format of the tensor that the gradient belongs to, as autograd has it."""
    tensor = cotangent.tensor
    if tensor.dtype == dtype:
        return cotangent
    if tensor.is_complex() and not dtype.is_complex:
        tensor = tensor.real
    return Cotangent(tensor.to(dtype), tensor.dtype != dtype)


def _sum(first: Cotangent, second: Cotangent) -> Cotangent:
    if first.owned:
        return Cotangent(first.tensor.add_(second.tensor), True)
    if second.owned:
        return Cotangent(second.tensor.add_(first.tensor), True)
    return Cotangent(first.tensor + second.tensor, True)


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
    if isinstance(step, StridedDepthwise):
        return 2 * read + written
    is_view = isinstance(step, Linear) and step.gives != "new"
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
