"""Linear steps: what each operation does to the gradients of V classes at once.

A gradient on its way back has the shape (V, ...): one more axis than the tensor it belongs to,
which stands for the classes. Every step is linear in it, with constants read off the one forward
pass, so what differs between classes is the gradient alone.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from chiaroscuro.gradients.backward import kernels
from chiaroscuro.gradients.backward.tape import Entry
from chiaroscuro.matmul import times


class Cotangent(NamedTuple):
    """A gradient under way; `owned`: nobody else holds its memory, so it may be written over."""

    tensor: Tensor
    owned: bool


Cotangents = Sequence[Cotangent | None]
Step = Callable[[Cotangents], Cotangents]
"""Takes the gradients of an operation's outputs (None: zero) to those of its first inputs."""
Rule = Callable[[Entry], Step | None]
"""Reads an operation off the tape as a step, or declines."""
Work = Callable[[Tensor], Tensor]


def one(cotangents: Cotangents) -> Cotangent:
    """The gradient of an operation's first output, the only one that is ever differentiated."""
    cotangent, *others = cotangents
    assert cotangent is not None
    assert others.count(None) == len(others)
    return cotangent


def per_class(gradient: Tensor, work: Work) -> Tensor:
    """Work on (V N, ...) rows, classes and images as one axis, and split the result."""
    return torch.unflatten(work(gradient.flatten(0, 1)), 0, gradient.shape[:2])


def sum_to(gradient: Tensor, shape: Sequence[int]) -> Tensor:
    """The gradient (V, ...) of what was broadcast from `shape`: summed over the repeated axes."""
    lead = gradient.ndim - 1 - len(shape)
    if lead:
        gradient = gradient.flatten(1, lead).sum(dim=1)
    axes = [i for i, n in enumerate(shape, 1) if n == 1 and gradient.shape[i] != 1]
    return gradient.sum(dim=axes, keepdim=True) if axes else gradient


class Add:
    """The same gradient for every input, times a number each; broadcast inputs get sums."""

    def __init__(self, entry: Entry, *factors: float) -> None:
        self.factors = factors or [1.0] * len(entry.edges)
        self.shapes = [about if about is None else about.shape for about in entry.inputs]
        self.shared = sum(shape is not None for shape in self.shapes) > 1

    def __call__(self, cotangents: Cotangents) -> Cotangents:
        """As every `Step`."""
        tensor, owned = one(cotangents)
        results: list[Cotangent | None] = []
        for shape, factor in zip(self.shapes, self.factors, strict=False):
            if shape is None:
                results.append(None)
                continue
            summed = sum_to(tensor if factor == 1 else tensor * factor, shape)
            own = (owned and not self.shared) or summed is not tensor
            results.append(Cotangent(summed, own))
        return results


class Scale:
    """An element-wise product with a constant, or with one number a channel (C,).

    The constant has as many axes as what it multiplies, some of them 1.
    """

    def __init__(self, factor: Tensor, *, channels: bool = False) -> None:
        self.factor = factor
        self.channels = channels
        self._laid_out: Tensor | None = None

    def spread(self, ndim: int) -> Tensor:
        """The constant, broadcastable over tensors of so many axes."""
        return self.factor.view(1, -1, *(1,) * (ndim - 2)) if self.channels else self.factor

    def __call__(self, cotangents: Cotangents) -> Cotangents:
        """As every `Step`."""
        gradient, owned = one(cotangents)
        if self._laid_out is None:
            self._laid_out = _laid_out(self.spread(gradient.ndim - 1), gradient[0])
        factor = self._laid_out
        return [Cotangent(gradient.mul_(factor) if owned else gradient * factor, True)]


def _laid_out(factor: Tensor, gradient: Tensor) -> Tensor:
    """The constant in the order of a gradient's memory, so that both are read in one sweep.

    A gradient that was repeated without memory of its own takes the order of the constant.
    """
    repeated = 0 in gradient.stride()
    if repeated or factor.shape != gradient.shape or factor.stride() == gradient.stride():
        return factor
    return torch.empty_like(gradient).copy_(factor)


class Matrix:
    """The gradient of a matrix product's left side, times the transpose of the right (I, O).

    `place` is the number of the input on the left.
    """

    def __init__(self, weight: Tensor, place: int = 0) -> None:
        self.weight, self.place = weight, place

    def __call__(self, cotangents: Cotangents) -> Cotangents:
        """As every `Step`."""
        gradient = one(cotangents).tensor.to(self.weight.dtype)
        result = per_class(gradient, partial(times, matrix=self.weight))
        return [*[None] * self.place, Cotangent(result, True)]


class Convolve:
    """The input's gradient of a convolution."""

    def __init__(self, conv: kernels.Convolution) -> None:
        self.conv = conv
        self._kernel: kernels.Kernel | None = None

    @property
    def weight(self) -> Tensor:
        """As in the network, scaled."""
        return self.conv.weight

    def __call__(self, cotangents: Cotangents) -> Cotangents:
        """As every `Step`."""
        if self._kernel is None:
            self._kernel = kernels.kernel_of(self.conv)(self.conv)
            self.conv = self.conv.without_values  # its weights are the kernel's now
        gradient = one(cotangents).tensor.to(self.conv.weight.dtype)
        return [Cotangent(per_class(gradient, self._kernel), True)]


class Linear:
    """Any other linear functions of the gradient of one output, one for each input.

    `gives`: "new" memory, a "view" of its input, a "shared" one whose elements overlap, or
    "either". `by_channel`: it takes any number of channels (axis 1), and each goes to itself alone.
    """

    def __init__(
        self,
        *works: Work | None,
        gives: Literal["new", "view", "shared", "either"] = "new",
        by_channel: bool = False,
    ) -> None:
        self.works, self.gives, self.by_channel = works, gives, by_channel

    def __call__(self, cotangents: Cotangents) -> Cotangents:
        """As every `Step`."""
        gradient, owned = one(cotangents)
        owned = self.gives == "new" or (owned and self.gives == "view")
        return [None if work is None else Cotangent(work(gradient), owned) for work in self.works]


class Phased(Linear):
    """A strided depthwise convolution, a product and single pixels before it (`in_phases`)."""

    def __init__(self, conv: kernels.Convolution, factor: Tensor, first: kernels.Convolution):
        self.convolutions = conv.without_values, first.without_values
        super().__init__(partial(per_class, work=kernels.in_phases(conv, factor, first)))


class Crop(Linear):
    """What was padded with constants (last axis first: before, after), taken away again."""

    def __init__(self, pad: Sequence[int]) -> None:
        self.pad = pad
        if any(pad):
            super().__init__(partial(F.pad, pad=[-n for n in pad]))
        else:
            super().__init__(lambda gradient: gradient, gives="view")


class Reshape(Linear):
    """The same elements in another shape: from `out`, an output's, to `shape`, an input's."""

    def __init__(self, shape: Sequence[int], out: Sequence[int]) -> None:
        self.shape, self.out = torch.Size(shape), torch.Size(out)
        by_channel = self.shape[:2] == self.out[:2]
        kept = 3 if by_channel else 1  # of any number of channels
        rest = self.shape[kept - 1 :]

        def back(gradient: Tensor) -> Tensor:
            return gradient.reshape(*gradient.shape[:kept], *rest)

        super().__init__(back, gives="view", by_channel=by_channel)


class Permute(Linear):
    """Axes in another order: axis i of the input is axis `order[i]` of the output."""

    def __init__(self, order: Sequence[int]) -> None:
        self.order = tuple(order)
        axes = [0, *(1 + axis for axis in order)]
        super().__init__(lambda gradient: gradient.permute(axes), gives="view")


class Scatter:
    """Outputs that are parts of the input, along an axis: each in its place, zeros elsewhere."""

    def __init__(self, shape: Sequence[int], along: int, places: Sequence[slice | int]) -> None:
        self.shape, self.along, self.places = torch.Size(shape), along, tuple(places)
        line = torch.arange(shape[along])
        self.positions = torch.cat([line[place].reshape(-1) for place in places]).tolist()

    def __call__(self, cotangents: Cotangents) -> Cotangents:
        """As every `Step`."""
        like = next(cotangent.tensor for cotangent in cotangents if cotangent is not None)
        whole = len(self.positions) == self.shape[self.along] and None not in cotangents
        if whole and like.shape[1:] == self.shape:
            return cotangents
        new = like.new_empty if whole else like.new_zeros
        result = new(len(like), *self.shape)
        for place, cotangent in zip(self.places, cotangents, strict=True):
            if cotangent is not None:
                result[(*[slice(None)] * (self.along + 1), place)] = cotangent.tensor
        return [Cotangent(result, True)]


class Opaque:
    """An operation that is not known here: its own backward pass, class by class.

    `note`: why its rule could not read it.
    """

    def __init__(self, entry: Entry, note: str = "") -> None:
        self.entry, self.note = entry, note

    def __call__(self, cotangents: Cotangents) -> Cotangents:
        """As every `Step`."""
        classes = next(len(cotangent.tensor) for cotangent in cotangents if cotangent is not None)
        rows = [
            self.entry.backward([None if f is None else f.tensor[v] for f in cotangents])
            for v in range(classes)
        ]
        return [
            None
            if gradients[0] is None
            else Cotangent(torch.stack([x for x in gradients if x is not None]), True)
            for gradients in zip(*rows, strict=True)
        ]
