"""Copies of a network to compare it with: random weights, and the sanity check's reference."""

import copy
import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from chiaroscuro.classifier.classifier import Classifier
from chiaroscuro.errors import ModelError, first_line
from chiaroscuro.results.measurements import Layer

POSITIVE_INSIDE = "positive-inside"
"""Its name among the methods: positive gradients only, at every ReLU inside the network."""


def find_layers(
    classifier: Classifier, pixels: Tensor, most: int | None = None
) -> tuple[Layer, ...]:
    """The modules with weights in the order of a forward pass, the last first, at most so many.

    Modules with no weight but vectors (normalization) go with the layer before them, those that the
    pass does not call after their registered neighbor.
    """
    twin = duplicate(classifier)
    parts = {name: part for name, part in twin.module.named_modules() if _own(part)}
    if not parts:
        raise ModelError(f"{classifier.name} has no weights: there is nothing to randomize")
    called: dict[str, int] = {}

    def tell(name: str, *_: object) -> None:
        called.setdefault(name, len(called))

    for name, part in parts.items():
        part.register_forward_pre_hook(partial(tell, name))
    twin(pixels)
    before = -1
    for name in parts:
        before = called.setdefault(name, before)
    units: list[list[str]] = []
    for name in sorted(parts, key=called.__getitem__):  # stable: after the registered neighbor
        if units and all(p.ndim < 2 for p in _own(parts[name])):
            units[-1].append(name)
        else:
            units.append([name])
    units.reverse()
    layers = []
    for group in np.array_split(np.arange(len(units)), min(most or len(units), len(units))):
        ends = dict.fromkeys(units[i][0] or "(the module itself)" for i in (group[0], group[-1]))
        layers.append(Layer(" to ".join(ends), tuple(name for i in group for name in units[i])))
    return tuple(layers)


def duplicate(classifier: Classifier) -> Classifier:
    """The classifier around a copy of its module; raises `ModelError` when that has no copy."""
    twin = copy.copy(classifier)
    try:
        twin.module = copy.deepcopy(classifier.module)
    except Exception as error:
        raise ModelError(
            f"{classifier.name} cannot be copied ({first_line(error)}), and the check changes "
            "weights of copies only: load it without state that Python cannot copy"
        ) from error
    return twin


def randomized(
    classifier: Classifier, layers: Sequence[Layer], seed: int, draw: int = 0
) -> Classifier:
    """A copy with new random weights in some layers; those of a module depend on its name alone.

    Each module is reset by its own `reset_parameters`: a BatchNorm forgets its statistics too.
    Weights that this leaves as they were are drawn by their tensor's mean and standard deviation.
    """
    twin = duplicate(classifier)
    parts = dict(twin.module.named_modules())
    for name in (name for layer in layers for name in layer.modules):
        digest = hashlib.sha256(f"{seed} {draw} {name}".encode()).digest()
        _renew(parts[name], name, int.from_bytes(digest[:7], "big"))
    return twin


def all_random(classifier: Classifier, seed: int, draw: int = 0) -> Classifier:
    """A copy with new random weights everywhere."""
    names = tuple(name for name, part in classifier.module.named_modules() if _own(part))
    if not names:
        raise ModelError(f"{classifier.name} has no weights: there is nothing to randomize")
    return randomized(classifier, [Layer("all", names)], seed, draw)


def _own(part: nn.Module) -> list[nn.Parameter]:
    return [p for p in part.parameters(recurse=False) if p.is_floating_point()]


def _renew(part: nn.Module, name: str, seed: int) -> None:
    weights = _own(part)
    before = [weight.detach().clone() for weight in weights]
    devices = sorted({w.device.index or 0 for w in weights if w.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        torch.manual_seed(seed)
        try:
            getattr(part, "reset_parameters", lambda: None)()
        except Exception as error:
            kind = type(part).__name__
            raise ModelError(
                f"module {name!r} ({kind}): its reset_parameters failed ({first_line(error)})"
            ) from error
        for weight, old in zip(weights, before, strict=True):
            if torch.equal(weight, old):
                spread = old.std(correction=0) if old.numel() > 1 else old.abs().mean()
                weight.copy_(old.mean() + spread * torch.randn_like(old))


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


def positive_inside(classifier: Classifier) -> Classifier | None:
    """A copy whose `ReLU` and `ReLU6` modules let only positive gradients back; None without any.

    That is guided backpropagation, nearly blind to weights and class (arXiv:1810.03292).
    """
    twin = duplicate(classifier)
    tops: dict[type, float] = {nn.ReLU: torch.inf, nn.ReLU6: 6.0}
    places = [part for part in twin.module.modules() if type(part) in tops]
    for part in places:
        part.forward = partial(_positive_relu, tops[type(part)])
    return twin if places else None


def _positive_relu(top: float, values: Tensor) -> Tensor:
    output: Tensor = _PositiveBack.apply(values, top)
    return output
