"""Operations that move elements and compute nothing."""

from collections.abc import Sequence
from functools import partial
from itertools import accumulate, pairwise

import torch
import torch.nn.functional as F

from chiaroscuro.gradients.backward.steps import Add, Crop, Linear, MultiInput, Rule, Scatter, Step
from chiaroscuro.gradients.backward.tape import Entry, UnknownNodeError


def axis(value: int, count: int) -> int:
    """An axis as autograd keeps it, counted from 0."""
    return signed(value) % max(1, count)


def signed(value: int) -> int:
    """A number as autograd keeps it: negative ones come as unsigned."""
    return value - 2**64 if value >= 2**63 else value


def _reshape(entry: Entry) -> Step:
    shape = entry.input_shape()
    if shape[:2] == entry.shapes[0][:2]:
        return Linear(
            lambda gradient: gradient.reshape(*gradient.shape[:3], *shape[2:]),
            gives="view",
            by_channel=True,
        )
    return Linear(lambda gradient: gradient.reshape(len(gradient), *shape), gives="view")


def _as_strided(entry: Entry) -> Step | None:
    """Only where pooling to one pixel gives its means other strides: the elements stay."""
    behind, _ = entry.node.next_functions[0]
    pooled = behind.name() == "MeanBackward1" and entry.input_shape() == entry.shapes[0]
    return _reshape(entry) if pooled and entry.shapes[0][2:] == (1, 1) else None


def _permute(entry: Entry) -> Step:
    order = [axis(value, len(entry.shapes[0])) for value in entry.saved("dims")]
    back = [0, *(1 + order.index(i) for i in range(len(order)))]
    return Linear(lambda gradient: gradient.permute(back), gives="view")


def _transpose(entry: Entry) -> Step:
    count = len(entry.shapes[0])
    first, second = (1 + axis(v, count) for v in (entry.saved("dim0"), entry.saved("dim1")))
    return Linear(lambda gradient: gradient.transpose(first, second), gives="view")


def _flip_matrix(_: Entry) -> Step:
    return Linear(lambda gradient: gradient.transpose(-1, -2), gives="view")


def _slice(entry: Entry) -> Step:
    shape = entry.input_shape()
    along = axis(entry.saved("dim"), len(shape))
    first, last = (
        None if end is None else signed(end) for end in (entry.saved("start"), entry.saved("end"))
    )
    return Scatter(shape, [_at(along, slice(first, last, entry.saved("step")))])


def _select(entry: Entry) -> Step:
    shape = entry.input_shape()
    along = axis(entry.saved("dim"), len(shape))
    index = axis(entry.saved("index"), shape[along])
    return Scatter(shape, [_at(along, index)])


def _at(along: int, place: slice | int) -> tuple[slice | int, ...]:
    """An index along one axis."""
    return (*[slice(None)] * along, place)


def _unbind(entry: Entry) -> Step:
    shape = entry.input_shape()
    along = axis(entry.saved("dim"), len(shape))
    return Scatter(shape, [_at(along, i) for i in range(shape[along])])


def _split(entry: Entry) -> Step:
    shape = entry.input_shape()
    along = axis(entry.saved("dim"), len(shape))
    ends = accumulate((out[along] for out in entry.shapes), initial=0)
    return Scatter(shape, [_at(along, slice(first, last)) for first, last in pairwise(ends)])


def _cat(entry: Entry) -> Step | None:
    """Sizes of parts without gradient are not kept, so there may be one such part at most."""
    out = entry.shapes[0]
    along = axis(entry.saved("dim"), len(out))
    shapes = [None if e is None else entry.input_shape(i) for i, e in enumerate(entry.edges)]
    if any(shape is not None and len(shape) != len(out) for shape in shapes):
        return None  # an empty part of no shape, which `cat` skips
    if shapes.count(None) > 1:
        return None
    rest = out[along] - sum(shape[along] for shape in shapes if shape is not None)
    sizes = [rest if shape is None else shape[along] for shape in shapes]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return MultiInput(
        [
            None
            if shape is None
            else partial(torch.narrow, dim=along + 1, start=start, length=size)
            for shape, start, size in zip(shapes, starts, sizes, strict=True)
        ]
    )


def _stack(entry: Entry) -> Step:
    along = 1 + axis(entry.saved("dim"), len(entry.shapes[0]))
    return MultiInput(
        [
            None if edge is None else partial(torch.select, dim=along, index=i)
            for i, edge in enumerate(entry.edges)
        ]
    )


def _flip(entry: Entry) -> Step:
    axes = [1 + axis(value, len(entry.shapes[0])) for value in entry.saved("dims")]
    return Linear(lambda gradient: gradient.flip(axes))


def _roll(entry: Entry) -> Step | None:
    axes = [1 + axis(value, len(entry.shapes[0])) for value in entry.saved("dims")]
    shifts = [-signed(value) for value in entry.saved("shifts")]
    return Linear(lambda gradient: gradient.roll(shifts, axes)) if axes else None


def _pixel_shuffle(entry: Entry) -> Step:
    factor = entry.saved("upscale_factor")
    return Linear(lambda gradient: F.pixel_unshuffle(gradient, factor))


def _to_format(entry: Entry) -> Step | None:
    """Another number format; every gradient is brought to that of its tensor anyway."""
    here = entry.device
    return Add(entry) if entry.input_device() == here else None


def _crop(entry: Entry) -> Step:
    return Crop([signed(value) for value in entry.saved("pad")])


def keeps_rows(entry: Entry) -> bool:
    """Whether the first axis of the inputs, where the rows are, is also that of the output."""
    try:
        return _keeps_rows(entry)
    except UnknownNodeError:
        return False


def _keeps_rows(entry: Entry) -> bool:
    name, count = entry.name, len(entry.shapes[0])
    if name == "PermuteBackward0":
        return axis(entry.saved("dims")[0], count) == 0
    if name == "TransposeBackward0":
        return 0 not in (axis(entry.saved("dim0"), count), axis(entry.saved("dim1"), count))
    if name in ("MmBackward0", "AddmmBackward0"):
        return entry.edges[-1] is None
    return name != "TBackward0"


def overloads(kinds: Sequence[str], rule: Rule) -> dict[str, Rule]:
    """The rule under autograd's names of all overloads."""
    return {f"{kind}Backward{n}": rule for kind in kinds for n in range(4)}


VIEWS: dict[str, Rule] = {
    **overloads(("Alias", "Clone"), Add),
    **overloads(("View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze"), _reshape),
    "AsStridedBackward1": _as_strided,
    "CatBackward0": _cat,
    "ConstantPadNdBackward0": _crop,
    "ExpandBackward0": Add,
    "FlipBackward0": _flip,
    "PermuteBackward0": _permute,
    "PixelShuffleBackward0": _pixel_shuffle,
    "RollBackward0": _roll,
    "SelectBackward0": _select,
    "SliceBackward0": _slice,
    "SplitBackward0": _split,
    "SplitWithSizesBackward0": _split,
    "StackBackward0": _stack,
    "TBackward0": _flip_matrix,
    "ToCopyBackward0": _to_format,
    "TransposeBackward0": _transpose,
    "UnbindBackward0": _unbind,
    "UnsafeSplitBackward0": _split,
}
"""By autograd's name of the operation."""
