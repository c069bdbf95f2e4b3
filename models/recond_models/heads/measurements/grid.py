"""Where the voxels of a volume lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recond_models.heads.measurements.errors import GridError, SpacingUnknownError

_SMALLEST: Final = 0.01
_LARGEST: Final = 100.0
_SAME: Final = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Position of the voxels of a volume (slices, rows, columns) in patient coordinates.

    The axes may point anywhere, be left-handed, have different spacings, and be sheared (a tilted gantry): volumes come from the
    determinant, distances from positions.

    Parameters
    ----------
    affine
        (4, 4): index (slice, row, column) of a voxel to the position of its centre, RAS+ mm (to the right, front and top).

    Raises
    ------
    GridError
        The affine is not (4, 4), has values that are not finite, is singular, or has a spacing outside 0.01 to 100 mm.
    """

    affine: NDArray[np.float64]

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise GridError(f"an affine is 4 x 4 and finite, got {affine.shape}: {affine.tolist()}")
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        if spacing.min() < _SMALLEST or spacing.max() > _LARGEST:
            raise GridError(
                f"voxels of {_SMALLEST} to {_LARGEST} mm are measured, got a spacing of {spacing.tolist()} mm"
            )
        if abs(np.linalg.det(affine[:3, :3])) < _SAME * spacing.prod():
            raise GridError(f"the axes of the affine lie in one plane: {affine.tolist()}")
        affine.setflags(write=False)
        object.__setattr__(self, "affine", affine)

    @classmethod
    def from_spacing(cls, spacing: Sequence[float]) -> Grid:
        """Return the grid of a volume of which the spacing alone is known.

        It lies as axial slices are looked at: slices run to the top, rows to the back, columns to the left of the patient.

        Parameters
        ----------
        spacing
            Distances of slices, rows and columns in mm.

        Raises
        ------
        SpacingUnknownError
            A distance is zero, negative or not finite: the file does not say it.
        GridError
            There are not three, or they cannot be those of images.
        """
        if len(spacing) != 3:
            raise GridError(f"a spacing has three values (slices, rows, columns), got {list(spacing)}")
        if not all(np.isfinite(one) and one > 0 for one in spacing):
            raise SpacingUnknownError(
                f"the spacing {list(spacing)} says nothing: give the distances of the voxels in mm"
            )
        slices, rows, columns = (float(one) for one in spacing)
        affine = np.zeros((4, 4))
        affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = slices, -rows, -columns, 1
        return cls(affine)

    @classmethod
    def from_nifti(cls, affine: NDArray[Any]) -> Grid:
        """Return the grid of a volume (slices, rows, columns) whose file has the axes in the order (rows, columns, slices).

        Parameters
        ----------
        affine
            (4, 4): index (row, column, slice) to RAS+ mm, as in the NIfTI files that recond writes.

        Raises
        ------
        GridError
            It is no affine of a volume.
        """
        values = np.asarray(affine, dtype=np.float64)
        if values.shape != (4, 4):
            raise GridError(f"an affine is 4 x 4, got {values.shape}")
        return cls(values[:, [2, 0, 1, 3]])

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of slices, rows and columns along their axes, mm."""
        slices, rows, columns = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(slices), float(rows), float(columns)

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel, mL."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000

    def positions(self, indices: NDArray[Any]) -> NDArray[np.float64]:
        """Return where voxels have their centres.

        Parameters
        ----------
        indices
            (voxels, 3): slice, row, column; fractions are allowed.

        Returns
        -------
        ndarray
            (voxels, 3), RAS+ mm.
        """
        return np.asarray(np.asarray(indices, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3])

    def indices(self, positions: NDArray[Any]) -> NDArray[np.float64]:
        """Return the indices (voxels, 3) of positions (voxels, 3) in RAS+ mm; fractions between voxels."""
        inverse = np.linalg.inv(self.affine)
        return np.asarray(np.asarray(positions, dtype=np.float64) @ inverse[:3, :3].T + inverse[:3, 3])

    def is_same(self, other: Grid) -> bool:
        """Tell whether the voxels of two grids lie at the same places, to a micrometre."""
        return bool(np.allclose(self.affine, other.affine, atol=_SAME, rtol=0))


def require(grid: Grid | None) -> Grid:
    """Return the grid.

    Raises
    ------
    SpacingUnknownError
        There is none.
    """
    if grid is None:
        raise SpacingUnknownError(
            "the images do not say how large their voxels are, so nothing is measured in mm or ml: give the spacing"
        )
    return grid
