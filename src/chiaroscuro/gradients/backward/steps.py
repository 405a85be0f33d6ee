"""Linear steps: what each operation does to the gradients of V classes at once.

A gradient on its way back has the shape (V, ...): one more axis than the tensor it belongs to,
which stands for the classes. Every step is linear in it, with constants read off the one forward
pass, so what differs between classes is the gradient alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from chiaroscuro.gradients.backward.convolution import Convolution
from chiaroscuro.gradients.backward.kernels import Kernel, choose_kernel
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


def one(cotangents: Cotangents) -> Cotangent:
    """The gradient of an operation's first output, the only one that is ever differentiated."""
    cotangent, *others = cotangents
    assert cotangent is not None
    assert others.count(None) == len(others)
    return cotangent


def per_class(gradient: Tensor, work: Callable[[Tensor], Tensor]) -> Tensor:
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

    def __init__(self, entry: Entry, factors: Sequence[float] | None = None) -> None:
        self.factors = factors or [1.0] * len(entry.edges)
        self.shapes = [
            None if edge is None else entry.input_shape(i) for i, edge in enumerate(entry.edges)
        ]
        self.shared = sum(shape is not None for shape in self.shapes) > 1

    def __call__(self, cotangents: Cotangents) -> Cotangents:
        """As every `Step`."""
        cotangent = one(cotangents)
        return [
            None if shape is None else self._to(cotangent, shape, factor)
            for shape, factor in zip(self.shapes, self.factors, strict=True)
        ]

    def _to(self, cotangent: Cotangent, shape: torch.Size, factor: float) -> Cotangent:
        gradient = cotangent.tensor if factor == 1 else cotangent.tensor * factor
        summed = sum_to(gradient, shape)
        return Cotangent(
            summed, (cotangent.owned and not self.shared) or summed is not cotangent.tensor
        )


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

    def within(self, channels: Tensor) -> "Scale":
        """The same for these channels (axis 1) alone."""
        if self.channels:
            return Scale(self.factor[channels], channels=True)
        if self.factor.shape[1] == 1:
            return self
        # Taken along the last axis, the others keep the order in which gradients lie.
        return Scale(self.factor.movedim(1, -1)[..., channels].movedim(-1, 1))

    @property
    def live(self) -> Tensor:
        """Which channels are not multiplied by zero everywhere: booleans (C,), or one for all."""
        others = [i for i in range(self.factor.ndim) if i != 1]
        return self.factor != 0 if self.channels else self.factor.any(dim=others)

    def __call__(self, cotangents: Cotangents) -> Cotangents:
        """As every `Step`."""
        gradient, owned = one(cotangents)
        if self._laid_out is None:
            self._laid_out = _laid_out(self.spread(gradient.ndim - 1), gradient[0])
        factor = self._laid_out
        return [Cotangent(gradient.mul_(factor) if owned else gradient * factor, True)]


class Matrix:
    """The gradient of a matrix product's left side, times the transpose of the right (I, O).

    `place` is the number of the input on the left.
    """

    def __init__(self, weight: Tensor, place: int = 0) -> None:
        self.weight, self.place = weight, place

    @property
    def nbytes(self) -> int:
        """Bytes of its weights."""
        return self.weight.nbytes

    def handing(self, channels: Tensor) -> "Matrix":
        """The same to these I alone."""
        return Matrix(self.weight[channels], self.place)

    def taking(self, channels: Tensor) -> "Matrix":
        """The same of gradients of these O alone."""
        return Matrix(self.weight[:, channels], self.place)

    def __call__(self, cotangents: Cotangents) -> Cotangents:
        """As every `Step`."""
        result = per_class(one(cotangents).tensor, partial(times, matrix=self.weight))
        return [*[None] * self.place, Cotangent(result, True)]


def _laid_out(factor: Tensor, gradient: Tensor) -> Tensor:
    """The constant in the order of a gradient's memory, so that both are read in one sweep.

    A gradient that was repeated without memory of its own takes the order of the constant.
    """
    repeated = 0 in gradient.stride()
    if repeated or factor.shape != gradient.shape or factor.stride() == gradient.stride():
        return factor
    return torch.empty_like(gradient).copy_(factor)


class Convolve:
    """The input's gradient of a convolution."""

    def __init__(self, conv: Convolution) -> None:
        self.conv = conv
        self._kernel: Kernel | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of its weights."""
        return self.conv.weight.nbytes

    def handing(self, channels: Tensor) -> "Convolve":
        """The same to these channels of the input alone; of one group."""
        return Convolve(self.conv.reading(channels))

    def taking(self, channels: Tensor) -> "Convolve":
        """The same of gradients of these channels of the output alone; of one group."""
        return Convolve(self.conv.giving(channels))

    def within(self, channels: Tensor) -> "Convolve":
        """The same of and to these channels alone; depthwise."""
        return Convolve(self.conv.within(channels))

    def __call__(self, cotangents: Cotangents) -> Cotangents:
        """As every `Step`."""
        if self._kernel is None:
            self._kernel = choose_kernel(self.conv)
            self.conv = self._kernel.conv  # its weights are the kernel's now
        result = per_class(one(cotangents).tensor, self._kernel)
        return [Cotangent(result, True)]


class Linear:
    """Any other linear function of the gradient of one output, to input number `place`.

    `gives`: "new" memory, a "view" of its input, or a "shared" one whose elements overlap.
    `by_channel`: it takes any number of channels (axis 1), and each goes to itself alone.
    """

    def __init__(
        self,
        work: Callable[[Tensor], Tensor],
        place: int = 0,
        gives: Literal["new", "view", "shared"] = "new",
        *,
        by_channel: bool = False,
    ) -> None:
        self.work, self.place, self.gives, self.by_channel = work, place, gives, by_channel

    def within(self, _: Tensor) -> "Linear":
        """The same for some channels alone; by channel."""
        return self

    def __call__(self, cotangents: Cotangents) -> Cotangents:
        """As every `Step`."""
        gradient, owned = one(cotangents)
        owned = self.gives == "new" or (owned and self.gives == "view")
        return [*[None] * self.place, Cotangent(self.work(gradient), owned)]


class Scatter:
    """Outputs that are parts of the input: each gradient in its place, zeros elsewhere."""

    def __init__(self, shape: Sequence[int], places: Sequence[tuple[slice | int, ...]]) -> None:
        self.shape = shape
        self.places = [(slice(None), *place) for place in places]

    def __call__(self, cotangents: Cotangents) -> Cotangents:
        """As every `Step`."""
        like = next(cotangent.tensor for cotangent in cotangents if cotangent is not None)
        result = like.new_zeros(len(like), *self.shape)
        for place, cotangent in zip(self.places, cotangents, strict=True):
            if cotangent is not None:
                result[place] = cotangent.tensor
        return [Cotangent(result, True)]


class Crop(Linear):
    """What was padded with constants (last axis first: before, after), taken away again."""

    def __init__(self, pad: Sequence[int]) -> None:
        self.pad = tuple(pad)
        super().__init__(lambda gradient: F.pad(gradient, [-n for n in self.pad]))

    @property
    def is_flat(self) -> bool:
        """Whether it lies along height and width alone and nothing was cut."""
        return len(self.pad) == 4 and min(self.pad) >= 0


@dataclass(frozen=True, eq=False)
class MultiInput:
    """One linear function for each input, of the gradient of one output."""

    works: Sequence[Callable[[Tensor], Tensor] | None]

    def __call__(self, cotangents: Cotangents) -> Cotangents:
        """As every `Step`."""
        gradient = one(cotangents).tensor
        return [None if work is None else Cotangent(work(gradient), False) for work in self.works]


class Opaque:
    """An operation that is not known here: its own backward pass, class by class."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry

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
