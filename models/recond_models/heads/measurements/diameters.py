"""Diameters of a lesion: the longest in space, and the longest in a slice with its perpendicular.

Distances are between points of the surface half way from a voxel of the lesion to its neighbour outside, where the mesh of the
Image Biomarker Standardisation Initiative has its vertices (feature "maximum 3D diameter", L0JK). From centre to centre a lesion
would come out one voxel too short, and a single voxel 0 mm; from corner to corner too long.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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
        Greatest distance of two points of its surface, in any direction (the Feret diameter).
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
    surface = _corners(_surface(mask) @ grid.affine[:3, :3].T)
    best = (0.0, 0.0, 0)
    for index in np.flatnonzero(mask.any(axis=(1, 2))):
        found = _in_plane(mask[index], grid)
        if found[0] > best[0]:
            best = (*found, int(index) + first[0])
    return Diameters(float(pdist(surface).max()), *best)


def _surface(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the centres of the faces (or edges) between inside and outside, as indices (points, axes)."""
    padded = np.pad(mask, 1)
    points = []
    for axis in range(mask.ndim):
        faces = np.argwhere(np.diff(padded.astype(np.int8), axis=axis)).astype(np.float64)
        faces[:, axis] += 0.5
        points.append(faces - 1)
    return np.concatenate(points)


def _corners(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the points on the convex hull; in the plane, in order around it."""
    return np.asarray(points[ConvexHull(points).vertices])


def _in_plane(mask: NDArray[np.bool_], grid: Grid) -> tuple[float, float]:
    """Return the longest diameter of a slice and its perpendicular, mm."""
    along_rows, along_columns = grid.affine[:3, 1], grid.affine[:3, 2]
    first = along_rows / np.linalg.norm(along_rows)
    second = along_columns - (along_columns @ first) * first
    second /= np.linalg.norm(second)
    to_plane = np.array([[along_rows @ first, along_rows @ second], [along_columns @ first, along_columns @ second]])
    outline = _corners(_surface(mask) @ to_plane)
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
