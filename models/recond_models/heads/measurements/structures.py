"""Volumes of the structures in a label map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recond_models.heads.measurements.errors import LabelMapError
from recond_models.heads.measurements.grid import Grid, require
from recond_models.heads.measurements.label_maps import check_shape, label_map
from recond_models.heads.measurements.uncertainty import Estimate, estimate

Labels = Mapping[str, int | tuple[int, ...]]
"""Names of structures and their numbers in a label map; several numbers for a structure that is made of others."""


@dataclass(frozen=True, slots=True)
class StructureVolume:
    """Volume of a structure.

    Parameters
    ----------
    name
        Of the structure.
    labels
        Its numbers in the label map.
    volume_ml
        Volume of its voxels, mL.
    estimate
        The volume as the probabilities have it; None without them.
    """

    name: str
    labels: tuple[int, ...]
    volume_ml: float
    estimate: Estimate | None = None


@dataclass(frozen=True, slots=True)
class StructureVolumes:
    """Volumes of all structures of a label map, in the order of its names."""

    structures: tuple[StructureVolume, ...]

    def volume_ml(self, name: str) -> float | None:
        """Return the volume of a structure in mL, or None if the label map does not know it."""
        return next((one.volume_ml for one in self.structures if one.name == name), None)

    def to_json(self) -> dict[str, Any]:
        """Return plain dictionaries, with figures as they are."""
        found: dict[str, Any] = {
            "labels": {
                one.name: one.labels[0] if len(one.labels) == 1 else list(one.labels) for one in self.structures
            },
            "volumes_ml": {one.name: one.volume_ml for one in self.structures},
        }
        estimates = {one.name: one.estimate for one in self.structures if one.estimate is not None}
        if estimates:
            found["intervals_ml"] = {name: list(one.interval_ml) for name, one in estimates.items()}
            found["expected_ml"] = {name: one.expected_ml for name, one in estimates.items()}
        return found


def measure_structures(
    labels: NDArray[Any],
    names: Labels,
    grid: Grid | None,
    probabilities: Mapping[str, NDArray[Any]] | None = None,
) -> StructureVolumes:
    """Measure the volumes of structures.

    Parameters
    ----------
    labels
        (slices, rows, columns), integers.
    names
        Structures and their numbers; numbers without a name are not measured.
    grid
        Of the label map; None if the images do not say their spacing.
    probabilities
        Of some structures by name, (slices, rows, columns), 0 to 1.

    Raises
    ------
    SpacingUnknownError
        There is no grid.
    LabelMapError
        Shapes or values do not fit, or a number is claimed for background.
    """
    values = label_map(labels)
    grid = require(grid)
    counts = np.bincount(values.ravel().astype(np.int64, copy=False))
    found = []
    for name, number in names.items():
        numbers = (number,) if isinstance(number, int) else tuple(number)
        if not numbers or min(numbers) < 1:
            raise LabelMapError(f"structure {name!r} has the label {number}: labels start at 1, 0 is background")
        voxels = sum(int(counts[one]) for one in set(numbers) if one < counts.size)
        known = (probabilities or {}).get(name)
        if known is not None:
            check_shape(known, values, f"the probability of {name}")
        found.append(
            StructureVolume(name, numbers, voxels * grid.voxel_ml, None if known is None else estimate(known, grid))
        )
    return StructureVolumes(tuple(found))
