"""Uncertainty of means over images, added batch by batch: intervals, sign flips, Holm."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiaroscuro.errors import InputError, brief

Floats = NDArray[np.floating[Any]]
Doubles = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Interval:
    """Means (V,) with the lower and upper ends of their confidence intervals."""

    value: Doubles
    low: Doubles
    high: Doubles
    __repr__ = brief


def _generators(seed: int, images: int, rows: Floats) -> list[np.random.Generator]:
    """One for each image that rows (B, V) add to `images`."""
    if not np.isfinite(rows).all():
        raise InputError("rows hold values that are not finite: they have no mean")
    return [np.random.default_rng([seed, n]) for n in range(images, images + len(rows))]


class BootstrapMeans:
    """Means of V values per image, with percentile intervals over R resampled sets.

    A resampled set takes each image Poisson(1) times, so the number of images need not be known
    (Chamandy et al., Estimating uncertainty for massive data streams, 2012). The weights of the
    n-th image are drawn from (`seed`, n).
    """

    def __init__(self, values: int, resamples: int, seed: int) -> None:
        self.seed, self.resamples, self.images = seed, resamples, 0
        self._total, self._sums = np.zeros(values), np.zeros((resamples, values))
        self._weights = np.zeros(resamples)

    def add(self, rows: Floats) -> None:
        """Add the values of B images: (B, V)."""
        generators = _generators(self.seed, self.images, rows)
        drawn = [generator.poisson(1.0, self.resamples) for generator in generators]
        weights = np.array(drawn, np.float64).reshape(-1, self.resamples)
        self.images += len(rows)
        self._total += rows.sum(axis=0)
        self._sums += weights.T @ rows
        self._weights += weights.sum(axis=0)

    @property
    def resampled(self) -> Doubles:
        """The mean of every resampled set (R, V), without empty sets."""
        filled = self._weights > 0
        return np.divide(self._sums[filled], self._weights[filled, None])

    @property
    def mean(self) -> Doubles:
        """The means themselves (V,); raises `InputError` before an image is added."""
        if not self.images:
            raise InputError("no image is added: a mean needs at least one")
        return self._total / self.images

    def interval(self, confidence: float = 0.95) -> Interval:
        """The means with the percentiles of the resampled ones."""
        return interval(self.mean, self.resampled, confidence)


def interval(mean: Doubles, resampled: Doubles, confidence: float) -> Interval:
    """Means (V,) with the percentiles (1 -+ confidence) / 2 of resampled ones (R, V), if any."""
    outside = (1 - confidence) / 2
    if not len(resampled):
        return Interval(mean, mean, mean)
    low, high = np.quantile(resampled, [outside, 1 - outside], axis=0)
    return Interval(mean, low, high)


class SignFlips:
    """Two-sided p-values of V mean differences, by flipping the sign of whole images.

    If two maps do not differ, the sign of an image's difference is random; p is the share of
    `flips` random sign choices, and the observed one, whose mean is at least as far from 0.
    """

    def __init__(self, values: int, flips: int, seed: int) -> None:
        self.seed, self.flips, self.images = seed, flips, 0
        self._total, self._sums = np.zeros(values), np.zeros((flips, values))

    def add(self, rows: Floats) -> None:
        """Add the differences of B images: (B, V)."""
        size = -(-self.flips // 8)
        drawn = b"".join(each.bytes(size) for each in _generators(self.seed, self.images, rows))
        bits = np.frombuffer(drawn, np.uint8).reshape(-1, size)
        signs = np.unpackbits(bits, axis=1, count=self.flips).T.astype(np.float64)
        total = rows.sum(axis=0)
        self.images += len(rows)
        self._total += total
        self._sums += 2 * (signs @ rows) - total

    def p_values(self, weights: Doubles | None = None) -> Doubles:
        """One p for every difference (V,), at least 1 / (flips + 1).

        `weights` (V, T): for T weighted sums of the columns that were added instead.
        """
        total, sums = self._total, self._sums
        if weights is not None:
            total, sums = total @ weights, sums @ weights
        # Sums of the same numbers in another order differ by rounding; they are ties.
        limit = np.abs(total) - 1e-9 * (1 + np.abs(total))
        far = (np.abs(sums) >= limit).sum(axis=0)
        return np.asarray((1 + far) / (1 + self.flips))


def holm(p_values: Sequence[float] | Doubles) -> Doubles:
    """p-values corrected for their number by Holm's step-down method (1979).

    The i-th smallest of m is multiplied by m - i + 1; the cumulative maximum is cut at 1.
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    raised = p[order] * np.arange(len(p), 0, -1)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(np.maximum.accumulate(raised), 1)
    return corrected


def share_interval(right: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share, `right` of `count`; its width is above 0 at 0 and 1 too."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * (share * (1 - share) / count + z * z / (4 * count**2)) ** 0.5
    # The ends are exact, which rounding is not.
    return middle - half if right else 0.0, middle + half if right < count else 1.0
