"""Attention maps: what each place of an image contributes to the score of a class. Free of torch.

They come on the coarse grid of the network's last features, a cell for some hundred pixels, and are interpolated on the pixels of
the image for display.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recond_models.heads.framing import SLICE_SIDE, Framing

NO_ATTENTION: Final = (0, 0)
"""Grid of heads that have no attention map."""

_MOST_LEVELS: Final = 16


def attention_grid(architecture: Mapping[str, Any]) -> tuple[int, int]:
    """Return rows and columns of the attention map that a head of an architecture makes of a slice.

    Parameters
    ----------
    architecture
        As in a manifest; see `recond_models.heads.families`.

    Returns
    -------
    tuple of int
        `NO_ATTENTION` where it makes none: the sum over places is exact for networks of the family ``series`` alone.
    """
    widths = architecture.get("widths")
    if architecture.get("family") != "series" or not isinstance(widths, list) or len(widths) > _MOST_LEVELS:
        return NO_ATTENTION
    side = SLICE_SIDE // 2
    for _ in widths[1:]:
        side = -(-side // 2)
    return side, side


def on_image(cells: NDArray[np.floating], framing: Framing) -> NDArray[np.float32]:
    """Interpolate a map, linearly, on the pixels of an image.

    Parameters
    ----------
    cells
        (..., rows, columns): values of cells that cover what the network sees.
    framing
        What the network sees of the image.

    Returns
    -------
    ndarray
        float32 (..., rows, columns) of the image. A pixel in the middle of a cell has the value of the cell; those beyond the
        middle of the outermost cells have theirs.
    """
    down, across = (_weights(cells.shape[axis - 2], framing, axis) for axis in (0, 1))
    found: NDArray[np.float32] = np.matmul(np.matmul(down, cells.astype(np.float32)), across.T)
    return found


def _weights(cells: int, framing: Framing, axis: int) -> NDArray[np.float32]:
    """Return how much each cell counts for each pixel along an axis, (pixels, cells)."""
    pixels = framing.size[axis]
    seen = (np.arange(pixels) + 0.5) * framing.resampled[axis] / pixels - framing.start[axis]
    place = np.clip(seen * cells / framing.seen[axis] - 0.5, 0, cells - 1)
    below = np.minimum(place.astype(np.intp), cells - 1)
    above = np.minimum(below + 1, cells - 1)
    weights = np.zeros((pixels, cells), np.float32)
    np.add.at(weights, (np.arange(pixels), below), 1 - (place - below))
    np.add.at(weights, (np.arange(pixels), above), place - below)
    return weights
