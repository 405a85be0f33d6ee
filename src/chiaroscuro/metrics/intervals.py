"""How sure a mean over images is: bootstrap intervals, sign-flip tests, Holm's correction.

Images are added batch by batch; memory depends on the number of figures, never of images, and the
result does not depend on how images are split into batches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Interval:
    """Means (V,) with the lower and upper ends of their confidence intervals."""

    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


class BootstrapMeans:
    """Means of V values an image, with percentile intervals over `resamples` resampled sets.

    A resampled set takes each image Poisson(1) times, which needs no number of images beforehand
    (Chamandy et al., Estimating uncertainty for massive data streams, 2012). The weights of the
    n-th image are drawn from (`seed`, n).

    >>> means = BootstrapMeans(values=1, resamples=200, seed=0)
    >>> means.add(np.arange(100, dtype=float)[:, None])
    >>> found = means.interval()
    >>> float(found.value[0]), bool(found.low[0] < 49.5 < found.high[0])
    (49.5, True)
    """

    def __init__(self, values: int, resamples: int, seed: int) -> None:
        self.seed = seed
        self.images = 0
        self._total = np.zeros(values)
        self._sums = np.zeros((resamples, values))
        self._weights = np.zeros(resamples)

    def add(self, rows: Floats) -> None:
        """Count images in: (B, V)."""
        drawn = np.stack(
            [
                np.random.default_rng([self.seed, n]).poisson(1.0, len(self._weights))
                for n in range(self.images, self.images + len(rows))
            ],
            dtype=np.float64,
        )
        self.images += len(rows)
        self._total += rows.sum(axis=0)
        self._sums += drawn.T @ rows
        self._weights += drawn.sum(axis=0)

    @property
    def resampled(self) -> NDArray[np.float64]:
        """The mean of every resampled set (R, V); sets that came out empty are left out."""
        filled = self._weights > 0
        found: NDArray[np.float64] = self._sums[filled] / self._weights[filled, None]
        return found

    @property
    def mean(self) -> NDArray[np.float64]:
        """The means themselves (V,)."""
        return self._total / self.images

    def interval(self, confidence: float = 0.95) -> Interval:
        """The means with the percentiles of the resampled ones."""
        return interval(self.mean, self.resampled, confidence)


def interval(
    mean: NDArray[np.float64], resampled: NDArray[np.float64], confidence: float
) -> Interval:
    """Means (V,) with the percentiles of resampled ones (R, V)."""
    outside = (1 - confidence) / 2
    low, high = np.quantile(resampled, [outside, 1 - outside], axis=0)
    return Interval(mean, low, high)


class SignFlips:
    """Two-sided p-values of V mean differences, by flipping the sign of whole images.

    Were two maps alike, an image's difference could as well have had the other sign; p is the share
    of `flips` random sign choices, the real one counted, whose mean is at least as far from 0. The
    signs of the n-th image are drawn from (`seed`, n).
    """

    def __init__(self, values: int, flips: int, seed: int) -> None:
        self.seed, self.flips = seed, flips
        self.images = 0
        self._total = np.zeros(values)
        self._sums = np.zeros((flips, values))

    def add(self, rows: Floats) -> None:
        """Count images in: differences (B, V)."""
        size = -(-self.flips // 8)
        bits = np.stack(
            [
                np.frombuffer(np.random.default_rng([self.seed, n]).bytes(size), np.uint8)
                for n in range(self.images, self.images + len(rows))
            ]
        )
        signs = np.unpackbits(bits, axis=1, count=self.flips).T.astype(np.float64)
        total = rows.sum(axis=0)
        self.images += len(rows)
        self._total += total
        self._sums += 2 * (signs @ rows) - total

    def p_values(self) -> NDArray[np.float64]:
        """One p for every difference (V,), never below 1 / (flips + 1)."""
        # Sums of the same numbers in another order differ by rounding; they are ties.
        limit = np.abs(self._total) - 1e-9 * (1 + np.abs(self._total))
        far = (np.abs(self._sums) >= limit).sum(axis=0)
        found: NDArray[np.float64] = (1 + far) / (1 + self.flips)
        return found


def holm(p_values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    """p-values corrected for their number: Holm's step-down method (1979).

    The i-th smallest of m is multiplied by m - i + 1, made monotone, and cut at 1.

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
    """Wilson's interval of a share, `right` of `count`; honest at 0 and 1 too.

    >>> tuple(round(end, 3) for end in share_interval(8, 10))
    (0.49, 0.943)
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share = right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * (share * (1 - share) / count + z * z / (4 * count**2)) ** 0.5
    return middle - half, middle + half
