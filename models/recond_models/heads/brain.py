"""The brain as masks of it usually are: with the fluid in its furrows and ventricles, without the fluid around it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FURROW_MM = 6.0
"""Furrows up to twice as wide are closed."""


def brain_mask(labels: NDArray[np.uint8], spacing: tuple[float, float, float], fluid: int = 1) -> NDArray[np.bool_]:
    """Return where the brain is, with the fluid between its parts.

    All classes but the background and the fluid, closed morphologically by a ball of `FURROW_MM`; of what that adds, the labelled
    voxels count.

    Parameters
    ----------
    labels
        uint8 (slices, rows, columns), 0 for background.
    spacing
        Distance of slices, of rows and of columns, mm.
    fluid
        The class of cerebrospinal fluid.

    Returns
    -------
    ndarray
        bool (slices, rows, columns).
    """
    tissue: NDArray[np.bool_] = (labels > 0) & (labels != fluid)
    (box,) = ndimage.find_objects(tissue.astype(np.uint8)) or (None,)
    if box is None:
        return tissue
    margins = [int(np.ceil(FURROW_MM / step)) + 1 for step in spacing]
    padded = np.pad(tissue[box], [(margin, margin) for margin in margins])
    near = ndimage.distance_transform_edt(~padded, sampling=spacing) <= FURROW_MM
    closed = ndimage.distance_transform_edt(near, sampling=spacing) > FURROW_MM
    inner = closed[tuple(slice(margin, -margin) for margin in margins)]
    mask: NDArray[np.bool_] = tissue.copy()
    mask[box] |= ndimage.binary_fill_holes(inner) & (labels[box] > 0)
    return mask
