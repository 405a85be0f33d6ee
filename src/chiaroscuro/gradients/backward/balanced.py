"""Another way back: pixels times gradients add up to each logit, but for what biases add.

With the values of the forward pass every operation is y = L u + c, where L is linear in the inputs
u and c is made of weights alone; L' goes back. Where an operation is linear piece by piece
(convolutions, ReLU, poolings, sums), L is its derivative. A factor or divisor made by any other
operation is held constant, and of a product of two paths each gets half. By induction logit k is
x . g_k plus what biases add; without biases the sum is exact.

The aim, and pruning and scaling of backward paths as its means, are those of LibraGrad (Mehri et
al. 2025, arXiv:2411.16760).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from chiaroscuro.gradients.backward.rules import products, step_of
from chiaroscuro.gradients.backward.steps import Cotangent, Cotangents, Linear, Rule, Step
from chiaroscuro.gradients.backward.tape import Edge, Entry, Tape, UnknownNodeError

_NAMES = (
    # Elements moved, added or averaged.
    "Add Alias AsStrided AdaptiveAvgPool2D AvgPool2D Cat Clone ConstantPadNd Expand Flip Gather "
    "Im2Col Index IndexSelect MaskedFill Mean NativeBatchNorm Neg Permute PixelShuffle "
    "PixelUnshuffle ReflectionPad2D Repeat ReplicationPad2D ReshapeAlias Roll Rsub Select Slice "
    "Split SplitWithSizes Squeeze Stack Sub Sum T ToCopy Transpose Unbind Unfold UnsafeSplit "
    "UnsafeView Unsqueeze UpsampleBicubic2D UpsampleBilinear2D UpsampleNearest2D View Where "
    # Linear piece by piece, or f(t u) = t f(u) for any t > 0.
    "Abs AdaptiveMaxPool2D Amax Amin Clamp ClampMax ClampMin Hardtanh LeakyRelu LinalgVectorNorm "
    "Max MaxPool2DWithIndices Maximum Min Minimum PreluKernel Relu Threshold"
)
_LINEAR = frozenset(_NAMES.split())
"""Operations whose derivative is used."""
_FACTORS: Mapping[str, tuple[int, int]] = {
    "Addcmul": (1, 2), "Addmm": (1, 2), "Baddbmm": (1, 2), "Bmm": (0, 1), "Convolution": (0, 1),
    "Mm": (0, 1), "Mul": (0, 1),
}  # fmt: skip
"""Products, and the two inputs that they multiply; a third one is added."""
_ATTENTIONS = "CudnnAttention EfficientAttention FlashAttention FlashAttentionForCpu"
_ONE = {"Div": 0, **{f"ScaledDotProduct{kind}": 2 for kind in _ATTENTIONS.split()}}
"""Quotients and attention, and the one input that is not held constant: attention's values."""


def _normalization(entry: Entry) -> Step:
    """Y = (u - mean u) r w over the last axes or groups of channels, r = 1 / deviation constant."""
    shape, weight = entry.input_shape(), entry.saved("weight")
    if _kind(entry) == "NativeGroupNorm":
        rows = entry.all_saved("N", "group")
        weight = None if weight is None else weight.view(-1, *(1,) * (len(shape) - 2))
    else:
        rows = list(shape[: len(shape) - len(entry.saved("normalized_shape"))])
    rate = entry.saved("result2").detach().view(*rows, 1)

    def back(gradient: Tensor) -> Tensor:
        weighted = gradient if weight is None else gradient * weight.detach()
        grouped = weighted.reshape(len(gradient), *rows, -1)
        return torch.mul(grouped - grouped.mean(-1, keepdim=True), rate).view(gradient.shape)

    return Linear(back)


def _gated(function: Callable[..., Tensor], *options: str) -> Rule:
    """Y = f(u) with f(0) = 0 is u times its gate f(u) / u, which is held constant."""

    def rule(entry: Entry) -> Step | None:
        values = entry.saved("self").detach()
        gate = function(values, **{name: entry.saved(name) for name in options}) / values
        (slope,) = entry.backward([torch.ones_like(values)])
        assert slope is not None
        return products(entry, [torch.where(values == 0, slope, gate)])

    return rule


_RULES: Mapping[str, Rule] = {
    "Celu": _gated(F.celu, "alpha"),
    "Elu": _gated(torch.ops.aten.elu, "alpha", "scale", "input_scale"),
    "Gelu": _gated(F.gelu, "approximate"),
    "Hardswish": _gated(F.hardswish),
    "Mish": _gated(F.mish),
    "NativeGroupNorm": _normalization,
    "NativeLayerNorm": _normalization,
    "Silu": _gated(F.silu),
}
"""Operations of one input that have a rule here."""


def _kind(entry: Entry) -> str:
    """Autograd's name without its ending, which functions written in Python keep."""
    if entry.name == "NativeBatchNormBackward0" and entry.saved("training"):
        return entry.name  # its statistics are those of the pixels
    return re.sub(r"Backward\d+$", "", entry.name)


def balanced_tape(tape: Tape) -> Tape:
    """The tape without the paths that are held constant.

    Raises `UnknownNodeError` where the output of an operation without a rule is more than a factor.
    """
    held: dict[int, str] = {}  # by place, the operation without a rule
    ways: dict[int, list[Edge | None] | str] = {len(tape.entries) - 1: []}
    for place in reversed(range(len(tape.entries) - 1)):
        ways[place] = way = _way(tape.entries[place], held)
        if not any(way):
            behind = [edge.place for edge in tape.entries[place].edges if edge is not None]
            held[place] = next(filter(None, map(held.get, behind)), tape.entries[place].name)
    if tape.start.place in held:
        origin = held[tape.start.place]
        raise UnknownNodeError(f"{origin} has no rule, and the logits are made of its output")
    places = {tape.start.place: 0}
    kept: list[tuple[Entry, list[Edge | None]]] = []
    for place, entry in enumerate(tape.entries):
        if place in places:
            way = ways[place]
            if isinstance(way, str):
                raise UnknownNodeError(way)
            places |= {edge.place: 0 for edge in way if edge is not None}
            places[place] = len(kept)
            kept.append((entry, way))
    entries = [
        replace(
            entry,
            edges=tuple(None if e is None else e._replace(place=places[e.place]) for e in way),
            inputs=[about if edge else None for about, edge in zip(entry.inputs, way, strict=True)],
        )
        for entry, way in kept
    ]
    return replace(tape, entries=entries)


def _way(entry: Entry, held: Mapping[int, str]) -> list[Edge | None] | str:
    """Where gradients go from an operation, before those held constant; or why it has no rule."""
    kind = _kind(entry)
    edges = [None if edge is None or edge.place in held else edge for edge in entry.edges]
    if kind in _ONE:
        return [edge if i == _ONE[kind] else None for i, edge in enumerate(edges)]
    if kind in _RULES and entry.follows_first_alone:
        return edges
    if kind not in _LINEAR and kind not in _FACTORS:
        return [None] * len(edges)
    factors = _FACTORS.get(kind, ())
    # A product of constants is one; next to a factor that is none, the other may be constant.
    multiplied = factors if any(edges[i] for i in factors) else ()
    for i, edge in enumerate(entry.edges):
        if any(edges) and edge and edge.place in held and i not in multiplied:
            return f"{held[edge.place]} has no rule, and {entry.name} adds its output"
    return edges


def balanced_step(entry: Entry) -> Step:
    """The step of an operation of `balanced_tape`."""
    rule = _RULES.get(_kind(entry))
    step = step_of(entry) if rule is None else rule(entry)
    assert step is not None
    factors = _FACTORS.get(_kind(entry), ())
    both = factors and all(entry.edges[i] is not None for i in factors)
    return partial(_halved, step, factors) if both else step


def _halved(step: Step, factors: tuple[int, ...], cotangents: Cotangents) -> Cotangents:
    """Half of the gradient to each of two factors."""
    return [
        Cotangent(result.tensor / 2, True) if result is not None and i in factors else result
        for i, result in enumerate(step(cotangents))
    ]
