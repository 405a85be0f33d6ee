"""A forward pass that is kept, and the way back through it for any classes."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import module as modules
from torch.overrides import TorchFunctionMode

from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ModelError, first_line
from chiaroscuro.gradients.backward.program import (
    AutogradFallback,
    BackwardPlan,
    Chunk,
    Program,
    flattened,
)
from chiaroscuro.gradients.backward.tape import Tape, UnknownNodeError
from chiaroscuro.gradients.methods import Points
from chiaroscuro.gradients.probe import Plan, steady_logits
from chiaroscuro.stopwatch import timed

_HOOKING = (
    Tensor.register_hook,
    Tensor.register_post_accumulate_grad_hook,
    Tensor.grad_fn.__get__,  # type: ignore[union-attr]
)
"""Functions through which a forward pass may hang hooks on tensors and on nodes of its graph."""


class BackwardError(ModelError):
    """A backward pass failed."""


class ForwardWatch(TorchFunctionMode):
    """Watches a forward pass for what would make its backward pass wrong.

    `hooked`: somebody may change gradients on their way back: by hooks of modules, of tensors, or
    of nodes (a pass that reads `grad_fn` may hang some there). Hooks see one class's gradient at a
    time, so such a network is differentiated that way.

    Batch normalization in eval mode has a wrong backward pass in PyTorch (2.14) where an axis of
    size 1 has an unusual stride; inside, it only meets gradients and values with usual strides.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        own = any(part._backward_hooks or part._backward_pre_hooks for part in module.modules())
        of_all = modules._global_backward_hooks or modules._global_backward_pre_hooks
        self.hooked = bool(own or of_all)

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.hooked = self.hooked or func in _HOOKING
        if func in (F.batch_norm, torch.batch_norm) and args and 1 in args[0].shape:
            output = func(_usual(args[0]), *args[1:], **(kwargs or {}))
            if output.requires_grad:
                output.register_hook(_usual)
            return output
        return func(*args, **(kwargs or {}))


def _usual(values: Tensor) -> Tensor:
    """The same values with the strides that a new tensor of one of the two layouts has."""
    layouts = (torch.contiguous_format, torch.channels_last)[: 1 + (values.ndim == 4)]
    like = [torch.empty(values.shape, device="meta", memory_format=each) for each in layouts]
    if values.stride() in [each.stride() for each in like]:
        return values
    return values.clone(memory_format=torch.contiguous_format)


class Graph:
    """One forward pass of P points x G images, kept for the gradients of any classes.

    `plan` says how much memory its gradients may take, `classes` how many will be requested.
    `compiled` False leaves the backward pass to PyTorch's engine. `notes` say where that is done.
    """

    def __init__(
        self,
        classifier: Classifier,
        points: Points,
        score: str,
        layout: torch.memory_format,
        plan: Plan,
        classes: int,
        *,
        compiled: bool,
    ) -> None:
        self.classifier, self.score = classifier, score
        self.notes: list[str] = []
        self.shape = (len(points), points.pixels.shape[1])
        self.weights = None if bool((points.weights == 1).all()) else points.weights
        self.factor = None if points.point_factor is None else flattened(points.point_factor)
        rows = points.pixels.flatten(0, 1)
        leaf = rows.contiguous(memory_format=layout).detach().requires_grad_(True)
        with ForwardWatch(classifier.module) as watch, timed("forward"):
            logits = steady_logits(classifier, leaf)
        self.logits = logits.detach()
        with timed("backward"):
            self.way: BackwardPlan = AutogradFallback(logits, leaf)
            try:
                if compiled and watch.hooked:
                    raise UnknownNodeError("the network has backward hooks")
                tape = Tape.of(logits, leaf) if compiled else None
                if tape is not None:
                    self.way = Program(tape, plan.chunk_bytes, classes, plan.basis_bytes)
            except UnknownNodeError as error:
                self.notes.append(f"PyTorch's engine runs class by class: {error}")
            except Exception as error:
                raise self._failed(error) from error
        self.notes += self.way.notes

    def _failed(self, error: Exception) -> BackwardError:
        name = self.classifier.name
        return BackwardError(f"the backward pass of {name} failed: {first_line(error)}")

    def clean_logits(self) -> Tensor:
        """Logits (G, K) of the first point."""
        return self.logits.view(*self.shape, -1)[0].clone()

    def gradients(self, classes: Tensor, *, by_class: bool = False) -> Iterator[Chunk]:
        """The weighted sum over points of dS_k/dx, for classes (G, V): in chunks (v, G, n).

        `classes` are indices; in floats (G, V, K) each row is a weighted sum of scores. `by_class`:
        every chunk holds whole images.
        """

        def cotangents(first: int, last: int) -> Tensor:
            return self._cotangents(classes[:, first:last])

        try:
            with torch.no_grad():
                for chunk in self.way.run(classes.shape[1], cotangents, by_class=by_class):
                    by_point = torch.unflatten(chunk.gradients, 1, self.shape)
                    if self.weights is not None:
                        by_point = by_point * self.weights[..., None]
                    if self.factor is not None:
                        by_point = by_point * self.factor[..., chunk.values]
                    summed = by_point[:, 0] if self.shape[0] == 1 else by_point.sum(dim=1)
                    yield chunk._replace(gradients=summed)
        except Exception as error:
            raise self._failed(error) from error

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
