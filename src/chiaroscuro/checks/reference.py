"""A method that is known to fail the check, so that passing means something."""

from typing import Any

import torch
from torch import Tensor, nn

from chiaroscuro.checks.layers import duplicate
from chiaroscuro.classifier import Classifier

POSITIVE_INSIDE = "positive-inside"
"""Its name among the methods: positive gradients only, at every ReLU inside the network."""


class _PositiveBack(torch.autograd.Function):
    """ReLU (cut at `top`) forward; back go only positive gradients, where the input was inside."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, top: float) -> Tensor:
        ctx.save_for_backward((values > 0) & (values < top))
        return values.clamp(0, top)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (inside,) = ctx.saved_tensors
        return torch.where(inside, gradients[0].relu(), 0), None


class PositiveReLU(nn.Module):
    """A ReLU that lets only positive gradients back."""

    def __init__(self, top: float = torch.inf) -> None:
        super().__init__()
        self.top = top

    def forward(self, values: Tensor) -> Tensor:
        """The values cut to [0, top], not in place."""
        found: Tensor = _PositiveBack.apply(values, self.top)
        return found


def positive_inside(classifier: Classifier) -> Classifier | None:
    """A copy in which every `ReLU` and `ReLU6` module is a `PositiveReLU`; None without any.

    Its input gradients are guided backpropagation, which is nearly blind to weights and class
    (Adebayo et al. 2018, arXiv:1810.03292; the concern of arXiv:2012.00362). ReLUs that are called
    as functions stay as they are.
    """
    twin = duplicate(classifier)
    places = [
        (part, name, child)
        for part in twin.module.modules()
        for name, child in part._modules.items()
        if type(child) in (nn.ReLU, nn.ReLU6)
    ]
    for part, name, child in places:
        setattr(part, name, PositiveReLU(6.0 if type(child) is nn.ReLU6 else torch.inf))
    return twin if places else None
