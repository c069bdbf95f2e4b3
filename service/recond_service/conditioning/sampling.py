"""What the data themselves tell about their sampling: mask and calibration block."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_WHOLE_LINES = 0.9  # share of nonzero samples on the measured lines above which the few zeros are taken for measured


def calibration_extent(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Return (rows, columns) of the fully sampled block about the centre ``(rows // 2, columns // 2)``.

    Of all centred rectangles without a gap, the one with the longest shorter side; among those the largest.

    Parameters
    ----------
    mask
        bool (rows, columns).

    Returns
    -------
    tuple of int
        (0, 0) if the centre was not measured.
    """
    rows, columns = mask.shape
    if (mask == mask[0]).all():
        width = centred_run(mask[0])
        return (rows, width) if width else (0, 0)
    best = (0, 0)
    common = np.ones(columns, np.bool_)
    first = last = rows // 2
    for extent in range(1, rows + 1):
        start = rows // 2 - extent // 2
        for row in {min(start, first), max(start + extent - 1, last)} if extent > 1 else {start}:
            common &= mask[row]
        first, last = start, start + extent - 1
        width = centred_run(common)
        if width == 0:
            break
        candidate = (extent, width)
        best = max(best, candidate, key=lambda size: (min(size), size[0] * size[1]))
    return best


def centred_run(line: NDArray[np.bool_]) -> int:
    """Return the length m of the longest run of true values at ``[n // 2 - m // 2, + m)``."""
    middle = len(line) // 2
    if not line[middle]:
        return 0
    gaps_below, gaps_above = np.flatnonzero(~line[:middle]), np.flatnonzero(~line[middle:])
    below = middle - 1 - int(gaps_below[-1]) if gaps_below.size else middle
    above = int(gaps_above[0]) if gaps_above.size else len(line) - middle
    return 2 * above if below >= above else 2 * below + 1


def mask_from_zeros(kspace: NDArray[np.complex64]) -> NDArray[np.bool_]:
    """Return where a k-space without a mask was measured: where any coil is not zero.

    A sample may be zero by chance: where the nonzero samples nearly fill whole lines, the lines are taken for measured. A frame
    of zeros counts as measured everywhere, since its image is zero whatever was left out.

    Parameters
    ----------
    kspace
        (coils, rows, columns).

    Returns
    -------
    ndarray
        bool (rows, columns).
    """
    measured: NDArray[np.bool_] = np.asarray(np.any(kspace != 0, axis=0))
    if not measured.any():
        return np.ones(measured.shape, np.bool_)
    lines = np.logical_and.outer(measured.any(axis=1), measured.any(axis=0))
    return lines if measured.sum() >= _WHOLE_LINES * lines.sum() else measured
