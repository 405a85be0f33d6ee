"""What is kept of the gradients of all classes while they go by: a result, whatever K is."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from chiaroscuro.choices import RivalRule, Score
from chiaroscuro.errors import NotFiniteError, brief
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


class WholeImages:
    """Hands whole images to a `Reducer`; `columns` are the classes in the order of the stream."""

    def __init__(self, reducer: Reducer, images: Tensor, columns: Tensor, classes: int) -> None:
        self.reducer, self.columns, self.shape = reducer, columns, images.shape[1:]
        self.finite = torch.ones((), dtype=torch.bool, device=images.device)
        reducer.start(images, classes)

    def add(self, gradients: Tensor, first: int, _: slice) -> None:
        """Take in gradients (V, G, N) of columns first..first+V-1."""
        self.finite = self.finite & gradients.isfinite().all()
        columns = self.columns[first : first + len(gradients)]
        self.reducer.add(restored(gradients, self.shape), columns)

    def check_finite(self, name: str) -> None:
        """Raise `NotFiniteError` where a gradient was NaN or infinite."""
        if not bool(self.finite):
            raise not_finite(name)


class Extremes:
    """A target's gradient and the element-wise extremes over its rivals: three images, never K.

    `target`, `high`, `low`: (G, N), the N values of G images. `own` and `rivals` (G, M) say which
    columns are the target's and its rivals'. With `columns` (G, M), the classes by column,
    `holders` (2, G, N) are the rivals at the high and the low end, -1 where different ones tie.
    """

    def __init__(
        self, like: Tensor, own: np.ndarray, rivals: np.ndarray, columns: Tensor | None = None
    ) -> None:
        self.target = torch.empty_like(like)
        self.high, self.low = torch.full_like(like, -torch.inf), torch.full_like(like, torch.inf)
        self.holders: Tensor | None = None
        if columns is not None:
            self.holders = torch.full((2, *like.shape), -1, device=like.device)
        self._own, self._rivals, self._columns = own, rivals, columns
        self._alike = bool((own == own[:1]).all() and (rivals == rivals[:1]).all())

    def add(self, gradients: Tensor, first: int, values: slice) -> None:
        """Take in gradients (V, G, n) of columns first..first+V-1 at some of the values."""
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
        """Raise `NotFiniteError` for a gradient that is not finite, which shows in the extremes."""
        # NaN wins in both reductions.
        ends = [torch.stack(part.aminmax()) for part in (self.target, self.high, self.low)]
        if not bool(torch.stack(ends).isfinite().all()):
            raise not_finite(name)

    def _extend(
        self, gradients: Tensor, columns: Tensor | None, images: slice, values: slice
    ) -> None:
        high, low = self.high[images, values], self.low[images, values]
        if columns is not None and self.holders is not None:
            above, below = self.holders[:, images, values]
            index, top, bottom = columns.T[..., None], gradients.amax(dim=0), gradients.amin(dim=0)
            _climb(high, above, top, gradients == top, index)
            # The lowest value is the highest of the negated ones.
            _climb(-low, below, -bottom, gradients == bottom, index)
        # A value's classes lie side by side, or a GPU has few large things to do.
        if gradients.stride(0) == 1 or gradients.device.type != "cpu":
            gradients = torch.stack([gradients.amax(dim=0), gradients.amin(dim=0)])
        for gradient in gradients:  # images stay in the cache, a few classes of them do not
            torch.maximum(high, gradient, out=high)
            torch.minimum(low, gradient, out=low)


def not_finite(name: str) -> NotFiniteError:
    """The error for gradients that no map can be made of."""
    return NotFiniteError(f"{name} has NaN or infinite gradients: check the module")


def _runs(mask: np.ndarray) -> Iterator[slice]:
    """The stretches of true values."""
    if mask.all():  # as nearly always
        return iter([slice(None)])
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    return (slice(int(a), int(b)) for a, b in edges.reshape(-1, 2))


def _climb(high: Tensor, holder: Tensor, values: Tensor, on_top: Tensor, classes: Tensor) -> None:
    """The holder becomes the class that is on top where `values` are above `high`; -1 for a tie."""
    last = torch.where(on_top, classes, -1).amax(dim=0)
    first = torch.where(on_top, classes, torch.iinfo(classes.dtype).max).amin(dim=0)
    index = torch.where(first == last, last, -1)
    tie = (values == high) & (holder != index)
    holder.copy_(torch.where(values > high, index, torch.where(tie, -1, holder)))


@dataclass(frozen=True)
class GradientChoices:
    """How class gradients were computed: `method` is "points" for explicit ones."""

    rivals: RivalRule
    method: str
    score: Score
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ClassGradients:
    """The three images that every map is a function of, for B images.

    `logits` (B, K) and `target` (B,) at the untouched image; `target_gradient` (B, C, H, W) of the
    target's score per unit of pixel value; `rival_max` and `rival_min` (B, C, H, W) the
    element-wise extremes over `rivals` (B, R), the classes that were run. `rival_argmax` and
    `rival_argmin` (B, C, H, W), on request, hold the rival at the extreme: -1 where different
    rivals tie. `notes` say what is unusual about the network or its gradients.
    """

    logits: Tensor
    target: Tensor
    rivals: Tensor
    target_gradient: Tensor
    rival_max: Tensor
    rival_min: Tensor
    rival_argmax: Tensor | None
    rival_argmin: Tensor | None
    choices: GradientChoices
    notes: tuple[str, ...] = ()
    __repr__ = brief


def joined(
    logits: Tensor,
    target: Tensor,
    rivals: Tensor,
    groups: Sequence[Extremes],
    shape: torch.Size,
    choices: GradientChoices,
    notes: Sequence[str],
) -> ClassGradients:
    """The groups' values as images (B, C, H, W) of one result; `shape` is (C, H, W)."""

    def images(parts: Iterable[Tensor]) -> Tensor:
        first, *others = parts
        whole = torch.cat([first, *others]) if others else first
        return restored(whole, shape).contiguous()

    own = images(group.target for group in groups)
    high, low = images(group.high for group in groups), images(group.low for group in groups)
    holders = [group.holders for group in groups if group.holders is not None]
    above, below = (images(each[i] for each in holders) if holders else None for i in (0, 1))
    flat = ~own.flatten(1).any(dim=1)
    if bool(flat.any()):
        flat &= ~(high.flatten(1).any(dim=1) | low.flatten(1).any(dim=1))
    if zeros := ", ".join(map(str, flat.nonzero().flatten().tolist())):
        notes = [*notes, f"all gradients of image {zeros} are zero: the module rounds or saturates"]
    return ClassGradients(
        logits, target, rivals, own, high, low, above, below, choices, tuple(notes)
    )
