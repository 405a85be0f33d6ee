"""Uncertainty of means over images: bootstrap intervals, sign-flip tests, Holm's correction.

Images are added batch by batch: memory depends on the number of values, not of images, and the
result does not depend on how images are split into batches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chiaroscuro.errors import ChoiceError, InputError, brief

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Interval:
    """Means (V,) with the lower and upper ends of their confidence intervals."""

    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    __repr__ = brief


def _check(rows: Floats, images: int) -> range:
    """The numbers of the images that rows (B, V) add to `images`."""
    if not np.isfinite(rows).all():
        raise InputError("rows hold values that are not finite: they have no mean")
    return range(images, images + len(rows))


class BootstrapMeans:
    """Means of V values per image, with percentile intervals over `resamples` resampled sets.

    A resampled set takes each image Poisson(1) times, so the number of images need not be known.
    The weights of the n-th image are drawn from (`seed`, n). Adding values that are not finite
    raises `InputError`.
    Source: Chamandy et al., Estimating uncertainty for massive data streams, 2012.

    >>> means = BootstrapMeans(values=1, resamples=200, seed=0)
    >>> means.add(np.arange(100, dtype=float)[:, None])
    >>> result = means.interval()
    >>> float(result.value[0]), bool(result.low[0] < 49.5 < result.high[0])
    (49.5, True)
    """

    def __init__(self, values: int, resamples: int, seed: int) -> None:
        self.seed = seed
        self.images = 0
        self._total = np.zeros(values)
        self._sums = np.zeros((resamples, values))
        self._weights = np.zeros(resamples)

    def add(self, rows: Floats) -> None:
        """Add the values of B images: (B, V)."""
        weights = np.empty((len(rows), len(self._weights)))
        for weight, n in zip(weights, _check(rows, self.images), strict=True):
            weight[:] = np.random.default_rng([self.seed, n]).poisson(1.0, len(weight))
        self.images += len(rows)
        self._total += rows.sum(axis=0)
        self._sums += weights.T @ rows
        self._weights += weights.sum(axis=0)

    @property
    def resampled(self) -> NDArray[np.float64]:
        """The mean of every resampled set (R, V), without empty sets."""
        filled = self._weights > 0
        means: NDArray[np.float64] = self._sums[filled] / self._weights[filled, None]
        return means

    @property
    def mean(self) -> NDArray[np.float64]:
        """The means themselves (V,); raises `InputError` before an image is added."""
        if not self.images:
            raise InputError("no image is added: a mean needs at least one")
        return self._total / self.images

    def interval(self, confidence: float = 0.95) -> Interval:
        """The means with the percentiles of the resampled ones."""
        return interval(self.mean, self.resampled, confidence)


def interval(
    mean: NDArray[np.float64], resampled: NDArray[np.float64], confidence: float
) -> Interval:
    """Means (V,) with the percentiles (1 -+ confidence) / 2 of resampled ones (R, V).

    Without a resampled one they are the means themselves.
    """
    outside = (1 - _coverage(confidence)) / 2
    if not len(resampled):
        return Interval(mean, mean, mean)
    low, high = np.quantile(resampled, [outside, 1 - outside], axis=0)
    return Interval(mean, low, high)


class SignFlips:
    """Two-sided p-values of V mean differences, by flipping the sign of whole images.

    If two maps do not differ, the sign of an image's difference is random; p is the share of
    `flips` random sign choices, and the observed one, whose mean is at least as far from 0. The
    signs of the n-th image are drawn from (`seed`, n).

    >>> flips = SignFlips(values=1, flips=999, seed=0)
    >>> flips.add(np.ones((20, 1)))
    >>> flips.p_values().tolist()
    [0.001]
    """

    def __init__(self, values: int, flips: int, seed: int) -> None:
        self.seed, self.flips = seed, flips
        self.images = 0
        self._total = np.zeros(values)
        self._sums = np.zeros((flips, values))

    def add(self, rows: Floats) -> None:
        """Add the differences of B images: (B, V)."""
        bits = np.empty((len(rows), -(-self.flips // 8)), np.uint8)
        for row, n in zip(bits, _check(rows, self.images), strict=True):
            row[:] = np.frombuffer(np.random.default_rng([self.seed, n]).bytes(len(row)), np.uint8)
        signs = np.unpackbits(bits, axis=1, count=self.flips).T.astype(np.float64)
        total = rows.sum(axis=0)
        self.images += len(rows)
        self._total += total
        self._sums += 2 * (signs @ rows) - total

    def p_values(self) -> NDArray[np.float64]:
        """One p for every difference (V,), at least 1 / (flips + 1)."""
        # Sums of the same numbers in another order differ by rounding; they are ties.
        limit = np.abs(self._total) - 1e-9 * (1 + np.abs(self._total))
        far = (np.abs(self._sums) >= limit).sum(axis=0)
        p: NDArray[np.float64] = (1 + far) / (1 + self.flips)
        return p


def holm(p_values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """p-values corrected for their number by Holm's step-down method (1979).

    The i-th smallest of m is multiplied by m - i + 1; the cumulative maximum is cut at 1.

    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    raised = p[order] * np.arange(len(p), 0, -1)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(np.maximum.accumulate(raised), 1)
    return corrected


def share_interval(right: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share, `right` of `count`; its width is above 0 at 0 and 1 too.

    Raises `InputError` for a count below 1.

    >>> tuple(round(end, 3) for end in share_interval(8, 10))
    (0.49, 0.943)
    """
    if count < 1:
        raise InputError(f"count is {count}: a share needs at least one image")
    z = NormalDist().inv_cdf((1 + _coverage(confidence)) / 2)
    share = right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * (share * (1 - share) / count + z * z / (4 * count**2)) ** 0.5
    # The ends are exact, which rounding is not.
    return middle - half if right else 0.0, middle + half if right < count else 1.0


def _coverage(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ChoiceError(f"confidence is {confidence}: expected a number in (0, 1)")
    return confidence
