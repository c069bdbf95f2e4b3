"""How sure the volume of a class is, from the probabilities of the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recond_models.heads.measurements.errors import LabelMapError
from recond_models.heads.measurements.grid import Grid

CORRELATION_MM: Final = 3.0
"""Voxels nearer than this are taken to be wrong together."""

_TWO_SIDED_95: Final = 1.96
_ABOVE_ONE: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Estimate:
    """A volume as the probabilities have it.

    Parameters
    ----------
    expected_ml
        Sum of the probabilities times the volume of a voxel, mL.
    deviation_ml
        Standard deviation, mL: see `estimate`.
    """

    expected_ml: float
    deviation_ml: float

    @property
    def interval_ml(self) -> tuple[float, float]:
        """Expected volume plus and minus 1.96 standard deviations, not below 0, mL."""
        margin = _TWO_SIDED_95 * self.deviation_ml
        return max(0.0, self.expected_ml - margin), self.expected_ml + margin


def estimate(probabilities: NDArray[Any], grid: Grid) -> Estimate:
    """Return the expected volume of a class and its standard deviation.

    A voxel with probability ``p`` has the variance ``p (1 - p)`` (Bernoulli). If voxels were wrong independently of each other the
    deviation would vanish as voxels get smaller, which it does not: neighbours err together. Blocks of `CORRELATION_MM` cubed are
    taken to be wrong as one, so ``deviation^2 = sum p (1 - p) * voxel * max(voxel, block)``. This measures how undecided the
    network is; where it is confidently wrong, nothing here knows.

    Parameters
    ----------
    probabilities
        Of the class, 0 to 1, any shape.
    grid
        Of the volume.

    Raises
    ------
    LabelMapError
        A value is not finite or not in 0 to 1.
    """
    values = np.asarray(probabilities, dtype=np.float64)
    check_probabilities(values)
    block_ml = max(grid.voxel_ml, CORRELATION_MM**3 / 1000)
    spread = float((values * (1 - values)).clip(min=0).sum())
    return Estimate(float(values.sum()) * grid.voxel_ml, float(np.sqrt(spread * grid.voxel_ml * block_ml)))


def check_probabilities(values: NDArray[Any]) -> None:
    """Raise `LabelMapError` unless all values are in 0 to 1, up to rounding."""
    if values.size and not (values.min() >= -_ABOVE_ONE and values.max() <= 1 + _ABOVE_ONE):
        raise LabelMapError(
            f"probabilities lie in 0 to 1, got {values.min()} to {values.max()}: apply softmax or sigmoid first"
        )
