"""A call's way through images, points and classes, as far as memory goes at a time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import first_line
from chiaroscuro.gradients.backward.program import Chunk, flattened
from chiaroscuro.gradients.graph import BackwardError, Graph
from chiaroscuro.gradients.methods import Method, Points, points_of
from chiaroscuro.gradients.probe import (
    check_repeats,
    make_plan,
    probe,
    ran_out_of_memory,
    values_alone,
)
from chiaroscuro.gradients.reducers import Extremes, WholeImages
from chiaroscuro.stopwatch import timed

_ROOM = 1.5
"""What reading the backward pass of one row takes, over the bytes that autograd keeps for it."""

Progress = Callable[[int, int], object]
"""Called with (class gradients done, class gradients in all)."""
Accumulators = Sequence[Extremes | WholeImages]


@dataclass
class Counter:
    """Counts the class gradients that are done, for `progress`."""

    total: int
    progress: Progress | None
    done: int = 0

    def add(self, amount: int) -> None:
        """So many more are done."""
        self.done += amount
        if self.progress is not None:
            self.progress(self.done, self.total)


@dataclass(eq=False)
class Stream:
    """One call's passes over images, classes and points.

    `by_class`: accumulators get whole images. `notes` say what the result should know.
    """

    classifier: Classifier
    pixels: Tensor
    method: Method | Points
    score: str
    memory_budget: int | None
    notes: list[str]
    by_class: bool = False

    def __post_init__(self) -> None:
        points = self.method.points if isinstance(self.method, Method) else len(self.method)
        self.points = points or 1
        with timed("forward"):
            self.probe = probe(self.classifier, self.pixels[:1], self.memory_budget)
        self.compiled = self.memory_budget is None or self.memory_budget >= self._least_room()
        if not self.compiled:
            self._note("memory_budget has room for PyTorch's engine alone, class by class")

    def begin(self, most: int, *, together: bool) -> Tensor:
        """The logits (B, K), before `most` classes an image; `together`: of all images' graph."""
        images, classes = len(self.pixels), min(most, self.probe.classes)
        self.plan = make_plan(images, classes, self.points, self.probe, self.memory_budget)
        self._graph: Graph | None = None
        logits = None
        while logits is None:
            try:
                if together and self.plan.images == images:
                    points = points_of(self.method, self.pixels, 0, images)
                    self._graph = self._pass(points, classes)
                    logits = self._graph.clean_logits()
                else:
                    logits = self._clean_logits()
            except Exception as error:
                self._retry(error)
        check_repeats(logits[0], self.probe.logits, self.classifier)
        return logits

    def groups(
        self, rows: Tensor, make: Callable[[slice], Accumulators], progress: Progress | None
    ) -> Iterator[Accumulators]:
        """Accumulators of a few images at a time, filled; of fewer where memory runs out.

        `rows`: classes (B, M), or what is differentiated, (B, M, K).
        """
        counter = Counter(len(rows) * rows.shape[1], progress)
        first = 0
        while first < len(rows):
            images = slice(first, first + self.plan.images)
            done = counter.done
            try:
                with timed("backward"):
                    points = points_of(self.method, self.pixels, images.start, images.stop)
                    filled = make(images)
                    self._fill(filled, points, rows[images], counter)
                yield filled
                first = images.stop
            except Exception as error:
                self._retry(error)
                counter.done = done

    def _retry(self, error: Exception) -> None:
        """Prepare another try: with less memory, or without rules where they failed.

        Raises the error again where neither helps.
        """
        self._graph = None  # so that its memory is free
        smaller, no_room = self.plan.halved(), ran_out_of_memory(error)
        if no_room and smaller is not None:
            self.plan = smaller
        elif isinstance(error, BackwardError) and self.compiled and not no_room:
            self.compiled = False
            self._note(f"PyTorch's engine runs class by class: {first_line(error)}")
        else:
            raise error

    def _least_room(self) -> float:
        """Bytes for reading one row's backward pass, and for kernels in two layouts."""
        weights = self.classifier.module.parameters()
        kernels = sum(weight.nbytes for weight in weights if weight.ndim == 4)
        return _ROOM * self.probe.row_bytes + 2 * kernels

    def _note(self, note: str) -> None:
        if note not in self.notes:
            self.notes.append(note)

    def _clean_logits(self) -> Tensor:
        layout = self.probe.memory_format
        with timed("forward"):
            parts = [
                values_alone(self.classifier, part.contiguous(memory_format=layout))
                for part in torch.split(self.pixels, self.plan.images)
            ]
        return torch.cat(parts)

    def _pass(self, points: Points, classes: int) -> Graph:
        room = (self.probe.memory_format, self.plan, classes)
        graph = Graph(self.classifier, points, self.score, *room, compiled=self.compiled)
        for note in graph.notes:
            self._note(note)
        return graph

    def _fill(self, filled: Accumulators, points: Points, rows: Tensor, counter: Counter) -> None:
        """Stream the gradients of a few images into accumulators."""
        plan, graph, self._graph = self.plan, self._graph, None
        factor = None if points.sum_factor is None else flattened(points.sum_factor)
        parts = [points.part(i, i + plan.points) for i in range(0, len(points), plan.points)]
        if graph is None and len(parts) == 1:
            graph = self._pass(parts[0], rows.shape[1])
        for start in range(0, rows.shape[1], plan.classes):
            classes = rows[:, start : start + plan.classes]
            if graph is None:
                streamed = self._summed(parts, classes)
            else:
                streamed = graph.gradients(classes, by_class=self.by_class)
            for chunk in streamed:
                gradients = chunk.gradients
                if factor is not None:
                    gradients = gradients * factor[:, chunk.values]
                for accumulator in filled:
                    accumulator.add(gradients, start + chunk.first, chunk.values)
                if chunk.values.stop == self.pixels[0].numel():
                    counter.add(len(rows) * len(gradients))
        for accumulator in filled:
            accumulator.check_finite(self.classifier.name)

    def _summed(self, parts: Sequence[Points], classes: Tensor) -> Iterator[Chunk]:
        """Gradients of classes (G, V) summed over points whose graphs do not fit together."""
        images = parts[0].pixels[0]
        total = images.new_zeros(classes.shape[1], len(images), images[0].numel())
        for part in parts:
            graph = self._pass(part, classes.shape[1])
            for first, start, gradients in graph.gradients(classes):
                values = slice(start, start + gradients.shape[2])
                total[first : first + len(gradients), :, values] += gradients
        yield Chunk(0, 0, total)
