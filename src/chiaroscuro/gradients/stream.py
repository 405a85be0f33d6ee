"""A call's way through images, points and classes, as far as memory goes at a time."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from chiaroscuro.choices import RivalRule
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ModelError
from chiaroscuro.gradients.backward.chunks import Chunk, flattened
from chiaroscuro.gradients.classes import class_indices, contrast_rows, resolve_target
from chiaroscuro.gradients.extremes import Extremes
from chiaroscuro.gradients.graph import Graph
from chiaroscuro.gradients.methods import Points, PointSource
from chiaroscuro.gradients.plan import Plan, make_plan, ran_out_of_memory
from chiaroscuro.gradients.probe import check_repeats, probe
from chiaroscuro.gradients.result import ClassGradients, GradientChoices, joined
from chiaroscuro.stopwatch import timed

Progress = Callable[[int, int], object]
"""Called with (class gradients done, class gradients in all)."""


class Counter:
    """How many class gradients are done, told to whoever wants to know."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.done, self.total, self.progress = 0, total, progress

    def add(self, amount: int) -> None:
        """So many more are done."""
        self.done += amount
        if self.progress is not None:
            self.progress(self.done, self.total)


class Stream:
    """One call's passes over images, classes and points."""

    def __init__(
        self,
        classifier: Classifier,
        pixels: Tensor,
        score: str,
        memory_budget: int | None,
        argmax: bool,
    ) -> None:
        self.classifier = classifier
        self.pixels = pixels
        self.score = score
        self.memory_budget = memory_budget
        self.argmax = argmax
        with timed("forward"):
            self.probe = probe(classifier, pixels[:1])

    def run(
        self,
        target: int | Sequence[int] | Tensor | None,
        rule: RivalRule,
        points: PointSource,
        choices: GradientChoices,
        progress: Progress | None,
    ) -> ClassGradients:
        """The three images of every photo, for the target and its rivals under a rule."""
        most = rule.most_classes(self.probe.classes)
        plan = make_plan(len(self.pixels), most, len(points), self.probe, self.memory_budget)
        together = choices.method == "gradient"
        plan, graph, logits = self._begin(points, plan, most, together=together)
        check_repeats(logits[0], self.probe.logits, self.classifier.name)
        chosen = resolve_target(target, logits, multi_label=self.classifier.multi_label)
        indices = class_indices(rule, logits, chosen)
        wanted = contrast_rows(rule, logits, chosen) if rule.is_weighted else indices
        held = [graph]
        del graph  # so that it is gone when memory runs out in its way back
        counter = Counter(len(wanted) * wanted.shape[1], progress)
        groups = list(self._groups(points, wanted, plan, counter, held))
        return joined(logits, chosen, indices, groups, self.pixels.shape[1:], choices)

    def _groups(
        self,
        points: PointSource,
        indices: Tensor,
        plan: Plan,
        count: Counter,
        held: list[Graph | None],
    ) -> Iterator[Extremes]:
        """The extremes of a few images at a time, of fewer where memory runs out.

        `held`: the graph of all of them, where there is one already; it is taken out.
        """
        first, graph = 0, held.pop()
        while first < len(indices):
            last = first + plan.images
            done = count.done
            try:
                with timed("backward"):
                    images = points.images(first, last)
                    found = self._group(images, indices[first:last], plan, count, graph)
                yield found
                first = last
            except (ModelError, RuntimeError, MemoryError) as error:
                plan, graph, count.done = _less(plan, error), None, done

    def _begin(
        self, points: PointSource, plan: Plan, classes: int, *, together: bool
    ) -> tuple[Plan, Graph | None, Tensor]:
        """The logits; from the graph of all images where they may go through `together`.

        A smaller plan comes back where memory ran out.
        """
        while True:
            try:
                if together and plan.images == len(self.pixels):
                    graph = self._graph(points.images(0, plan.images), plan, classes)
                    return plan, graph, graph.clean_logits()
                return plan, None, self._clean_logits(plan)
            except (ModelError, RuntimeError, MemoryError) as error:
                plan = _less(plan, error)

    def _clean_logits(self, plan: Plan) -> Tensor:
        layout = self.probe.memory_format
        with torch.no_grad(), timed("forward"):
            parts = [
                self.classifier.logits(part.contiguous(memory_format=layout))
                for part in torch.split(self.pixels, plan.images)
            ]
        return torch.cat(parts)

    def _graph(self, points: Points, plan: Plan, classes: int) -> Graph:
        layout = self.probe.memory_format
        return Graph(self.classifier, points, self.score, layout, plan, classes)

    def _group(
        self,
        points: Points,
        indices: Tensor,
        plan: Plan,
        count: Counter,
        graph: Graph | None,
    ) -> Extremes:
        """The extremes of a few images.

        `indices`: classes (G, M), or for a weighted contrast what is differentiated, (G, M, K).
        """
        extremes = Extremes(flattened(points.pixels[0]), argmax=self.argmax)
        factor = None if points.sum_factor is None else flattened(points.sum_factor)
        parts = [points.part(i, i + plan.points) for i in range(0, len(points), plan.points)]
        if graph is None and len(parts) == 1:
            graph = self._graph(parts[0], plan, indices.shape[1])
        for start in range(0, indices.shape[1], plan.classes):
            classes = indices[:, start : start + plan.classes]
            streamed = (
                self._summed(parts, classes, plan) if graph is None else graph.gradients(classes)
            )
            for chunk in streamed:
                found = chunk.gradients
                given = found if factor is None else found * factor[:, chunk.values]
                held = classes[:, chunk.first : chunk.first + len(found)]
                target_in = start + chunk.first == 0
                extremes.add(given, held, first=target_in, values=chunk.values)
                if chunk.values.stop == extremes.target.shape[1]:
                    count.add(held.shape[:2].numel())
        if not extremes.are_finite:
            raise ModelError(
                f"{self.classifier.name} has NaN or infinite gradients: check the module"
            )
        return extremes

    def _summed(self, parts: Sequence[Points], classes: Tensor, plan: Plan) -> Iterator[Chunk]:
        """Gradients of classes (G, V) summed over points whose graphs do not fit side by side."""
        images = parts[0].pixels[0]
        total = images.new_zeros(classes.shape[1], len(images), images[0].numel())
        for part in parts:
            graph = self._graph(part, plan, classes.shape[1])
            for first, start, found in graph.gradients(classes):
                total[first : first + len(found), :, start : start + found.shape[2]] += found
        yield Chunk(0, 0, total)


def _less(plan: Plan, error: BaseException) -> Plan:
    """Half of the plan after an error for want of memory; any other error is raised again."""
    smaller = plan.halved()
    if smaller is None or not ran_out_of_memory(error):
        raise error
    return smaller
