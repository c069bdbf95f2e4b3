"""Diameters of a lesion: the longest in space, and the longest in a slice with its perpendicular.

Distances are between points of the outlines in the slices, half way from a pixel of the lesion to its neighbour outside, where a
reader would draw them. From centre to centre a lesion would come out about a pixel too short, and a single voxel 0 mm. Between
slices nothing is added: half a slice of 5 mm at both ends makes a lesion of 18 mm 2.5 mm too long, without it the error is 0.3 mm
(measured; docs/follow-up.md). A lesion in one slice has its in-plane diameter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist, squareform

from recond_models.heads.measurements.errors import LabelMapError
from recond_models.heads.measurements.grid import Grid


@dataclass(frozen=True, slots=True)
class Diameters:
    """Diameters of one lesion, mm.

    Parameters
    ----------
    longest_mm
        Greatest distance of two points of its outlines, in any direction (the Feret diameter).
    in_plane_mm
        The same within one slice, in the slice where it is greatest, as RECIST 1.1 and RANO measure it.
    perpendicular_mm
        Longest line across the outline's convex hull in that slice, at right angles to the in-plane diameter.
    slice_index
        That slice of the volume.
    """

    longest_mm: float
    in_plane_mm: float
    perpendicular_mm: float
    slice_index: int


def diameters(mask: NDArray[np.bool_], grid: Grid, first: tuple[int, int, int] = (0, 0, 0)) -> Diameters:
    """Measure the diameters of a lesion.

    Parameters
    ----------
    mask
        bool (slices, rows, columns): the lesion, or a box around it.
    grid
        Of the volume.
    first
        Index of the first voxel of the mask in the volume.

    Raises
    ------
    LabelMapError
        The mask is empty.
    """
    if not mask.any():
        raise LabelMapError("an empty mask has no diameter")
    to_plane = _plane(grid)
    best = (0.0, 0.0, 0)
    points = []
    for index in np.flatnonzero(mask.any(axis=(1, 2))):
        outline = _outline(mask[index])
        corners = outline[ConvexHull(outline).vertices]
        points.append(np.column_stack([np.full(len(corners), index), corners]) @ grid.affine[:3, :3].T)
        found = _in_plane(corners @ to_plane)
        if found[0] > best[0]:
            best = (*found, int(index) + first[0])
    corners = np.concatenate(points)
    if len(points) > 1:
        corners = corners[ConvexHull(corners).vertices]
    return Diameters(float(pdist(corners).max()), *best)


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the middles of the edges between inside and outside of a slice, as indices (points, 2)."""
    padded = np.pad(mask, 1).astype(np.int8)
    points = []
    for axis in (0, 1):
        edges = np.argwhere(np.diff(padded, axis=axis)).astype(np.float64)
        edges[:, axis] += 0.5
        points.append(edges - 1)
    return np.concatenate(points)


def _plane(grid: Grid) -> NDArray[np.float64]:
    """Return the matrix (2, 2) from indices (row, column) to mm along two axes at right angles in the slice."""
    along_rows, along_columns = grid.affine[:3, 1], grid.affine[:3, 2]
    first = along_rows / np.linalg.norm(along_rows)
    second = along_columns - (along_columns @ first) * first
    second /= np.linalg.norm(second)
    return np.array([[along_rows @ first, along_rows @ second], [along_columns @ first, along_columns @ second]])


def _in_plane(outline: NDArray[np.float64]) -> tuple[float, float]:
    """Return the longest diameter of a convex polygon (corners in order, 2) and its perpendicular, mm."""
    distances = squareform(pdist(outline))
    start, end = np.unravel_index(int(distances.argmax()), distances.shape)
    longest = float(distances[start, end])
    return longest, _perpendicular(outline, int(start), int(end))


def _perpendicular(outline: NDArray[np.float64], start: int, end: int) -> float:
    """Return the longest line across a convex polygon at right angles to its longest diameter, mm.

    The length is linear between the corners, so it is greatest at one of them.
    """
    along = outline[end] - outline[start]
    along /= np.linalg.norm(along)
    across = np.array([-along[1], along[0]])
    low, high = sorted((start, end))
    sides = (outline[low : high + 1], np.concatenate([outline[high:], outline[: low + 1]]))
    places = outline @ along
    heights = []
    for side in sides:
        order = np.argsort(side @ along, kind="stable")
        heights.append(np.interp(places, (side @ along)[order], (side @ across)[order]))
    return float(np.abs(heights[0] - heights[1]).max())
