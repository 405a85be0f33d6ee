"""Copies of a network that a sanity check compares with it: random weights, and the reference."""

import copy
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from chiaroscuro.classifier import Classifier
from chiaroscuro.errors import ModelError, first_line
from chiaroscuro.results.measurements import Layer

POSITIVE_INSIDE = "positive-inside"
"""Its name among the methods: positive gradients only, at every ReLU inside the network."""


def find_layers(
    classifier: Classifier, pixels: Tensor, most: int | None = None
) -> tuple[Layer, ...]:
    """The layers of a network, the last one first.

    A layer is a module with weights of its own, in the order of one forward pass of `pixels`
    (B, C, H, W), which runs on a copy; a module that the pass does not call has its place after its
    registered neighbor. Modules with no weight but vectors (normalization, scales) go with the
    layer before them. `most`: neighboring layers are put together until no more than so many.
    Raises `ModelError` for a network without weights, or one that cannot be copied.
    """
    twin = duplicate(classifier)
    parts = {name: part for name, part in twin.module.named_modules() if _own(part)}
    if not parts:
        raise ModelError(f"{classifier.name} has no weights: there is nothing to randomize")
    units: list[list[str]] = []
    for name in _execution_order(twin, pixels, list(parts)):
        if units and all(p.ndim < 2 for p in _own(parts[name])):
            units[-1].append(name)
        else:
            units.append([name])
    units.reverse()
    groups = np.array_split(np.arange(len(units)), min(most or len(units), len(units)))
    return tuple(_layer([units[i] for i in group]) for group in groups)


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
    """A copy of the classifier whose layers have new random weights; the classifier stays.

    Each module is reset by its own `reset_parameters` where it has one: so convolutions and linear
    layers come as freshly built, and a BatchNorm forgets its statistics too (mean 0, variance 1,
    weight 1, bias 0: in eval mode it then changes nothing). Weights that this leaves as they were,
    and those of modules without the method, are drawn from a normal distribution with the mean and
    standard deviation of the tensor's values. A module's draw depends on (seed, draw, its name)
    alone: the same in any company.
    """
    twin = duplicate(classifier)
    parts = dict(twin.module.named_modules())
    for layer in layers:
        for name in layer.modules:
            _renew(parts[name], name, _seed_of(seed, draw, name))
    return twin


def _own(part: nn.Module) -> list[nn.Parameter]:
    return [p for p in part.parameters(recurse=False) if p.is_floating_point()]


def _execution_order(twin: Classifier, pixels: Tensor, names: Sequence[str]) -> list[str]:
    """The names in the order in which a forward pass first comes to them."""
    called: list[str] = []
    parts = dict(twin.module.named_modules())

    def tell(name: str) -> None:
        if name not in called:
            called.append(name)

    for name in names:
        parts[name].register_forward_pre_hook(lambda *_, name=name: tell(name))
    twin(pixels)
    place = {name: float(i) for i, name in enumerate(called)}
    before = -1.0
    for name in names:
        # Sorting is stable, so those that are not called keep their order behind the neighbor.
        before = place.setdefault(name, before)
    return sorted(names, key=lambda name: (place[name], name not in called))


def _layer(units: Sequence[Sequence[str]]) -> Layer:
    """One layer of the given units, named by its first and last module with weights."""
    ends = [unit[0] or "(the module itself)" for unit in units]
    name = ends[0] if len(ends) == 1 else f"{ends[0]} to {ends[-1]}"
    return Layer(name, tuple(module for unit in units for module in unit))


def _renew(part: nn.Module, name: str, seed: int) -> None:
    weights = _own(part)
    before = [weight.detach().clone() for weight in weights]
    devices = sorted({w.device.index or 0 for w in weights if w.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        torch.manual_seed(seed)
        _reset(part, name)
        for weight, old in _untouched(weights, before):
            spread = old.std(correction=0) if old.numel() > 1 else old.abs().mean()
            weight.copy_(old.mean() + spread * torch.randn_like(old))


def _reset(part: nn.Module, name: str) -> None:
    reset = getattr(part, "reset_parameters", None)
    if not callable(reset):
        return
    try:
        reset()
    except Exception as error:
        raise ModelError(
            f"module {name!r} ({type(part).__name__}): its reset_parameters failed "
            f"({first_line(error)})"
        ) from error


def _untouched(
    weights: Sequence[nn.Parameter], before: Sequence[Tensor]
) -> Iterator[tuple[nn.Parameter, Tensor]]:
    for weight, old in zip(weights, before, strict=True):
        if torch.equal(weight, old):
            yield weight, old


def _seed_of(seed: int, draw: int, name: str) -> int:
    digest = hashlib.sha256(f"{seed} {draw} {name}".encode()).digest()
    return int.from_bytes(digest[:7], "big")


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
        output: Tensor = _PositiveBack.apply(values, self.top)
        return output


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
