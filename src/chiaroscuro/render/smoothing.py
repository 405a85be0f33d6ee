"""A view of a map that the eye can read at photo size."""

import numpy as np
from numpy.typing import NDArray


def smooth(values: NDArray[np.floating], sigma: float) -> NDArray[np.float64]:
    """A map (H, W) under a Gaussian of standard deviation sigma pixels, cut at 4 sigma.

    Near an edge the weights inside the map are scaled to sum to 1, so a constant map stays
    constant. Sigma 0 returns the map.

    >>> smooth(np.ones((5, 5)), 1.0).round(6).min()
    np.float64(1.0)
    """
    result = np.asarray(values, np.float64)
    if sigma <= 0:
        return result
    for axis in (0, 1):
        result = _along(result, sigma, axis) / _along(np.ones_like(result), sigma, axis)
    return result


def _along(values: NDArray[np.float64], sigma: float, axis: int) -> NDArray[np.float64]:
    length = values.shape[axis]
    reach = min(int(4 * sigma + 0.5), length - 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    wide = np.apply_along_axis(np.convolve, axis, values, kernel)
    return np.take(wide, range(reach, reach + length), axis=axis)
