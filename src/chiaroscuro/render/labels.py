"""Words in figures: shares, and names beside the ends of lines, moved apart where they meet."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def percent(share: float) -> str:
    """A share in percent; one that is not quite none or all says so.

    >>> percent(0.123), percent(0.0001), percent(0.9999)
    ('12.3 %', '< 0.1 %', '> 99.9 %')
    """
    if 0 < share < 0.001:
        return "< 0.1 %"
    if 0.9995 < share < 1:
        return "> 99.9 %"
    return f"{100 * share:.1f} %"


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> NDArray[np.float64]:
    """Places within [low, high], at least `gap` apart, in the order of `wanted` and nearest to it.

    Nearest in the sum of squares, before the ends are cut to [low, high]. Where so many do not fit,
    they share the room evenly.

    >>> spread([0.1, 0.1, 0.9], 0.2, 0.0, 1.0).round(2).tolist()
    [0.0, 0.2, 0.9]
    """
    count = len(wanted)
    if count == 0:
        return np.zeros(0)
    gap = min(gap, (high - low) / max(count - 1, 1))
    order = np.argsort(wanted, kind="stable")
    steps = gap * np.arange(count)
    base = _rising(np.asarray(wanted, float)[order] - steps)
    places = np.empty(count)
    places[order] = np.clip(base, low, high - steps[-1]) + steps
    return places


def _rising(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The non-decreasing sequence nearest to the values: neighbors that fall share their mean."""
    blocks: list[tuple[float, int]] = []
    for value in values.tolist():
        mean, size = value, 1
        while blocks and blocks[-1][0] > mean:
            before, count = blocks.pop()
            mean, size = (before * count + mean * size) / (count + size), count + size
        blocks.append((mean, size))
    return np.repeat([mean for mean, _ in blocks], [size for _, size in blocks])
