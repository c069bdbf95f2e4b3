"""Where a volume lies: affine of voxel indices, and the distance of its slices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recond_service.types import FindingList, FinishedImage, Geometry

_EVEN = 0.01  # of the mean distance; by so much may slices deviate before it is said
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def slice_distance(geometries: Sequence[Geometry], findings: FindingList) -> float:
    """Return the distance of slices in mm from their positions (the thickness knows no gaps), or the thickness of a single one.

    Parameters
    ----------
    geometries
        In the order of the volume, which is that of the positions along the normal of the first.
    findings
        Gets ``"slices-uneven"``.
    """
    first = geometries[0]
    if len(geometries) == 1:
        return first.spacing[2] if first.spacing[2] > 0 else 1.0
    positions = np.array([geometry.position for geometry in geometries])
    along = positions @ np.array(first.slice_direction)
    distances = np.diff(along)
    mean = float(distances.mean())
    shear = np.abs(positions - positions[0] - np.outer(along - along[0], first.slice_direction)).max()
    if mean <= 0:
        findings.warn("slices-coincide", "Slices lie at one place: their thickness stands for their distance.")
        return first.spacing[2] if first.spacing[2] > 0 else 1.0
    if np.abs(distances - mean).max() > _EVEN * mean or shear > _EVEN * mean:
        findings.warn(
            "slices-uneven",
            f"Slices are not evenly spaced along their normal: {mean:.3f} mm, the mean, stands for all distances.",
        )
    return mean


def affine_of(volume: Sequence[FinishedImage], findings: FindingList) -> NDArray[np.float64]:
    """Return the NIfTI affine of a volume: voxel index (row, column, slice) to RAS+ mm.

    ``diag(-1, -1, 1) . [row . d_row | column . d_column | normal . d_slice | first pixel]``, the first pixel being that
    of index 0 on all axes. `Geometry.position` lies on pixel ``(rows // 2, columns // 2)``.

    Parameters
    ----------
    volume
        Slices in the order of the volume.
    findings
        Gets ``"geometry-missing"`` where the images have none; the affine is then the identity.
    """
    geometries = [image.geometry for image in volume if image.geometry is not None]
    if len(geometries) != len(volume):
        findings.warn("geometry-missing", "Images have no position and orientation: the NIfTI affine is the identity.")
        return np.eye(4)
    first = geometries[0]
    rows, columns = volume[0].pixels.shape
    along_rows = np.array(first.row_direction) * first.spacing[0]
    along_columns = np.array(first.column_direction) * first.spacing[1]
    along_slices = np.array(first.slice_direction) * slice_distance(geometries, findings)
    origin = np.array(first.position) - rows // 2 * along_rows - columns // 2 * along_columns
    affine = np.eye(4)
    affine[:3] = _LPS_TO_RAS @ np.column_stack([along_rows, along_columns, along_slices, origin])
    return affine
