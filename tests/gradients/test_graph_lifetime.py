"""No graph outlives the call that built it."""

import gc
import weakref
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from chiaroscuro import Classifier, class_gradients, edit_map
from chiaroscuro.gradients import Points, logit_change, target_gradients


class _Token:
    """Lives exactly as long as the node of the graph that holds it."""


class _Held(torch.autograd.Function):
    """The identity; each node of a graph holds a token and its own output."""

    tokens: ClassVar[list[weakref.ref[_Token]]] = []

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.token = _Token()
        _Held.tokens.append(weakref.ref(ctx.token))
        found = values.clone()
        ctx.save_for_backward(found)
        return found

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> Tensor:
        return cotangents[0]

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        return tangents[0].clone()


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(12, 5)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.linear(_Held.apply(pixels.flatten(1)).relu())
        return logits


def _own(classifier: Classifier, pixels: Tensor) -> None:
    target_gradients(classifier, Points(pixels[None], torch.ones(1, len(pixels))), target=3)


CALLS: dict[str, Callable[[Classifier, Tensor], object]] = {
    "class_gradients": class_gradients,
    "target_gradients": _own,
    "edit_map": lambda classifier, pixels: edit_map(classifier, pixels, "black", "partial-edit"),
    "logit_change": lambda classifier, pixels: logit_change(classifier, pixels, -pixels),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("images", [1, 3])
def test_no_graph_outlives_the_call(name: str, images: int) -> None:
    _Held.tokens.clear()
    CALLS[name](Classifier(_Net()), torch.rand(images, 3, 2, 2))
    gc.collect()
    assert _Held.tokens, "the network was asked"
    assert not [token for token in _Held.tokens if token() is not None]
