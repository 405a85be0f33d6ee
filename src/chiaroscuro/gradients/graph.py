"""A forward pass that is kept, and the backward passes through it."""

import torch
from torch import Tensor

from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ModelError, first_line
from chiaroscuro.gradients.lowering import Lowering
from chiaroscuro.gradients.points import Points


class Graph:
    """One forward pass of P points x G images x V slots, kept for many backward passes."""

    def __init__(
        self,
        classifier: Classifier,
        lowering: Lowering,
        points: Points,
        slots: int,
        score: str,
        memory_format: torch.memory_format,
    ) -> None:
        self.classifier = classifier
        self.score = score
        self.shape = (len(points), points.pixels.shape[1], slots)
        self.weights = None if bool((points.weights == 1).all()) else points.weights
        rows = points.pixels[:, :, None].expand(-1, -1, slots, -1, -1, -1).flatten(0, 2)
        self.leaf = rows.contiguous(memory_format=memory_format).detach().requires_grad_(True)
        self.logits = classifier.logits(self.leaf)
        lowering.forget()

    def clean_logits(self) -> Tensor:
        """Logits (G, K) of the first point, one row an image."""
        return self.logits.detach().view(*self.shape, -1)[0, :, 0].clone()

    def gradients(self, classes: Tensor) -> Tensor:
        """The weighted sum over points of dS_k/dx: (G, V, C, H, W) for classes (G, V)."""
        wanted = classes.shape[1]
        if wanted < self.shape[2]:
            classes = torch.cat(
                [classes, classes[:, -1:].expand(-1, self.shape[2] - wanted)], dim=1
            )
        found = self._backward(classes)
        by_point = found.view(*self.shape, *found.shape[1:])[:, :, :wanted]
        if self.weights is not None:
            by_point = by_point * self.weights[:, :, None, None, None, None]
        return by_point[0] if self.shape[0] == 1 else by_point.sum(dim=0)

    def _backward(self, classes: Tensor) -> Tensor:
        name = self.classifier.name
        try:
            (found,) = torch.autograd.grad(
                self.logits, self.leaf, self._cotangent(classes), retain_graph=True
            )
        except RuntimeError as error:
            raise ModelError(f"the backward pass of {name} failed: {first_line(error)}") from error
        if not bool(found.isfinite().all()):
            raise ModelError(f"{name} has NaN or infinite gradients: check the module")
        return found

    def _cotangent(self, classes: Tensor) -> Tensor:
        """d(score)/d(logits), one row a class: (P*G*V, K)."""
        index = classes.expand(self.shape).reshape(-1, 1)
        one_hot = torch.zeros_like(self.logits).scatter_(1, index, 1)
        if self.score == "logit":
            return one_hot
        chance = self.classifier.probabilities(self.logits.detach())
        return one_hot * (1 - chance) if self.classifier.multi_label else one_hot - chance
