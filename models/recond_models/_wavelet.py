"""The finest diagonal coefficients of an orthonormal wavelet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Daubechies 1988, doi:10.1002/cpa.3160410705: high-pass filter of four taps, two vanishing moments.
_ROOT = np.sqrt(3.0)
_HIGH_PASS = np.array([1 - _ROOT, -(3 - _ROOT), 3 + _ROOT, -(1 + _ROOT)]) / (4 * np.sqrt(2.0))
_TAPS = _HIGH_PASS.size


def finest_diagonal(images: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Filter along rows and columns with the high-pass filter, every second position.

    Parameters
    ----------
    images
        (slices, rows, columns), at least 4 rows and columns.

    Returns
    -------
    coefficients
        (slices, positions, positions); independent noise keeps its standard deviation.
    lowest
        Same shape: the smallest pixel under each filter.
    """
    coefficients, lowest = images, images
    for axis in (1, 2):
        high = [weight * tap for weight, tap in zip(_HIGH_PASS, _taps(coefficients, axis), strict=True)]
        coefficients = high[0] + high[1] + high[2] + high[3]
        low = _taps(lowest, axis)
        lowest = np.minimum(np.minimum(low[0], low[1]), np.minimum(low[2], low[3]))
    return coefficients, lowest


def _taps(images: NDArray[np.float64], axis: int) -> list[NDArray[np.float64]]:
    """Return, for each tap of the filter, what it sees at every second position along an axis."""
    positions = (images.shape[axis] - _TAPS) // 2 + 1
    along = np.moveaxis(images, axis, -1)
    return [np.moveaxis(along[..., tap : tap + 2 * positions - 1 : 2], -1, axis) for tap in range(_TAPS)]
