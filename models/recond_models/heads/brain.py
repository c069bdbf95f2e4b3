"""The brain as masks of it usually are: with the fluid in its furrows and ventricles, without the fluid around it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FURROW_MM = 6.0
"""Furrows up to twice as wide are closed."""

RIM_MM = 1.5
"""Masks of the brain take in the pia and the voxels that are partly brain."""


def brain_mask(labels: NDArray[np.uint8], spacing: tuple[float, float, float], fluid: int = 1) -> NDArray[np.bool_]:
    """Return where the brain is, with the fluid between its parts.

    All classes but the background and the fluid, closed morphologically by a ball of `FURROW_MM`; of what that adds, the labelled
    voxels count. Then all within `RIM_MM` of that.

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
    padded = np.pad(labels, [(margin, margin) for margin in margins])
    window = tuple(slice(part.start, part.stop + 2 * margin) for part, margin in zip(box, margins, strict=True))
    cut = padded[window]
    brain = (cut > 0) & (cut != fluid)
    near = ndimage.distance_transform_edt(~brain, sampling=spacing) <= FURROW_MM
    closed = ndimage.distance_transform_edt(near, sampling=spacing) > FURROW_MM
    brain |= ndimage.binary_fill_holes(closed) & (cut > 0)
    grown = np.zeros(padded.shape, dtype=np.bool_)
    grown[window] = ndimage.distance_transform_edt(~brain, sampling=spacing) <= RIM_MM
    mask: NDArray[np.bool_] = grown[tuple(slice(margin, -margin) for margin in margins)]
    return mask
