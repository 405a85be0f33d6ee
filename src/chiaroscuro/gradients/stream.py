"""A call's way through images, points and classes, as far as memory goes at a time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from chiaroscuro.classifier import Classifier
from chiaroscuro.device import has_bfloat16
from chiaroscuro.errors import ChoiceError, ModelError, first_line, ran_out_of_memory
from chiaroscuro.gradients import probe as probes
from chiaroscuro.gradients.backward import program
from chiaroscuro.gradients.backward.balanced import balanced_step, balanced_tape
from chiaroscuro.gradients.backward.program import Chunk, flattened
from chiaroscuro.gradients.backward.rules import step_of
from chiaroscuro.gradients.backward.tape import Tape, UnknownNodeError
from chiaroscuro.gradients.methods import Method, Points, points_of
from chiaroscuro.gradients.reducers import Extremes, WholeImages
from chiaroscuro.gradients.watch import watched_logits
from chiaroscuro.matmul import products_in
from chiaroscuro.stopwatch import timed

_ROOM = 1.5
"""What reading the backward pass of one row takes, over the bytes that autograd keeps for it."""

Progress = Callable[[int, int], object]
"""Called with (class gradients done, class gradients in all)."""
Accumulators = Sequence[Extremes | WholeImages]


class BackwardError(ModelError):
    """A backward pass failed."""


def _failed(classifier: Classifier, error: Exception) -> BackwardError:
    return BackwardError(f"the backward pass of {classifier.name} failed: {first_line(error)}")


def _product_format(method: Method | Points, classifier: Classifier) -> torch.dtype | None:
    """What products of the backward pass are rounded to, where that is asked for."""
    if isinstance(method, Points) or method.precision is None:
        return None
    name, device = classifier.name, classifier.device
    if classifier.dtype != torch.float32:
        raise ChoiceError(
            f"precision {method.precision!r} rounds float32: {name} is {classifier.dtype}"
        )
    if not has_bfloat16(device):
        raise ChoiceError(
            f"precision {method.precision!r} would be slower here: {device} has no units for it "
            "(AVX512-BF16, AMX, or a GPU since Ampere); leave it out"
        )
    return torch.bfloat16


@dataclass(eq=False)
class Graph:
    """One forward pass of P points x G images, kept for the gradients of any classes."""

    classifier: Classifier
    points: Points
    score: str
    logits: Tensor
    way: program.BackwardPlan

    def gradients(self, classes: Tensor, *, by_class: bool = False) -> Iterator[Chunk]:
        """The weighted sum over points of dS_k/dx, for classes (G, V): in chunks (v, G, n).

        In floats (G, V, K) each row is a weighted sum of scores. `by_class`: of whole images.
        """
        weights, factor = self.points.weights, self.points.factor_of("each")
        weighted, each = not bool((weights == 1).all()), len(self.points) > 1

        def cotangents(first: int, last: int) -> Tensor:
            return self._cotangents(classes[:, first:last])

        try:
            with torch.no_grad():
                for chunk in self.way.run(classes.shape[1], cotangents, by_class=by_class):
                    by_point = torch.unflatten(chunk.gradients, 1, weights.shape)
                    if weighted:
                        by_point = by_point * weights[..., None]
                    if factor is not None:
                        by_point = by_point * flattened(factor)[..., chunk.values]
                    summed = by_point.sum(dim=1) if each else by_point[:, 0]
                    yield chunk._replace(gradients=summed)
        except Exception as error:
            raise _failed(self.classifier, error) from error

    def _cotangents(self, classes: Tensor) -> Tensor:
        """d(score)/d(logits) of every class: (V, P G, K) for classes (G, V)."""
        shape = self.points.weights.shape
        if classes.is_floating_point():
            rows = classes.transpose(0, 1)[:, None].expand(-1, *shape, -1).flatten(1, 2)
        else:
            index = classes.T[:, None].expand(-1, *shape).flatten(1)[..., None]
            rows = self.logits.new_zeros(len(index), *self.logits.shape).scatter_(2, index, 1)
        if self.score == "logit":
            return rows
        chance = self.classifier.probabilities(self.logits)
        if self.classifier.multi_label:
            return rows * (1 - chance)
        return rows - chance * rows.sum(dim=2, keepdim=True)


def _rounding(logits: Tensor, leaf: Tensor, way: program.BackwardPlan) -> float:
    """The root mean square of a plan's errors over that of gradients: of each row's best class."""
    best = torch.zeros_like(logits).scatter_(1, logits.argmax(dim=1, keepdim=True), 1)
    (exact,) = torch.autograd.grad(logits, leaf, best, retain_graph=True)
    wanted, error = flattened(exact, 1), torch.zeros((), device=leaf.device)
    with torch.no_grad():
        for chunk in way.run(1, lambda first, last: best[None]):
            error += (chunk.gradients[0] - wanted[:, chunk.values]).square().sum()
        return float((error / wanted.square().sum().clamp_min(torch.finfo(leaf.dtype).tiny)).sqrt())


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
    """One call's passes over images, classes and points; `by_class` for whole images.

    `rounding`: where a precision was asked for, how far the first images' gradients are off.
    """

    classifier: Classifier
    pixels: Tensor
    method: Method | Points
    score: str
    memory_budget: int | None
    notes: list[str]
    by_class: bool = False
    rounding: float | None = None

    def __post_init__(self) -> None:
        self.products = _product_format(self.method, self.classifier)
        points = self.method.points if isinstance(self.method, Method) else len(self.method)
        self.points = points or 1
        with timed("forward"):
            some = self.pixels[: 3 if len(self.pixels) > 2 else 1]
            self.probe = probes.probe(self.classifier, some, self.memory_budget)
        self.compiled = self.memory_budget is None or self.memory_budget >= self._least_room()
        self.balanced = isinstance(self.method, Method) and self.method.is_balanced
        if self.balanced and not self.compiled:
            raise ChoiceError(
                f"memory_budget is {self.memory_budget}: balanced gradients of "
                f"{self.classifier.name} need at least {self._least_room():.0f} bytes"
            )
        if not self.compiled:
            self._note("memory_budget has room for PyTorch's engine alone, class by class")

    def begin(self, most: int, *, together: bool) -> Tensor:
        """The logits (B, K), before `most` classes an image; `together`: of all images' graph."""
        images, classes = len(self.pixels), min(most, self.probe.classes)
        self.plan = probes.make_plan(images, classes, self.points, self.probe, self.memory_budget)
        self._graph: Graph | None = None
        logits, layout = None, self.probe.memory_format
        while logits is None:
            try:
                if together and self.plan.images == images:
                    points = points_of(self.method, self.pixels, 0, images)
                    self._graph = self._pass(points, classes)
                    logits = self._graph.logits.view(self.points, images, -1)[0].clone()
                    continue
                with timed("forward"):
                    parts = [
                        probes.values_alone(self.classifier, part.contiguous(memory_format=layout))
                        for part in torch.split(self.pixels, self.plan.images)
                    ]
                    logits = torch.cat(parts)
            except Exception as error:
                self._retry(error)
        probes.check_repeats(logits[0], self.probe.logits, self.classifier)
        return logits

    def groups(
        self, rows: Tensor, make: Callable[[slice], Accumulators], progress: Progress | None
    ) -> Iterator[Accumulators]:
        """Accumulators of a few images at a time, filled with the rows of `make_request`."""
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
        """Prepare another try: with less memory, or without rules; else raise the error again."""
        self._graph = None  # so that its memory is free
        smaller, no_room = self.plan.halved(), ran_out_of_memory(error)
        if no_room and smaller is not None:
            self.plan = smaller
        elif isinstance(error, BackwardError) and self.compiled and not (no_room or self.balanced):
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

    def _pass(self, points: Points, classes: int) -> Graph:
        """A graph for so many classes; its way back is PyTorch's engine where rules do not do."""
        classifier, rows = self.classifier, points.pixels.flatten(0, 1).detach()
        leaf = rows.contiguous(memory_format=self.probe.memory_format).requires_grad_(True)
        with timed("forward"):
            logits, hooked = watched_logits(classifier, leaf)
        way: program.BackwardPlan = program.AutogradFallback(logits, leaf)
        with timed("backward"):
            try:
                if self.compiled and hooked:
                    raise UnknownNodeError("the network has backward hooks")
                tape = Tape.of(logits, leaf) if self.compiled else None
                if tape is not None:
                    room, read = self.plan, step_of
                    if self.balanced:
                        tape, read = balanced_tape(tape), balanced_step
                    with products_in(self.products):
                        sizes = room.chunk_bytes, classes, room.basis_bytes
                        way = program.Program(tape, *sizes, read)
            except UnknownNodeError as error:
                if self.balanced:
                    raise ModelError(
                        f"no balanced gradient of {classifier.name}: {error}"
                    ) from error
                self._note(f"PyTorch's engine runs class by class: {error}")
            except Exception as error:
                raise _failed(classifier, error) from error
        for note in way.notes:
            self._note(note)
        if self.products is not None and self.rounding is None:
            self.rounding = _rounding(logits, leaf, way)
        return Graph(classifier, points, self.score, logits.detach(), way)

    def _fill(self, filled: Accumulators, points: Points, rows: Tensor, counter: Counter) -> None:
        """Stream the gradients of a few images into accumulators."""
        plan, graph, self._graph = self.plan, self._graph, None
        factor = points.factor_of("sum")
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
                    gradients = gradients * flattened(factor, 1)[:, chunk.values]
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
