"""Means over images to typed figures."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from chiaroscuro.metrics.intervals import Interval as Ends
from chiaroscuro.results.facts import Interval

DIGITS = 12
"""Figures are rounded here, so that a summary that is computed again is the same text."""


def rounded(value: object) -> float:
    """One figure."""
    return round(float(value), DIGITS)  # type: ignore[arg-type]  # NumPy's or Python's


def all_rounded(values: Iterable[object]) -> tuple[float, ...]:
    """Several figures."""
    return tuple(map(rounded, values))


def interval_at(ends: Ends, *place: int) -> Interval:
    """One of the means with its interval."""
    return Interval(*(rounded(end[place]) for end in (ends.value, ends.low, ends.high)))


def reshaped(ends: Ends, *shape: int) -> Ends:
    """Means and interval ends in another shape."""
    value, low, high = (end.reshape(shape) for end in (ends.value, ends.low, ends.high))
    return Ends(value, low, high)


def resampled_interval(
    value: float, resampled: NDArray[np.float64], confidence: float
) -> Interval | None:
    """A figure with the percentiles of its resampled values; None where it has no value."""
    known = resampled[np.isfinite(resampled)]
    if not np.isfinite(value) or not known.size:
        return None
    outside = (1 - confidence) / 2
    low, high = np.quantile(known, [outside, 1 - outside])
    return Interval(rounded(value), rounded(low), rounded(high))
