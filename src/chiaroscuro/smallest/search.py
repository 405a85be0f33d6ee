"""The search for the smallest edit of one image: growth, removal, swaps, and its proof.

It asks for gradients and predictions and never sees the network, so that many images' searches go
through it together (`batch`).
"""

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
"""Which units are changed (U,)."""
Units = NDArray[np.int64]
Floats = NDArray[np.float64]
_NOTHING = np.zeros(0)


@dataclass(frozen=True, eq=False)
class Ask:
    """What is asked of the network: leads at several masks (N, U), or with `gains` those at one."""

    masks: Mask
    gains: bool = False


class Answer(NamedTuple):
    """Of each mask its `lead` (N,), how far the goal's score is above all others, and whether it is
    `reached` (N,), so predicted; or to first order what each unit's change adds, `gains` (U,).
    """

    lead: Floats = _NOTHING
    reached: Mask = _NOTHING > 0
    gains: Floats = _NOTHING


Steps = Generator[Ask, Answer, Any]

PREDICTIONS = 64
"""Predictions of a search for each gradient pass of its budget, at most."""
_GROWTH = 8
"""Gradient passes in which an edit grows to the size that the first pass promises."""
_CANDIDATES = 16
"""Units of highest gain that are tried one by one where one unit is to be added."""
_DECAY = 0.8
"""What a gain counts for in the next round of the mean over rounds."""
_FEW = 12
"""Edits of so many units exchange pairs for single units, larger ones go through the rounds."""
_PAIRS = 10
_LOOK = 256


@dataclass(eq=False)
class Search:
    """One image's search. `allowed` (U,) units may change; `priority` (U,) breaks ties.

    After `run`: `units`, in the order in which the goal needs them; `reached`; `minimal`: without
    any one of them it was not reached; `gradients` and `predictions` that were used.
    """

    allowed: Mask
    priority: Units
    budget: int
    units: list[int] = field(default_factory=list)
    reached: bool = False
    minimal: bool = False
    gradients: int = 0
    predictions: int = 0
    _first_gains: Floats | None = None

    def run(self) -> Steps:
        """Grow an edit until the goal is reached, then make it smaller as long as that works."""
        mask = np.zeros_like(self.allowed)
        self.reached = self.minimal = bool((yield from self._reaches(mask)))
        if self.reached:
            return
        grown = yield from self._grow(mask)
        if grown is None:
            return
        self.reached = True
        self.units = yield from self._shrink((yield from self._settle(grown)))
        while self._can_look:
            swapped = yield from self._swap(self.units)
            if swapped is None:
                return
            smaller = yield from self._shrink(swapped)
            if not self.minimal:  # the budget ended: what is proved stays
                self.minimal = True
                return
            self.units = smaller

    @property
    def _can_look(self) -> bool:
        return self.minimal and self.gradients < self.budget and self._left > 0

    @property
    def _left(self) -> int:
        return PREDICTIONS * self.budget - self.predictions

    def _gains(self, mask: Mask) -> Generator[Ask, Answer, Floats]:
        if self._first_gains is not None and not mask.any():
            return self._first_gains
        self.gradients += 1
        answer = yield Ask(mask[None], gains=True)
        if not mask.any():
            self._first_gains = answer.gains
        return answer.gains

    def _predict(self, masks: Mask) -> Generator[Ask, Answer, Answer]:
        self.predictions += len(masks)
        return (yield Ask(masks))

    def _reaches(self, mask: Mask) -> Generator[Ask, Answer, bool]:
        return bool((yield from self._predict(mask[None])).reached[0])

    def _order(self, values: Floats, among: Mask) -> Units:
        """The units of a mask by falling values, ties in the order of the priority."""
        listed = self.priority[among[self.priority]]
        return listed[np.argsort(-values[listed], kind="stable")]

    def _first(self, mask: Mask, order: Units, low: int, high: int) -> Generator[Ask, Answer, Mask]:
        """The mask with the fewest first units of an order that reach the goal, as far as halving
        finds: `high` of them do, `low` do not.
        """
        count = yield from self._halved(lambda n: _with(mask, order[:n]), high, low)
        return _with(mask, order[:count])

    def _halved(
        self, mask_of: Callable[[int], Mask], good: int, bad: int
    ) -> Generator[Ask, Answer, int]:
        """The last number on the way from a good one to a bad one whose mask reaches the goal."""
        while abs(good - bad) > 1:
            middle = (good + bad) // 2
            if (yield from self._reaches(mask_of(middle))):
                good = middle
            else:
                bad = middle
        return good

    def _doubled(self, mask: Mask, order: Units) -> Generator[Ask, Answer, int | None]:
        """The first of 1, 2, 4, ... units of an order that reach the goal, or None."""
        count = 1
        while order.size:
            count = min(count, len(order))
            if (yield from self._reaches(_with(mask, order[:count]))):
                return count
            if count == len(order):
                return None
            count *= 2
        return None

    def _grow(self, mask: Mask) -> Generator[Ask, Answer, Mask | None]:
        """Add the units of highest gain, a share of the edit at a time, by gains of each moment."""
        start, gains = mask, (yield from self._gains(mask))
        first = self._order(gains, self.allowed & (gains > 0))
        bound = yield from self._doubled(mask, first)
        most = bound or len(first)
        growth = most ** (1 / min(_GROWTH, max(1, self.budget - 1)))
        while True:
            order = self._order(gains, self.allowed & ~mask & (gains > 0))
            step = max(1, math.ceil(mask.sum() * (growth - 1)))
            if not order.size or mask.sum() >= most:
                break
            if step == 1:
                lead, unit = yield from self._best(mask, order)
                mask = _with(mask, [unit])
                if lead:
                    return mask
            else:
                grown = _with(mask, order[:step])
                if (yield from self._reaches(grown)):
                    return (yield from self._first(mask, order, 0, step))
                mask = grown
            if self.gradients >= self.budget:
                break
            gains = yield from self._gains(mask)
        if bound is not None:
            return (yield from self._first(start, first, bound // 2, bound))
        return (yield from self._reach(mask, gains))

    def _reach(self, mask: Mask, gains: Floats) -> Generator[Ask, Answer, Mask | None]:
        """An edit of any size that reaches the goal: all units whose mean gain over rounds is above
        0, or the beginning of an order that goes on to all units.
        """
        mean = gains
        for _ in range(min(self.budget // 2, self.budget - self.gradients)):
            mask = self.allowed & (mean > 0)
            if (yield from self._reaches(mask)):
                return mask
            mean = _DECAY * mean + (yield from self._gains(mask))
        order = self._order(mean, self.allowed)
        empty = np.zeros_like(mask)
        count = yield from self._doubled(empty, order)
        return None if count is None else (yield from self._first(empty, order, count // 2, count))

    def _settle(self, mask: Mask) -> Generator[Ask, Answer, Mask]:
        """Smaller edits by the mean of gains at edits that just reach the goal, or just do not.

        In a round the units of highest mean, as few as reach the goal, are the next edit.
        """
        best, empty, mean = mask, np.zeros_like(mask), np.zeros(len(mask))
        for _ in range(min(self.budget // 2, self.budget - self.gradients)):
            size = int(best.sum())
            if size <= _FEW:
                break
            mean = _DECAY * mean + (yield from self._gains(mask))
            order = self._order(mean, self.allowed)
            mask = _with(empty, order[:size])
            if (yield from self._reaches(mask)):
                mask = yield from self._first(empty, order, size // 2, size)
                best = mask
        return best

    def _best(self, mask: Mask, order: Units) -> Generator[Ask, Answer, tuple[bool, int]]:
        """The unit among the first of an order with the highest actual lead."""
        tried = order[:_CANDIDATES]
        answer = yield from self._predict(np.stack([_with(mask, [unit]) for unit in tried]))
        best = int(np.lexsort((-answer.lead, ~answer.reached))[0])
        return bool(answer.reached[best]), int(tried[best])

    def _shrink(self, mask: Mask) -> Generator[Ask, Answer, list[int]]:
        """Restore units that the goal does not need, until it needs each one that is left."""
        while self.gradients < self.budget and mask.sum() > 1:
            gains = yield from self._gains(mask)
            order = self._order(-gains, mask)
            count = yield from self._restorable(mask, order, 0)
            mask = _with(mask, order[:count], False)
            if count * 20 <= mask.sum():
                break
        return (yield from self._prove(mask))

    def _restorable(self, mask: Mask, order: Units, known: int) -> Generator[Ask, Answer, int]:
        """How many of the first units of an order can be restored; `known` of them surely."""
        never = len(order) + (len(order) < mask.sum())
        return (yield from self._halved(lambda n: _with(mask, order[:n], False), known, never))

    def _prove(self, mask: Mask) -> Generator[Ask, Answer, list[int]]:
        """Restore each unit alone, drop those that are not needed, and order the others by need."""
        while True:
            units = self._order(np.zeros(len(mask)), mask)
            if len(units) > self._left:
                self.minimal = False
                return [*map(int, units)]
            lead, reached = np.zeros(len(mask)), np.zeros(len(mask), bool)
            for start in range(0, len(units), _LOOK):
                part = units[start : start + _LOOK]
                answer = yield from self._predict(np.stack([_with(mask, [u], False) for u in part]))
                lead[part], reached[part] = answer.lead, answer.reached
            if not reached.any():
                self.minimal = True
                return [*map(int, self._order(-lead, mask))]
            order = self._order(lead, reached)
            mask = _with(mask, order[: (yield from self._restorable(mask, order, 1))], False)

    def _swap(self, best: list[int]) -> Generator[Ask, Answer, Mask | None]:
        """A small edit with one unit in place of two of the least needed ones, or None."""
        mask, least = _with(np.zeros_like(self.allowed), best), best[::-1]
        pairs = sorted(combinations(range(len(best)), 2), key=sum) if len(best) <= _FEW else []
        for pair in pairs[:_PAIRS]:
            if not self._can_look:
                return None
            base = _with(mask, [least[n] for n in pair], False)
            gains = yield from self._gains(base)
            order = self._order(gains, self.allowed & ~mask & (gains > 0))
            if order.size:
                reached, unit = yield from self._best(base, order)
                if reached:
                    return _with(base, [unit])
        return None


def _with(mask: Mask, units: Any, changed: bool = True) -> Mask:
    mask = mask.copy()
    mask[units] = changed
    return mask
