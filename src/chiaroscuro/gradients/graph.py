"""A forward pass that is kept, and the way back through it for any classes."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as modules
from torch.overrides import TorchFunctionMode

from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ModelError, first_line
from chiaroscuro.gradients.backward.chunks import Chunk, flattened
from chiaroscuro.gradients.backward.program import AutogradFallback, BackwardPlan, Program
from chiaroscuro.gradients.backward.tape import Tape
from chiaroscuro.gradients.methods import Points
from chiaroscuro.gradients.plan import Plan
from chiaroscuro.stopwatch import timed


class HookWatch(TorchFunctionMode):
    """Notices backward hooks: of modules, and of tensors while a forward pass runs inside.

    Hooks see one class's gradient at a time, so a network that has them is asked that way.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        own = any(part._backward_hooks or part._backward_pre_hooks for part in module.modules())
        of_all = modules._global_backward_hooks or modules._global_backward_pre_hooks
        self.found = bool(own or of_all)

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is Tensor.register_hook or func is torch.Tensor.register_post_accumulate_grad_hook:
            self.found = True
        return func(*args, **(kwargs or {}))


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
        self.factor = None if points.point_factor is None else flattened(points.point_factor)
        rows = points.pixels.flatten(0, 1)
        leaf = rows.contiguous(memory_format=memory_format).detach().requires_grad_(True)
        with HookWatch(classifier.module) as hooks, timed("forward"):
            logits = classifier.logits(leaf)
        self.logits = logits.detach()
        with timed("backward"):
            self.way = self._find_way(logits, leaf, plan, classes, hooked=hooks.found)

    def _find_way(
        self, logits: Tensor, leaf: Tensor, plan: Plan, classes: int, *, hooked: bool
    ) -> BackwardPlan:
        name = self.classifier.name
        tape = None if hooked else Tape.of(logits, leaf)
        if tape is None:
            return AutogradFallback(logits, leaf)
        try:
            return Program(tape, plan.chunk_bytes, classes, plan.basis_bytes)
        except RuntimeError as error:
            raise ModelError(f"the backward pass of {name} failed: {first_line(error)}") from error

    def clean_logits(self) -> Tensor:
        """Logits (G, K) of the first point."""
        return self.logits.view(*self.shape, -1)[0].clone()

    def gradients(self, classes: Tensor) -> Iterator[Chunk]:
        """The weighted sum over points of dS_k/dx, for classes (G, V): in chunks (v, G, n).

        `classes` are indices; in floats (G, V, K) each row is a weighted sum of scores.
        """
        for chunk in self._back(self._cotangents(classes)):
            by_point = torch.unflatten(chunk.gradients, 1, self.shape)
            if self.weights is not None:
                by_point = by_point * self.weights[..., None]
            if self.factor is not None:
                by_point = by_point * self.factor[..., chunk.values]
            summed = by_point[:, 0] if self.shape[0] == 1 else by_point.sum(dim=1)
            yield chunk._replace(gradients=summed)

    def _back(self, cotangents: Tensor) -> Iterator[Chunk]:
        name = self.classifier.name
        try:
            with torch.no_grad():
                yield from self.way.run(cotangents)
        except RuntimeError as error:
            raise ModelError(f"the backward pass of {name} failed: {first_line(error)}") from error

    def _cotangents(self, classes: Tensor) -> Tensor:
        """d(score)/d(logits) of every class: (V, P G, K) for classes (G, V)."""
        if classes.is_floating_point():
            rows = classes.transpose(0, 1)[:, None].expand(-1, *self.shape, -1).flatten(1, 2)
        else:
            index = classes.T[:, None].expand(-1, *self.shape).flatten(1)[..., None]
            rows = self.logits.new_zeros(len(index), *self.logits.shape).scatter_(2, index, 1)
        if self.score == "logit":
            return rows
        chance = self.classifier.probabilities(self.logits)
        if self.classifier.multi_label:
            return rows * (1 - chance)
        return rows - chance * rows.sum(dim=2, keepdim=True)
