"""How much of a lesion lies in which structure: the label map of one head read through that of another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recond_models.heads.measurements.grid import Grid
from recond_models.heads.measurements.structures import Labels, measure_structures


@dataclass(frozen=True, slots=True)
class StructureLoad:
    """Lesions in a structure.

    Parameters
    ----------
    name
        Of the structure.
    lesion_ml
        Volume of all lesions inside it, mL.
    structure_ml
        Its own volume, mL: lesions that its head counts to it included.
    """

    name: str
    lesion_ml: float
    structure_ml: float

    @property
    def percent(self) -> float | None:
        """Share of the structure that is lesion; None if the structure has no voxel."""
        return 100 * self.lesion_ml / self.structure_ml if self.structure_ml > 0 else None

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return {"lesion_ml": self.lesion_ml, "structure_ml": self.structure_ml, "percent": self.percent}


def loads(lesions: NDArray[np.bool_], structures: NDArray[Any], names: Labels, grid: Grid) -> tuple[StructureLoad, ...]:
    """Return the load of every structure; the arrays have one shape and were checked."""
    inside = structures[lesions].astype(np.int64, copy=False)
    volumes = measure_structures(structures, names, grid).structures
    return tuple(
        StructureLoad(one.name, int(np.isin(inside, one.labels).sum()) * grid.voxel_ml, one.volume_ml)
        for one in volumes
    )


def volumes_inside(inside: NDArray[Any], names: Labels, grid: Grid) -> dict[str, float]:
    """Return the volume that a lesion has in each structure that it touches, mL, the largest first.

    Parameters
    ----------
    inside
        Label of the structure at each voxel of the lesion.
    names
        Structures; those made of several labels are left out, because they contain others.
    grid
        Of the volume.
    """
    counts = {name: int((inside == label).sum()) for name, label in names.items() if isinstance(label, int)}
    ordered = sorted(((count, name) for name, count in counts.items() if count), key=lambda one: (-one[0], one[1]))
    return {name: count * grid.voxel_ml for count, name in ordered}
