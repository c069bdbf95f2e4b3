"""Rigid registration of a current scan onto a prior one.

Mattes' mutual information (Mattes et al. 2003, doi:10.1109/TMI.2003.809072) by SimpleITK, from coarse to fine. It needs no brain
mask and works across contrasts, spacings and fields of view. Where a search starts decides where it ends, so many starts are
compared on a coarse grid before the best go on, and the result is judged by figures that were not optimised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from recond_models.follow_up.errors import RegistrationFailedError, VisitError
from recond_models.follow_up.quality import Quality, judge
from recond_models.follow_up.search import refine, start
from recond_models.follow_up.views import View
from recond_models.heads.measurements import Grid
from recond_models.note import Note

_COARSE_MM: Final = 6.0
_MIDDLE_MM: Final = 3.0
_FINE_MM: Final = 1.5
_FEWEST_SLICES: Final = 4
_SMALLEST_MM: Final = 12.0


@dataclass(frozen=True, slots=True, eq=False)
class Registration:
    """How a current scan lies on a prior one.

    Parameters
    ----------
    matrix
        (4, 4), rigid: positions in the current scan to positions in the prior one, RAS+ mm.
    quality
        Figures that judge it.
    notes
        What the reader should know.
    """

    matrix: NDArray[np.float64]
    quality: Quality
    notes: tuple[Note, ...] = ()

    @property
    def rotation_degrees(self) -> float:
        """Angle of the rotation."""
        return float(np.degrees(Rotation.from_matrix(self.matrix[:3, :3]).magnitude()))

    @property
    def inverse(self) -> NDArray[np.float64]:
        """(4, 4): positions in the prior scan to positions in the current one."""
        return np.asarray(np.linalg.inv(self.matrix))

    def shift_mm(self, position: NDArray[np.float64]) -> float:
        """Return how far a position (3,) of the current scan is moved, mm."""
        return float(np.linalg.norm(self.matrix[:3, :3] @ position + self.matrix[:3, 3] - position))

    def to_json(self) -> dict[str, Any]:
        """Return plain dictionaries and lists."""
        return {
            "matrix": self.matrix.tolist(),
            "rotation_degrees": self.rotation_degrees,
            **self.quality.to_json(),
        }


def register(
    prior: NDArray[Any],
    prior_grid: Grid,
    current: NDArray[Any],
    current_grid: Grid,
    *,
    prior_brain: NDArray[np.bool_] | None = None,
    current_brain: NDArray[np.bool_] | None = None,
    threads: int = 1,
) -> Registration:
    """Find how the current scan lies on the prior one.

    Parameters
    ----------
    prior, current
        (slices, rows, columns), real, any scale; at least four slices and 12 mm along each axis.
    prior_grid, current_grid
        Their grids.
    prior_brain, current_brain
        Brain masks on the same grids, where a head made them: the last step then looks at the brain alone, and the overlap of the
        masks judges the result.
    threads
        Threads that SimpleITK may use; the result does not depend on the machine while this is 1.

    Raises
    ------
    RegistrationFailedError
        The scans do not fit onto each other.
    RegistrationUnavailableError
        SimpleITK is not installed.
    VisitError
        A volume is too small, empty, or has values that are not finite.
    """
    fixed = _view(prior, prior_grid, prior_brain, "prior")
    moving = _view(current, current_grid, current_brain, "current")
    found = start(fixed.at(_COARSE_MM), moving.at(_COARSE_MM), threads)
    views = fixed.at(_MIDDLE_MM), moving.at(_MIDDLE_MM)
    found = refine(*views, found, threads)
    finer = fixed.at(_FINE_MM), moving.at(_FINE_MM)
    if any(fine.values.shape != view.values.shape for fine, view in zip(finer, views, strict=True)):
        found = refine(*finer, found, threads)
    quality = judge(*views, found)
    if quality.failure is not None:
        raise RegistrationFailedError(
            f"the current scan does not fit onto the prior one: {quality.failure}. "
            "Check that both show the same part of the same patient, and that neither is a localiser"
        )
    return Registration(np.asarray(np.linalg.inv(found)), quality, quality.notes)


def _view(volume: NDArray[Any], grid: Grid, brain: NDArray[np.bool_] | None, name: str) -> View:
    """Return a volume that can be registered."""
    values = np.asarray(volume)
    if values.ndim != 3 or values.dtype.kind not in "fiub":
        raise VisitError(
            f"the {name} image must be real with slices, rows and columns, got {values.dtype} {values.shape}"
        )
    if brain is not None and brain.shape != values.shape:
        raise VisitError(f"the brain mask of the {name} scan has the shape {brain.shape}, its image {values.shape}")
    extent = [count * spacing for count, spacing in zip(values.shape, grid.spacing, strict=True)]
    if min(values.shape) < _FEWEST_SLICES or min(extent) < _SMALLEST_MM:
        raise VisitError(
            f"the {name} image of {values.shape} voxels spans {[round(one, 1) for one in extent]} mm: "
            f"at least {_FEWEST_SLICES} slices and {_SMALLEST_MM:g} mm along each axis are registered"
        )
    if not np.isfinite(values).all():
        raise VisitError(f"the {name} image has values that are not finite")
    if not values.max() > values.min():
        raise VisitError(f"the {name} image is empty: all its values are {values.flat[0]}")
    return View.of(values, grid, brain)
