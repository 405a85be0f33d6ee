"""How many images, classes and points go through the network together."""

import math
from dataclasses import dataclass

from chiaroscuro.errors import ChoiceError

WORKING_SET = 320 * 2**20
"""Bytes that autograd may keep by default: larger batches leave the cache and gain nothing."""
_BACKWARD_SHARE = 1.6
"""Peak of a backward pass over the bytes saved by its forward: with it the budgets of
`benchmarks.memory` are kept (peaks of 78 to 94 % on EfficientNet-Lite0)."""
_FORWARD_SHARE = 10
"""A graph is built once for at least this many backward passes, so that its cost stays small."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Rows of one batch are `points` x `images` x `slots`, every row one class of one image."""

    images: int
    slots: int
    points: int

    @property
    def rows(self) -> int:
        """Rows of one batch."""
        return self.images * self.slots * self.points


def make_plan(
    images: int, slots: int, points: int, row_bytes: int, memory_budget: int | None = None
) -> Plan:
    """The batch for B images, M class slots and P points, given the bytes saved a row.

    One graph serves many backward passes, each for `slots` classes of `images` images. Points of
    one image stay together as far as they fit, so that one backward averages them.
    Raises `ChoiceError` for a budget that is not positive.
    """
    if memory_budget is not None and memory_budget <= 0:
        raise ChoiceError(f"memory_budget is {memory_budget}: expected bytes above 0, or None")
    bytes_kept = WORKING_SET if memory_budget is None else memory_budget / _BACKWARD_SHARE
    rows = max(1, int(bytes_kept // row_bytes))
    together = min(points, rows)
    rows //= together
    passes = max(_FORWARD_SHARE, math.ceil(slots / math.ceil(rows / images)))
    per_pass = max(1, math.ceil(slots / passes))
    return Plan(max(1, min(images, rows // per_pass)), per_pass, together)
