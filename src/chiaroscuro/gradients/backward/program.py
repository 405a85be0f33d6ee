"""The way back through a network: linear steps, for many classes at once."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

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
from chiaroscuro.gradients.plan import BUSY_BYTES, BUSY_ROWS, MANY_CLASSES
from chiaroscuro.matmul import times

_WORTH = 0.9
"""A basis is used where it needs fewer than this share of the backward passes."""
_WEIGHTS_PART = 4
"""The part of a basis's bytes that weights without channels that carry nothing may take."""
_FEATURES_AT_ONCE = 16
"""Features written into a basis together: as many numbers as a line of the cache holds."""


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

    `chunk`: bytes that a step may read and write at a time. `classes`: how many will be asked for
    in all; where some layer has fewer features than that, the gradients of its features (a basis,
    of at most `basis` bytes) are computed once, and those of classes are combinations of them.
    """

    def __init__(self, tape: Tape, chunk: int, classes: int, basis: int) -> None:
        next_alone = hand_offs(tape)
        shapes = [entry.shapes for entry in tape.entries]
        steps = fused([step_of(entry) for entry in tape.entries[:-1]], shapes, next_alone)
        if classes >= MANY_CLASSES:
            narrow(steps, shapes, next_alone, basis // _WEIGHTS_PART)
        # Nodes are let go, and with them what only they keep: inputs of convolutions above all.
        self._steps = pooled(phased(steps, next_alone), shapes, next_alone)
        self._edges = [entry.edges for entry in tape.entries]
        self._formats = [entry.dtypes for entry in tape.entries]
        (pixels,) = tape.entries[-1].shapes
        self._pixels = pixels
        self._itemsize = torch.finfo(tape.entries[-1].dtypes[0]).bits // 8
        self._chunk = chunk
        stages = _stages(tape, self._steps, shapes)
        bottleneck = self._bottleneck(stages, classes, basis)
        head, tail = (
            (stages, []) if bottleneck is None else (stages[:bottleneck], stages[bottleneck:])
        )
        self._head, self._tail = self._segments(head), self._segments(tail)
        self._basis: Tensor | None = None

    def run(self, cotangents: Tensor) -> Iterator[Chunk]:
        """The pixels' gradients for cotangents (V, R, K), chunk by chunk.

        A few classes at a time, each whole; from a basis all classes, a few pixels at a time.
        """
        start = Cotangent(cotangents, False)
        if not self._tail:
            for first, found in self._descend(self._head, start, 0):
                yield Chunk(first, 0, flattened(found))
            return
        weights = torch.cat([part for _, part in self._descend(self._head, start, 0)])
        yield from self._combine(weights.reshape(*weights.shape[:2], -1))

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
        fits = sizes[best] * self._pixels.numel() * self._itemsize <= basis
        return best if fits else None

    def _fitting(self, stage: _Stage) -> int:
        """Classes that fit the chunk in a stage, and no more than keep cores busy."""
        size = stage.size * self._itemsize
        busy = max(math.ceil(BUSY_ROWS / self._pixels[0]), BUSY_BYTES // size)
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

    def _combine(self, weights: Tensor) -> Iterator[Chunk]:
        """Gradients of classes from their weights (V, R, n) on a basis (R, N, n).

        All classes of a few values at a time: the basis is read once, and their extremes are
        taken while they are in the cache.
        """
        if self._basis is None:
            self._basis = self._make_basis(weights)
        matrices = [row.contiguous() for row in weights.unbind(1)]
        classes, rows, features = weights.shape
        read_and_written = rows * (classes + features) * self._itemsize
        span = max(1, self._chunk // read_and_written)
        for start in range(0, self._basis.shape[1], span):
            parts = self._basis[:, start : start + span]
            found = [times(part, matrix) for part, matrix in zip(parts, matrices, strict=True)]
            joined = found[0][None] if len(found) == 1 else torch.stack(found)
            yield Chunk(0, start, joined.permute(2, 0, 1))

    def _make_basis(self, like: Tensor) -> Tensor:
        """The pixels' gradients of every feature at the bottleneck: (R, N, n)."""
        stage = self._tail[0]
        rows, features = self._pixels[0], like.shape[2]
        made = _Basis(like, rows, self._pixels[1:].numel(), features)
        span = self._fitting(stage)
        for start in range(0, features, span):
            stop = min(features, start + span)
            ones = like.new_zeros(stop - start, rows, features)
            ones[torch.arange(stop - start), :, torch.arange(start, stop)] = 1
            cotangent = Cotangent(ones.view(-1, *stage.shape), True)
            for _, found in self._descend(self._tail, cotangent, start):
                made.add(flattened(found))
        return made.whole()

    def _descend(
        self, segments: Sequence[_Stage], cotangent: Cotangent, start: int
    ) -> Iterator[tuple[int, Tensor]]:
        """Through all segments, in parts whose gradients fit the chunk."""
        if not segments:
            yield start, cotangent.tensor
            return
        parts = math.ceil(len(cotangent.tensor) / self._fitting(segments[0]))
        for part in cotangent.tensor.tensor_split(parts):
            yield from self._descend(
                segments[1:], self._pass(segments[0], Cotangent(part, cotangent.owned)), start
            )
            start += len(part)

    def _pass(self, stage: _Stage, cotangent: Cotangent) -> Cotangent:
        """The gradient at the end of one stage."""
        pending = {stage.first: {stage.number: cotangent}}
        for place in range(stage.first, stage.last):
            arrived = pending.pop(place, None)
            if arrived is None:
                continue  # whoever might have handed something to it had nothing to give
            cotangents: Cotangents = [arrived.get(i) for i in range(len(self._formats[place]))]
            for edge, found in zip(
                self._edges[place], self._steps[place](cotangents), strict=False
            ):
                if edge is None or found is None:
                    continue
                waiting = pending.setdefault(edge.place, {})
                given = _in_format(found, self._formats[edge.place][edge.number])
                there = waiting.get(edge.number)
                waiting[edge.number] = given if there is None else _sum(there, given)
        ((_, (last,)),) = ((place, waiting.values()) for place, waiting in pending.items())
        return last


class _Basis:
    """A basis (R, N, n) that is made feature by feature and written some features at a time."""

    def __init__(self, like: Tensor, rows: int, values: int, features: int) -> None:
        self._made = like.new_empty(rows, values, features)
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
        self._made[:, :, self._written : stop] = self._waiting[: self._count].permute(1, 2, 0)
        self._written, self._count = stop, 0

    def whole(self) -> Tensor:
        """The basis, after all features were added."""
        self._write()
        return self._made


def _in_format(cotangent: Cotangent, dtype: torch.dtype) -> Cotangent:
    """In the number format of the tensor that the gradient belongs to, as autograd has it."""
    if cotangent.tensor.dtype == dtype:
        return cotangent
    tensor = (
        cotangent.tensor.real
        if cotangent.tensor.is_complex() and not dtype.is_complex
        else cotangent.tensor
    )
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
        given = sum(map(under_way.pop, arriving))
        if place == len(steps):
            break
        edges = {edge for edge in operation.edges if edge is not None}
        handed = {edge: shapes[edge.place][edge.number].numel() for edge in edges}
        if steps[place] is identity:
            handed = dict.fromkeys(edges, given)
        under_way |= handed
        size = max(size, _in_hand(steps[place], given, sum(handed.values())))
    return stages


def _in_hand(step: Step, given: int, handed: int) -> int:
    """Elements that a step reads and writes, where it may work in place."""
    if isinstance(step, StridedDepthwise):
        return 2 * given + handed
    is_view = isinstance(step, Linear) and step.gives != "new"
    in_place = step is identity or isinstance(step, Add | Scale) or is_view
    return given if in_place else given + handed


class AutogradFallback:
    """The way back by PyTorch's engine, class by class: for networks with backward hooks."""

    def __init__(self, logits: Tensor, leaf: Tensor) -> None:
        self.logits, self.leaf = logits, leaf

    def run(self, cotangents: Tensor) -> Iterator[Chunk]:
        """As `Program.run`."""
        for number, cotangent in enumerate(cotangents):
            with torch.enable_grad():
                (found,) = torch.autograd.grad(self.logits, self.leaf, cotangent, retain_graph=True)
            yield Chunk(number, 0, flattened(found[None]))


BackwardPlan = Program | AutogradFallback
