"""Volumes taken from one scan to the grid of another: for matching and pictures, never for measuring."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from recond_models.heads.measurements import Grid


def labels_onto(
    labels: NDArray[Any], grid: Grid, matrix: NDArray[np.float64], target: Grid, shape: tuple[int, ...]
) -> NDArray[Any]:
    """Return a label map on another grid, by its nearest voxel.

    Parameters
    ----------
    labels, grid
        What is moved: integers (slices, rows, columns).
    matrix
        (4, 4): its positions to positions of the target, RAS+ mm.
    target, shape
        Grid and shape of the result; 0 where the source has no voxel.
    """
    return _onto(np.asarray(labels), grid, matrix, target, shape, 0)


def image_onto(
    image: NDArray[Any], grid: Grid, matrix: NDArray[np.float64], target: Grid, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Return an image on another grid, linear between voxels; parameters as in `labels_onto`."""
    return np.asarray(_onto(np.asarray(image, dtype=np.float32), grid, matrix, target, shape, 1), dtype=np.float32)


def _onto(
    values: NDArray[Any], grid: Grid, matrix: NDArray[np.float64], target: Grid, shape: tuple[int, ...], order: int
) -> NDArray[Any]:
    index = np.linalg.inv(grid.affine) @ np.linalg.inv(matrix) @ target.affine
    return np.asarray(ndimage.affine_transform(values, index[:3, :3], index[:3, 3], shape, order=order))


def is_covered(position: NDArray[np.float64], grid: Grid, shape: tuple[int, ...]) -> bool:
    """Tell whether a position (3,), RAS+ mm, lies in a field of view."""
    index = grid.indices(position[None])[0]
    return bool((index > -0.5).all() and (index < np.array(shape) - 0.5).all())
