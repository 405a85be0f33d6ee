"""Gradients of every class, streamed: three images per photo come out, whatever K is."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from chiaroscuro.choices import SCORES, RivalRule, Rivals, Score, check_names, parse_rivals
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import InputError, ModelError
from chiaroscuro.gradients.backward import (
    PIXELS_AT_ONCE,
    CaptumMethod,
    captum_extremes,
    read_method,
)
from chiaroscuro.gradients.contrasts import contrast_rows, rival_weights
from chiaroscuro.gradients.extremes import Extremes
from chiaroscuro.gradients.graph import Graph
from chiaroscuro.gradients.methods import Method, resolve_points
from chiaroscuro.gradients.pieces import Piece, flattened, restored
from chiaroscuro.gradients.plan import Plan, make_plan, ran_out_of_memory
from chiaroscuro.gradients.points import Points, PointSource
from chiaroscuro.gradients.probe import check_repeats, probe
from chiaroscuro.gradients.slots import class_slots, resolve_target
from chiaroscuro.guard import as_found, gradients_on
from chiaroscuro.stopwatch import timed

Progress = Callable[[int, int], object]
"""Called with (class gradients done, class gradients in all)."""


@dataclass(frozen=True)
class GradientChoices:
    """How class gradients were made.

    `method` is "points" for explicit ones; `settings` are its settings in plain values.
    """

    rivals: RivalRule
    method: str
    score: Score
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ClassGradients:
    """The three images that every map is a function of, for B images.

    `logits` (B, K) and `target` (B,) at the untouched image; `own` (B, C, H, W) the gradient of
    the target's score per unit of pixel value; `rival_max` and `rival_min` (B, C, H, W) the
    element-wise extremes over `rivals` (B, R), the classes that were run. `rival_argmax` and
    `rival_argmin` (B, C, H, W), on request, say which rival holds the extreme: -1 where different
    rivals tie.
    """

    logits: Tensor
    target: Tensor
    rivals: Tensor
    own: Tensor
    rival_max: Tensor
    rival_min: Tensor
    rival_argmax: Tensor | None
    rival_argmin: Tensor | None
    choices: GradientChoices


def class_gradients(
    classifier: Classifier,
    pixels: Tensor,
    target: int | Sequence[int] | Tensor | None = None,
    rivals: Rivals = "all",
    method: str | Method | Points | Any = "gradient",
    score: Score = "logit",
    memory_budget: int | None = None,
    progress: Progress | None = None,
    *,
    argmax: bool = False,
) -> ClassGradients:
    """Gradients of the target's score and the extremes over its rivals', exact for any K.

    g_k = dS_k/dx at pixels x (B, C, H, W) in [0, 1]. `target`: None for the predicted class, an
    index, or one per image. `rivals`: "all", "top:N" (by logit, per image), "runner-up", or class
    indices; "mean", "softmax" or weights by class make them one weighted mean, and `rival_max` and
    `rival_min` the same tensor.
    `score`: "logit", or "log-probability" (log softmax; log sigmoid for a multi-label head).
    `method`: a name of `choices.METHODS`, a `Method` with settings, explicit `Points`, or a Captum
    attribution whose model takes these pixels (those change the backward pass: one class at a time,
    logits only). `memory_budget`: bytes that may be used above the loaded model; Captum is given
    one image at a time then, and keeps no other promise. `argmax` asks for the classes at the
    extremes too; a weighted mean has none.

    The network is asked in eval mode and left as found, also on an error; gradients work inside
    the caller's `no_grad` and `inference_mode`. Results have the pixels' dtype and device and do
    not depend on how classes and images are batched, beyond rounding.

    Raises `ImageError`, `ChoiceError`, `InputError` (no rival left) or `ModelError`.
    Source: arXiv:2309.12913, section 3; streaming extremes are this project's.

    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5))
    >>> found = class_gradients(Classifier(net), torch.rand(2, 3, 2, 2))
    >>> found.own.shape, found.logits.shape
    (torch.Size([2, 3, 2, 2]), torch.Size([2, 5]))
    """
    if not isinstance(classifier, Classifier):
        raise ModelError(
            f"classifier is a {type(classifier).__name__}: expected a Classifier, such as "
            "Classifier(module, mean=..., std=...)"
        )
    rule = parse_rivals(rivals)
    check_names("score", [score], SCORES)
    classifier.check_pixels(pixels)
    if argmax and rule.is_weighted:
        raise InputError(
            f"no single rival holds the extreme of a weighted mean (rivals {rule}): "
            "map 'winner' and argmax need rivals that compete one by one"
        )
    chosen = read_method(method, score)
    name = chosen.name if isinstance(chosen, Method | CaptumMethod) else "points"
    settings = chosen.describe() if isinstance(chosen, Method | CaptumMethod) else {}
    choices = GradientChoices(rule, name, score, settings)
    pixels = pixels.detach().clone()
    with gradients_on(), as_found(classifier.module):
        if isinstance(chosen, CaptumMethod):
            size = 1 if memory_budget else max(1, PIXELS_AT_ONCE // pixels[0, 0].numel())
            parts = torch.split(pixels, size)
            return _by_captum(classifier, parts, target, chosen, choices, progress, argmax=argmax)
        stream = _Stream(classifier, pixels, score, memory_budget, argmax)
        return stream.run(target, rule, resolve_points(chosen, pixels), choices, progress)


class _Stream:
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
        most = rule.most_slots(self.probe.classes)
        plan = make_plan(len(self.pixels), most, len(points), self.probe, self.memory_budget)
        together = choices.method == "gradient"
        plan, graph, logits = self._begin(points, plan, most, together=together)
        check_repeats(logits[0], self.probe.logits, self.classifier.name)
        chosen = resolve_target(target, logits, multi_label=self.classifier.multi_label)
        slots = class_slots(rule, logits, chosen)
        wanted = contrast_rows(rule, logits, chosen) if rule.is_weighted else slots
        held = [graph]
        del graph  # so that it is gone when memory runs out in its way back
        counter = _Counter(len(wanted) * wanted.shape[1], progress)
        groups = list(self._groups(points, wanted, plan, counter, held))
        return _joined(logits, chosen, slots, groups, self.pixels.shape[1:], choices)

    def _groups(
        self,
        points: PointSource,
        slots: Tensor,
        plan: Plan,
        count: "_Counter",
        held: list[Graph | None],
    ) -> Iterator[Extremes]:
        """The extremes of a few images at a time, of fewer where memory runs out.

        `held`: the graph of all of them, where there is one already; it is taken out.
        """
        first, graph = 0, held.pop()
        while first < len(slots):
            last = first + plan.images
            done = count.done
            try:
                with timed("backward"):
                    images = points.images(first, last)
                    found = self._group(images, slots[first:last], plan, count, graph)
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
        slots: Tensor,
        plan: Plan,
        count: "_Counter",
        graph: Graph | None,
    ) -> Extremes:
        """The extremes of a few images.

        `slots`: classes (G, M), or for a weighted contrast what is differentiated, (G, M, K).
        """
        extremes = Extremes(flattened(points.pixels[0]), argmax=self.argmax)
        factor = None if points.sum_factor is None else flattened(points.sum_factor)
        parts = [points.part(i, i + plan.points) for i in range(0, len(points), plan.points)]
        if graph is None and len(parts) == 1:
            graph = self._graph(parts[0], plan, slots.shape[1])
        for start in range(0, slots.shape[1], plan.slots):
            classes = slots[:, start : start + plan.slots]
            streamed = (
                self._summed(parts, classes, plan) if graph is None else graph.gradients(classes)
            )
            for piece in streamed:
                found = piece.gradients
                given = found if factor is None else found * factor[:, piece.values]
                held = classes[:, piece.first : piece.first + len(found)]
                target_in = start + piece.first == 0
                extremes.add(given, held, first=target_in, values=piece.values)
                if piece.values.stop == extremes.own.shape[1]:
                    count.add(held.shape[:2].numel())
        if not extremes.are_finite:
            raise ModelError(
                f"{self.classifier.name} has NaN or infinite gradients: check the module"
            )
        return extremes

    def _summed(self, parts: Sequence[Points], classes: Tensor, plan: Plan) -> Iterator[Piece]:
        """Gradients of classes (G, V) summed over points whose graphs do not fit side by side."""
        images = parts[0].pixels[0]
        total = images.new_zeros(classes.shape[1], len(images), images[0].numel())
        for part in parts:
            graph = self._graph(part, plan, classes.shape[1])
            for first, start, found in graph.gradients(classes):
                total[first : first + len(found), :, start : start + found.shape[2]] += found
        yield Piece(0, 0, total)


def _by_captum(
    classifier: Classifier,
    parts: Sequence[Tensor],
    target: int | Sequence[int] | Tensor | None,
    method: CaptumMethod,
    choices: GradientChoices,
    progress: Progress | None,
    *,
    argmax: bool,
) -> ClassGradients:
    """The same three images from a method that runs one class at a time."""
    rule = choices.rivals
    with torch.no_grad():
        logits = torch.cat([classifier.logits(part) for part in parts])
    chosen = resolve_target(target, logits, multi_label=classifier.multi_label)
    slots = class_slots(rule, logits, chosen)
    size = len(parts[0])
    weights = torch.split(rival_weights(rule, logits, chosen), size) if rule.is_weighted else None
    count = _Counter(slots.numel(), progress)
    groups = [
        captum_extremes(
            classifier, part, method, mine, None if weights is None else weights[i], count.add,
            argmax=argmax,
        )
        for i, (part, mine) in enumerate(zip(parts, torch.split(slots, size), strict=True))
    ]  # fmt: skip
    return _joined(logits, chosen, slots, groups, parts[0].shape[1:], choices)


def _joined(
    logits: Tensor,
    target: Tensor,
    slots: Tensor,
    groups: list[Extremes],
    shape: torch.Size,
    choices: GradientChoices,
) -> ClassGradients:
    """The groups' values as images (B, C, H, W) of one result; `shape` is (C, H, W)."""
    return ClassGradients(
        logits=logits,
        target=target,
        rivals=slots[:, 1:],
        own=_images([group.own for group in groups], shape),
        rival_max=_images([group.high for group in groups], shape),
        rival_min=_images([group.low for group in groups], shape),
        rival_argmax=_images_or_none([group.high_class for group in groups], shape),
        rival_argmin=_images_or_none([group.low_class for group in groups], shape),
        choices=choices,
    )


def _less(plan: Plan, error: BaseException) -> Plan:
    """Half of the plan after an error for want of memory; any other error is raised again."""
    smaller = plan.halved()
    if smaller is None or not ran_out_of_memory(error):
        raise error
    return smaller


class _Counter:
    def __init__(self, total: int, progress: Progress | None) -> None:
        self.done, self.total, self.progress = 0, total, progress

    def add(self, amount: int) -> None:
        self.done += amount
        if self.progress is not None:
            self.progress(self.done, self.total)


def _images(parts: Sequence[Tensor], shape: torch.Size) -> Tensor:
    return restored(torch.cat(list(parts)), shape).contiguous()


def _images_or_none(parts: Sequence[Tensor | None], shape: torch.Size) -> Tensor | None:
    """The groups' images, or None where none was asked for."""
    present = [part for part in parts if part is not None]
    return _images(present, shape) if present else None
