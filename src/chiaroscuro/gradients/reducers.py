"""What is kept of the gradients of all classes while they go by, a few at a time."""

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from chiaroscuro.errors import ModelError
from chiaroscuro.gradients.backward.program import restored

Kept = Tensor | tuple[Tensor, ...]


@runtime_checkable
class Reducer(Protocol):
    """Something to keep of the gradients of all classes, for `reduce_gradients`.

    For each few images that go through the network together `start` comes first, then `add` for a
    few classes at a time, every class once, then `finish`. When memory runs out the images come
    again, fewer of them, with a new `start`: it forgets what was added.

    >>> class Norms:
    ...     def start(self, images, classes):
    ...         self.norms = images.new_zeros(len(images), classes)
    ...
    ...     def add(self, gradients, classes):
    ...         self.norms[:, classes] = gradients.flatten(2).norm(dim=2).T
    ...
    ...     def finish(self):
    ...         return self.norms
    """

    def start(self, images: Tensor, classes: int) -> None:
        """The next images (G, C, H, W), as pixels, and the number of classes K of the network."""

    def add(self, gradients: Tensor, classes: Tensor) -> None:
        """Gradients (V, G, C, H, W) of the classes (V,), by index."""

    def finish(self) -> Kept:
        """What was kept of these images: one tensor (G, ...) or a tuple of them."""


class Accumulator(Protocol):
    """What the stream of gradients flows into."""

    def add(self, gradients: Tensor, first: int, values: slice) -> None:
        """Take in gradients (V, G, n) of columns first..first+V-1 at some of the values."""

    def check_finite(self, name: str) -> None:
        """Raise `ModelError` where a gradient was NaN or infinite."""


class WholeImages:
    """Hands whole images to a `Reducer`; `columns` are the classes in the order of the stream."""

    def __init__(self, reducer: Reducer, images: Tensor, columns: Tensor, classes: int) -> None:
        self.reducer, self.columns, self.shape = reducer, columns, images.shape[1:]
        self.finite = True
        reducer.start(images, classes)

    def add(self, gradients: Tensor, first: int, values: slice) -> None:
        """As `Accumulator`."""
        self.finite = self.finite and bool(gradients.isfinite().all())
        columns = self.columns[first : first + len(gradients)]
        self.reducer.add(restored(gradients, self.shape), columns)

    def check_finite(self, name: str) -> None:
        """As `Accumulator`."""
        if not self.finite:
            raise not_finite(name)


class Extremes:
    """A target's gradient and the element-wise extremes over its rivals: three images, never K.

    `target`, `high`, `low`: (G, N), the N values of G images. `own` and `rivals` (G, M) say which
    columns are the target's and its rivals'. With `columns` (G, M), the classes by column,
    `high_class` and `low_class` hold the rival at each extreme, or -1 where different ones tie.
    """

    def __init__(
        self,
        like: Tensor,
        own: np.ndarray,
        rivals: np.ndarray,
        columns: Tensor | None = None,
    ) -> None:
        self.target = torch.empty_like(like)
        self.high = torch.full_like(like, -torch.inf)
        self.low = torch.full_like(like, torch.inf)
        self.high_class = None if columns is None else torch.full_like(like, -1, dtype=torch.long)
        self.low_class = None if columns is None else torch.full_like(like, -1, dtype=torch.long)
        self._own, self._rivals, self._columns = own, rivals, columns
        self._alike = bool((own == own[:1]).all() and (rivals == rivals[:1]).all())

    def add(self, gradients: Tensor, first: int, values: slice) -> None:
        """As `Accumulator`."""
        last = first + len(gradients)
        images = [slice(None)] if self._alike else [slice(g, g + 1) for g in range(len(self._own))]
        for some in images:
            own, rivals = (x[some][0, first:last] for x in (self._own, self._rivals))
            for place in np.flatnonzero(own):
                self.target[some, values] = gradients[place, some]
            for run in _runs(rivals):
                columns = None
                if self._columns is not None:
                    columns = self._columns[some, first:last][:, run]
                self._extend(gradients[run, some], columns, some, values)

    def check_finite(self, name: str) -> None:
        """As `Accumulator`: a gradient that is not finite shows in the extremes."""
        # NaN wins in both reductions.
        ends = [torch.stack(part.aminmax()) for part in (self.target, self.high, self.low)]
        if not bool(torch.stack(ends).isfinite().all()):
            raise not_finite(name)

    def _extend(
        self, gradients: Tensor, columns: Tensor | None, images: slice, values: slice
    ) -> None:
        high, low = self.high[images, values], self.low[images, values]
        if columns is not None and self.high_class is not None and self.low_class is not None:
            index = columns.T[..., None]
            highest, lowest = gradients.amax(dim=0), gradients.amin(dim=0)
            holders = self.high_class[images, values], self.low_class[images, values]
            _climb(high, holders[0], highest, _holder(gradients == highest, index))
            # The lowest value is the highest of the negated ones.
            _climb(-low, holders[1], -lowest, _holder(gradients == lowest, index))
        if gradients.stride(0) == 1:  # a value's classes lie side by side
            gradients = torch.stack([gradients.amax(dim=0), gradients.amin(dim=0)])
        for gradient in gradients:  # images stay in the cache, a few classes of them do not
            torch.maximum(high, gradient, out=high)
            torch.minimum(low, gradient, out=low)


def not_finite(name: str) -> ModelError:
    """The error for gradients that no map can be made of."""
    return ModelError(f"{name} has NaN or infinite gradients: check the module")


def _runs(mask: np.ndarray) -> Iterator[slice]:
    """The stretches of true values."""
    if mask.all():  # as nearly always
        return iter([slice(None)])
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    return (slice(int(a), int(b)) for a, b in edges.reshape(-1, 2))


def _holder(on_top: Tensor, index: Tensor) -> Tensor:
    """The class (G, n) that is on top, or -1 where different ones are."""
    last = torch.where(on_top, index, -1).amax(dim=0)
    first = torch.where(on_top, index, torch.iinfo(index.dtype).max).amin(dim=0)
    return torch.where(first == last, last, -1)


def _climb(high: Tensor, holder: Tensor, values: Tensor, index: Tensor) -> None:
    """Where `values` are larger the holder becomes `index`; where they tie with another, -1."""
    tie = (values == high) & (holder != index)
    holder.copy_(torch.where(values > high, index, torch.where(tie, -1, holder)))
