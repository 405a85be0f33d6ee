"""Gradients of every class, streamed: three images per photo come out, whatever K is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from chiaroscuro.choices import SCORES, RivalRule, Score, check_names, parse_rivals
from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ModelError
from chiaroscuro.gradients.extremes import Extremes
from chiaroscuro.gradients.lowering import Lowering
from chiaroscuro.gradients.plan import Plan, make_plan
from chiaroscuro.gradients.points import Points, resolve_points
from chiaroscuro.gradients.probe import check_repeats, probe
from chiaroscuro.gradients.slots import class_slots, resolve_target
from chiaroscuro.guard import as_found, gradients_on

FOLD_FROM = 16
"""Backward passes per forward pass from which folding, which runs convolutions twice, pays."""

Progress = Callable[[int, int], object]
"""Called with (class gradients done, class gradients in all)."""


@dataclass(frozen=True)
class GradientChoices:
    """How class gradients were made; `method` is "points" for explicit ones."""

    rivals: RivalRule
    method: str
    score: Score


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
    rivals: str | Sequence[int] | RivalRule = "all",
    method: str | Points = "gradient",
    score: Score = "logit",
    memory_budget: int | None = None,
    progress: Progress | None = None,
    *,
    argmax: bool = False,
) -> ClassGradients:
    """Gradients of the target's score and the extremes over its rivals', exact for any K.

    g_k = dS_k/dx at pixels x (B, C, H, W) in [0, 1]. `target`: None for the predicted class, an
    index, or one per image. `rivals`: "all", "top:N" (by logit, per image), or class indices.
    `score`: "logit", or "log-probability" (log softmax; log sigmoid for a multi-label head).
    `method`: a name of `METHODS`, or explicit `Points`. `memory_budget`: bytes that may be used
    above the loaded model. `argmax` asks for the classes at the extremes too.

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
    rule = parse_rivals(rivals)
    check_names("score", [score], SCORES)
    classifier.check_pixels(pixels)
    name = method if isinstance(method, str) else "points"
    with gradients_on(), as_found(classifier.module), Lowering() as lowering:
        stream = _Stream(
            lowering, classifier, pixels.detach().clone(), score, memory_budget, argmax
        )
        return stream.run(target, rule, method, GradientChoices(rule, name, score), progress)


class _Stream:
    """One call's passes over images, classes and points."""

    def __init__(
        self,
        lowering: Lowering,
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
        self.lowering = lowering
        self.probe = probe(classifier, pixels[:1], lowering)

    def run(
        self,
        target: int | Sequence[int] | Tensor | None,
        rule: RivalRule,
        method: str | Points,
        choices: GradientChoices,
        progress: Progress | None,
    ) -> ClassGradients:
        logits = self._clean_logits()
        chosen = resolve_target(target, logits, multi_label=self.classifier.multi_label)
        slots = class_slots(rule, logits, chosen)
        points = resolve_points(method, self.pixels)
        plan = self._plan(slots.shape[1], len(points))
        self.lowering.fold = slots.shape[1] >= FOLD_FROM * plan.slots
        count = _Counter(slots.numel(), progress)
        groups = [
            self._group(points.images(i, i + plan.images), slots[i : i + plan.images], plan, count)
            for i in range(0, len(self.pixels), plan.images)
        ]
        return ClassGradients(
            logits=logits,
            target=chosen,
            rivals=slots[:, 1:],
            own=_join([group.own for group in groups]),
            rival_max=_join([group.high for group in groups]),
            rival_min=_join([group.low for group in groups]),
            rival_argmax=_join([cast(Tensor, g.high_class) for g in groups])
            if self.argmax
            else None,
            rival_argmin=_join([cast(Tensor, g.low_class) for g in groups])
            if self.argmax
            else None,
            choices=choices,
        )

    def _plan(self, slots: int, points: int) -> Plan:
        return make_plan(len(self.pixels), slots, points, self.probe.row_bytes, self.memory_budget)

    def _clean_logits(self) -> Tensor:
        batch = self._plan(1, 1).images
        with torch.no_grad():
            parts = [
                self.classifier.logits(part.contiguous(memory_format=self.probe.memory_format))
                for part in torch.split(self.pixels, batch)
            ]
        check_repeats(parts[0][0], self.probe.logits, self.classifier.name)
        return torch.cat(parts)

    def _group(self, points: Points, slots: Tensor, plan: Plan, count: "_Counter") -> Extremes:
        """The extremes of a few images: every class chunk is averaged over all points first."""
        like = points.pixels[0].contiguous(memory_format=self.probe.memory_format)
        extremes = Extremes(like, argmax=self.argmax)
        parts = [
            Points(points.pixels[i : i + plan.points], points.weights[i : i + plan.points])
            for i in range(0, len(points), plan.points)
        ]
        graph = _Graph(self, parts[0], plan.slots) if len(parts) == 1 else None
        for start in range(0, slots.shape[1], plan.slots):
            classes = slots[:, start : start + plan.slots]
            total = torch.zeros((), dtype=like.dtype, device=like.device)
            for part in parts:
                total = total + (graph or _Graph(self, part, plan.slots)).gradients(classes)
            extremes.add(total, classes, first=start == 0)
            count.add(classes.numel())
        return extremes


class _Graph:
    """One forward pass of P points x G images x V slots, kept for many backward passes."""

    def __init__(self, stream: _Stream, points: Points, slots: int) -> None:
        self.stream = stream
        self.slots = slots
        self.shape = (len(points), points.pixels.shape[1], slots)
        rows = points.pixels[:, :, None].expand(-1, -1, slots, -1, -1, -1).flatten(0, 2)
        self.leaf = rows.contiguous(memory_format=stream.probe.memory_format)
        self.leaf = self.leaf.detach().requires_grad_(True)
        self.logits = stream.classifier.logits(self.leaf)
        stream.lowering.forget()
        self.weights = None if bool((points.weights == 1).all()) else points.weights

    def gradients(self, classes: Tensor) -> Tensor:
        """The weighted sum over points of dS_k/dx: (G, V, C, H, W) for classes (G, V)."""
        wanted = classes.shape[1]
        if wanted < self.slots:
            classes = torch.cat([classes, classes[:, -1:].expand(-1, self.slots - wanted)], dim=1)
        found = self._backward(classes)
        by_point = found.view(*self.shape, *found.shape[1:])[:, :, :wanted]
        if self.weights is not None:
            by_point = by_point * self.weights[:, :, None, None, None, None]
        return by_point[0] if self.shape[0] == 1 else by_point.sum(dim=0)

    def _backward(self, classes: Tensor) -> Tensor:
        name = self.stream.classifier.name
        try:
            (found,) = torch.autograd.grad(
                self.logits, self.leaf, self._cotangent(classes), retain_graph=True
            )
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise ModelError(f"the backward pass of {name} failed: {reason}") from error
        if not bool(found.isfinite().all()):
            raise ModelError(f"{name} has NaN or infinite gradients: check the module")
        return found

    def _cotangent(self, classes: Tensor) -> Tensor:
        """d(score)/d(logits), one row a class: (P*G*V, K)."""
        index = classes.expand(self.shape).reshape(-1, 1)
        one_hot = torch.zeros_like(self.logits).scatter_(1, index, 1)
        if self.stream.score == "logit":
            return one_hot
        chance = self.stream.classifier.probabilities(self.logits.detach())
        return one_hot * (1 - chance) if self.stream.classifier.multi_label else one_hot - chance


class _Counter:
    def __init__(self, total: int, progress: Progress | None) -> None:
        self.done, self.total, self.progress = 0, total, progress

    def add(self, amount: int) -> None:
        self.done += amount
        if self.progress is not None:
            self.progress(self.done, self.total)


def _join(parts: list[Tensor]) -> Tensor:
    return torch.cat(parts).contiguous()
