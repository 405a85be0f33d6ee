"""Operations that move elements and compute nothing."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from chiaroscuro.gradients.steps import Apart, Crop, Linear, Pass, Rule, Step
from chiaroscuro.gradients.tape import Entry


def axis(value: int, count: int) -> int:
    """An axis as autograd keeps it (negative ones as unsigned numbers), counted from 0."""
    return (value - 2**64 if value >= 2**63 else value) % max(1, count)


def _reshape(entry: Entry) -> Step:
    shape = entry.input_shape()
    return Linear(lambda gradient: gradient.reshape(len(gradient), *shape), gives="view")


def _as_strided(entry: Entry) -> Step | None:
    """Only where it adds or drops axes of length 1, as pooling to one pixel does."""
    shape, out = entry.input_shape(), entry.shapes[0]
    same = [n for n in shape if n != 1] == [n for n in out if n != 1]
    return _reshape(entry) if same and not entry.node._saved_storage_offset else None


def _permute(entry: Entry) -> Step:
    order = [axis(value, len(entry.shapes[0])) for value in entry.node._saved_dims]
    back = [0, *(1 + order.index(i) for i in range(len(order)))]
    return Linear(lambda gradient: gradient.permute(back), gives="view")


def _transpose(entry: Entry) -> Step:
    count = len(entry.shapes[0])
    first, second = (1 + axis(v, count) for v in (entry.node._saved_dim0, entry.node._saved_dim1))
    return Linear(lambda gradient: gradient.transpose(first, second), gives="view")


def _flip_matrix(_: Entry) -> Step:
    return Linear(lambda gradient: gradient.transpose(-1, -2), gives="view")


def _expand(entry: Entry) -> Step:
    return Pass(entry)


def _slice(entry: Entry) -> Step:
    node, shape = entry.node, entry.input_shape()
    along = 1 + axis(node._saved_dim, len(shape))
    place = slice(node._saved_start, node._saved_end, node._saved_step)
    return Linear(partial(_put, shape, (*[slice(None)] * along, place)))


def _select(entry: Entry) -> Step:
    shape = entry.input_shape()
    along = axis(entry.node._saved_dim, len(shape))
    index = axis(entry.node._saved_index, shape[along])
    return Linear(partial(_put, shape, (*[slice(None)] * (1 + along), index)))


def _put(shape: Sequence[int], place: tuple[slice | int, ...], gradient: Tensor) -> Tensor:
    """Zeros of the shape with the gradient in its place."""
    found = gradient.new_zeros(len(gradient), *shape)
    found[place] = gradient
    return found


def _cat(entry: Entry) -> Step | None:
    if None in entry.edges:
        return None
    shapes = [entry.input_shape(i) for i in range(len(entry.edges))]
    along = axis(entry.node._saved_dim, len(entry.shapes[0]))
    sizes = [shape[along] for shape in shapes]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return Apart(
        [
            partial(torch.narrow, dim=along + 1, start=start, length=size)
            for start, size in zip(starts, sizes, strict=True)
        ]
    )


def _crop(entry: Entry) -> Step:
    return Crop(entry.node._saved_pad)


def overloads(kinds: Sequence[str], rule: Rule) -> dict[str, Rule]:
    """The rule under autograd's names of all overloads."""
    return {f"{kind}Backward{n}": rule for kind in kinds for n in range(4)}


MOVES: dict[str, Rule] = {
    **overloads(("Alias", "Clone"), Pass),
    **overloads(("View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze"), _reshape),
    "AsStridedBackward1": _as_strided,
    "CatBackward0": _cat,
    "ConstantPadNdBackward0": _crop,
    "ExpandBackward0": _expand,
    "PermuteBackward0": _permute,
    "SelectBackward0": _select,
    "SliceBackward0": _slice,
    "TBackward0": _flip_matrix,
    "TransposeBackward0": _transpose,
}
"""By autograd's name of the operation."""
