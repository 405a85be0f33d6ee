"""A forward pass that is kept, and the way back through it for any classes."""

from collections.abc import Iterator

import torch
from torch import Tensor

from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ModelError, first_line
from chiaroscuro.gradients.hooks import HookWatch
from chiaroscuro.gradients.plan import Plan
from chiaroscuro.gradients.points import Points
from chiaroscuro.gradients.program import Program, Way, Whole
from chiaroscuro.gradients.tape import Tape
from chiaroscuro.stopwatch import timed


class Graph:
    """One forward pass of P points x G images, kept for the gradients of any classes.

    `plan` says how much memory its gradients may take, `classes` how many will be asked for.
    """

    def __init__(
        self,
        classifier: Classifier,
        points: Points,
        score: str,
        memory_format: torch.memory_format,
        plan: Plan,
        classes: int,
    ) -> None:
        self.classifier = classifier
        self.score = score
        self.shape = (len(points), points.pixels.shape[1])
        self.weights = None if bool((points.weights == 1).all()) else points.weights
        rows = points.pixels.flatten(0, 1)
        leaf = rows.contiguous(memory_format=memory_format).detach().requires_grad_(True)
        with HookWatch(classifier.module) as hooks, timed("forward"):
            logits = classifier.logits(leaf)
        self.logits = logits.detach()
        with timed("backward"):
            self.way = self._find_way(logits, leaf, plan, classes, hooked=hooks.found)

    def _find_way(
        self, logits: Tensor, leaf: Tensor, plan: Plan, classes: int, *, hooked: bool
    ) -> Way:
        name = self.classifier.name
        tape = None if hooked else Tape.of(logits, leaf)
        if tape is None:
            return Whole(logits, leaf)
        try:
            return Program(tape, plan.chunk, classes, plan.basis)
        except RuntimeError as error:
            raise ModelError(f"the backward pass of {name} failed: {first_line(error)}") from error

    def clean_logits(self) -> Tensor:
        """Logits (G, K) of the first point."""
        return self.logits.view(*self.shape, -1)[0].clone()

    def gradients(self, classes: Tensor) -> Iterator[tuple[int, Tensor]]:
        """The weighted sum over points of dS_k/dx, for classes (G, V) and a few at a time.

        Yields the place of the first class with gradients (v, G, C, H, W).
        """
        for first, found in self._back(self._cotangents(classes)):
            by_point = torch.unflatten(found, 1, self.shape)
            if self.weights is not None:
                by_point = by_point * self.weights[None, :, :, None, None, None]
            yield first, by_point[:, 0] if self.shape[0] == 1 else by_point.sum(dim=1)

    def _back(self, cotangents: Tensor) -> Iterator[tuple[int, Tensor]]:
        name = self.classifier.name
        try:
            with torch.no_grad():
                yield from self.way.run(cotangents)
        except RuntimeError as error:
            raise ModelError(f"the backward pass of {name} failed: {first_line(error)}") from error

    def _cotangents(self, classes: Tensor) -> Tensor:
        """d(score)/d(logits) of every class: (V, P G, K) for classes (G, V)."""
        index = classes.T[:, None].expand(-1, *self.shape).flatten(1)[..., None]
        one_hot = self.logits.new_zeros(len(index), *self.logits.shape).scatter_(2, index, 1)
        if self.score == "logit":
            return one_hot
        chance = self.classifier.probabilities(self.logits)
        return one_hot * (1 - chance) if self.classifier.multi_label else one_hot - chance
