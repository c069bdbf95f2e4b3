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
    windows = np.lib.stride_tricks.sliding_window_view(images, (_TAPS, _TAPS), axis=(1, 2))[:, ::2, ::2]
    coefficients = np.einsum("srcij,i,j->src", windows, _HIGH_PASS, _HIGH_PASS, optimize=True)
    return coefficients, windows.min(axis=(-2, -1))
