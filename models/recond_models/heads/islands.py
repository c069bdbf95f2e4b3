"""What a head says of places far from the organ that it knows is taken back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_SHARE = 0.2
_CORE_MM = 2.0


def without_islands(
    labels: NDArray[np.uint8], spacing: tuple[float, float, float], fluid: int | None = None
) -> NDArray[np.uint8]:
    """Return labels of the organ alone: small pieces that do not hang together with it become background.

    Thin bridges do not count as hanging together: pieces are those of the organ without its outermost layer, each given back what
    lies next to it.

    Parameters
    ----------
    labels
        uint8 (slices, rows, columns), 0 for background.
    spacing
        Distance of slices, of rows and of columns, mm.
    fluid
        A class that surrounds the organ and belongs to it where it touches it; None if there is none.

    Returns
    -------
    ndarray
        uint8 (slices, rows, columns).
    """
    organ = labels > 0 if fluid is None else (labels > 0) & (labels != fluid)
    layers = [max(0, round(_CORE_MM / step)) for step in spacing]
    core = ndimage.binary_erosion(organ, _box([0, *layers[1:]])) if max(layers[1:]) else organ
    pieces, count = ndimage.label(core)
    if count == 0:
        return labels
    sizes = np.bincount(pieces.ravel())[1:]
    wanted = np.flatnonzero(sizes >= _SHARE * sizes.max()) + 1
    kept = ndimage.binary_dilation(np.isin(pieces, wanted), _box([0, *layers[1:]]), iterations=2, mask=organ)
    if fluid is not None:
        around, _ = ndimage.label(kept | (labels == fluid))
        touching = np.zeros(int(around.max()) + 1, dtype=bool)
        touching[np.unique(around[kept])] = True
        touching[0] = False
        kept = touching[around]
    return np.where(kept, labels, 0).astype(np.uint8)


def _box(layers: list[int]) -> NDArray[np.bool_]:
    """Return a box that reaches so many voxels to either side."""
    return np.ones([2 * layer + 1 for layer in layers], dtype=bool)
