"""Other ways to a small edit, each written from its paper as a search of one image.

All ask for the same gradients, those of the log-odds of the goal, and may use as many of them as
the search that they are compared with. Where a paper leaves the number of pixels to its reader, the
choice is made in favor of the method, and stands in its class.
"""

from dataclasses import dataclass

import numpy as np

from chiaroscuro.smallest.search import Mask, Search, Steps, Units


@dataclass(eq=False)
class Prefix(Search):
    """The shortest beginning of an order that reaches the goal, as far as halving finds."""

    given: Units | None = None
    shrink: bool = False

    def run(self) -> Steps:
        """Search."""
        mask = np.zeros_like(self.allowed)
        order = yield from self.order()
        order = order[self.allowed[order]]
        count = yield from self._doubled(mask, order)
        if count is None:
            return
        found = yield from self._first(mask, order, count // 2, count)
        self.reached, self.units = True, np.flatnonzero(found).tolist()
        if self.shrink:
            self.units = yield from self._shrink(found)

    def order(self) -> Steps:
        """All units, the most important first."""
        assert self.given is not None
        return self.given
        yield


class Gains(Prefix):
    """By one gradient times the change: the map expected-effect."""

    def order(self) -> Steps:
        """Its order."""
        gains = yield from self._gains(np.zeros_like(self.allowed))
        return self._order(gains, self.allowed)


class Samp(Prefix):
    """SAMP (arXiv:2401.10442): a path of changes by gradient times change, with momentum.

    Equal steps from the image on. They end where the first gradient's order reaches the goal, so
    that they are spread over the part of the path that matters here.
    """

    momentum = 0.5

    def order(self) -> Steps:
        """Its order."""
        mask = np.zeros_like(self.allowed)
        gains = yield from self._gains(mask)
        first = self._order(gains, self.allowed)
        bound = (yield from self._doubled(mask, first)) or len(first)
        step, taken = -(-bound // self.budget), list[int]()
        while mask.sum() < bound:
            units = self._order(gains, self.allowed & ~mask)[:step]
            taken.extend(units)
            mask[units] = True
            if self.gradients >= self.budget:
                break
            gains = self.momentum * gains + (1 - self.momentum) * (yield from self._gains(mask))
        return np.array([*taken, *self._order(gains, self.allowed & ~mask)])


class GreedyPig(Prefix):
    """Greedy PIG (arXiv:2311.06192): integrated gradients, computed again from the units chosen.

    A round integrates over `points` from the units so far to all units, and takes those of the
    highest sum. The rounds share the size at which the first gradient's order reaches the goal.
    """

    points = 4

    def order(self) -> Steps:
        """Its order."""
        mask = np.zeros_like(self.allowed)
        first = self._order((yield from self._gains(mask)), self.allowed)
        bound = (yield from self._doubled(mask, first)) or len(first)
        rounds = max(1, (self.budget - 1) // self.points)
        step, taken, total = -(-bound // rounds), list[int](), np.zeros(len(mask))
        for _ in range(rounds):
            total = np.zeros(len(mask))
            for point in range(self.points):
                share = (point + 0.5) / self.points
                total += yield from self._gains(np.where(mask, 1.0, share))
            units = self._order(total, self.allowed & ~mask)[:step]
            taken.extend(units)
            mask[units] = True
        return np.array([*taken, *self._order(total, self.allowed & ~mask)])


class Sis(Prefix):
    """Batched gradient SIS (arXiv:2003.08907): from all units changed, those of the lowest gradient
    are restored, an equal number a pass; the last ones to go come first in the order.
    """

    def order(self) -> Steps:
        """Its order."""
        mask, gone = self.allowed.copy(), list[int]()
        step = -(-int(mask.sum()) // self.budget)
        while mask.any():
            gains = yield from self._gains(mask)
            units = self._order(-gains, mask)[:step]
            gone.extend(units)
            mask[units] = False
        return np.array(gone[::-1])


class SparsePgd(Search):
    """Sparse-PGD (arXiv:2405.05075) with the change as its fixed magnitude: only its mask moves.

    The mask is the k highest entries of a tensor that takes steps along normalized gradients. Its k
    is given in the paper. Here it begins at the size at which the first gradient's order reaches
    the goal, and shrinks by a tenth whenever the mask reaches it.
    """

    rate = 0.25

    def run(self) -> Steps:
        """Search."""
        mask = np.zeros_like(self.allowed)
        gains = yield from self._gains(mask)
        first = self._order(gains, self.allowed)
        size = (yield from self._doubled(mask, first)) or len(first)
        height = np.random.default_rng(int(self.priority[0])).normal(size=len(mask)) * 1e-3
        while True:
            norm = np.sqrt((gains**2).sum())
            height = height + self.rate * np.sqrt(len(mask)) * gains / (norm or 1)
            mask = np.zeros_like(mask)
            mask[self._order(height, self.allowed)[:size]] = True
            while (yield from self._reaches(mask)):
                self.reached, self.units = True, np.flatnonzero(mask).tolist()
                if size == 1:
                    return
                size = min(size - 1, int(0.9 * size))
                mask = np.zeros_like(mask)
                mask[self._order(height, self.allowed)[:size]] = True
            if self.gradients >= self.budget:
                return
            gains = yield from self._gains(mask)


class SparseEvo(Search):
    """SparseEvo (arXiv:2202.00091) from the changed image as its fixed start: predictions alone.

    A population of masks that reach the goal; a child takes each unit of the best one or of another
    one, and loses a share of its units; the worst one gives way to a child that is smaller and
    reaches the goal.
    """

    population = 10
    mutation = 0.01
    predictions_a_gradient = 64

    def run(self) -> Steps:
        """Search."""
        source = np.random.default_rng(int(self.priority[0]))
        everything = self.allowed.copy()
        if not (yield from self._reaches(everything)):
            return
        masks = []
        for _ in range(self.population):
            mask: Mask = everything & (source.random(len(everything)) < 0.996)
            masks.append(mask if (yield from self._reaches(mask)) else everything)
        most = self.budget * self.predictions_a_gradient
        for _ in range(most - self.predictions):
            masks.sort(key=lambda mask: mask.sum())
            one, two = source.choice(self.population - 1, 2, replace=False) + 1
            cross, other = source.random(len(everything)) < 0.5, source.random() < 0.5
            child = np.where(cross, masks[0], masks[one if other else two])
            ones = np.flatnonzero(child)
            lost = min(len(ones), max(1, round(self.mutation * len(ones))))
            child[source.choice(ones, lost, replace=False) if lost else ones] = False
            if child.sum() < masks[-1].sum() and (yield from self._reaches(child)):
                masks[-1] = child
            if masks[0].sum() == 1:
                break
        best = min(masks, key=lambda mask: mask.sum())
        self.reached, self.units = True, np.flatnonzero(best).tolist()


class Grown(Search):
    """Our search as far as growth and removal, without swaps."""

    _can_look = property(lambda _: False)
