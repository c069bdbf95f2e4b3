"""Lesions in a label map: how many, how large, where."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from recond_models.heads.measurements.diameters import Diameters, diameters
from recond_models.heads.measurements.errors import LabelMapError
from recond_models.heads.measurements.grid import Grid, require
from recond_models.heads.measurements.label_maps import check_shape, label_map
from recond_models.heads.measurements.load import StructureLoad, loads, volumes_inside
from recond_models.heads.measurements.structures import Labels
from recond_models.heads.measurements.uncertainty import Estimate, check_probabilities, estimate

RIM_MM: Final = 5.0
"""How far around a lesion its probabilities count for its expected volume."""

_TOUCHING: Final = np.ones((3, 3, 3), dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class Lesion:
    """One lesion.

    Parameters
    ----------
    number
        Its label in `LesionTable.labels`.
    volume_ml
        Volume of its voxels, mL.
    diameters
        In space and in the slice, mm.
    centre_mm
        Mean position of its voxels, RAS+ mm.
    confidence
        Mean probability of its voxels; None without probabilities.
    estimate
        Its volume as the probabilities have it, within `RIM_MM` around it; None without them.
    inside_ml
        Volume that it has in each structure that it touches, mL, the largest first; empty without a map of structures.
    """

    number: int
    volume_ml: float
    diameters: Diameters
    centre_mm: tuple[float, float, float]
    confidence: float | None = None
    estimate: Estimate | None = None
    inside_ml: dict[str, float] = field(default_factory=dict)

    @property
    def location(self) -> str | None:
        """The structure that holds most of it; None if it lies in none, or no map of structures was given."""
        return next(iter(self.inside_ml), None)

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return {
            "number": self.number,
            "volume_ml": self.volume_ml,
            "volume_interval_ml": None if self.estimate is None else list(self.estimate.interval_ml),
            "diameter_mm": self.diameters.longest_mm,
            "in_plane_diameter_mm": self.diameters.in_plane_mm,
            "perpendicular_diameter_mm": self.diameters.perpendicular_mm,
            "slice": self.diameters.slice_index,
            "centre_mm": list(self.centre_mm),
            "confidence": self.confidence,
            "location": self.location,
            "inside_ml": dict(self.inside_ml),
        }


@dataclass(frozen=True, slots=True, eq=False)
class LesionTable:
    """All lesions of a volume, the largest first.

    Parameters
    ----------
    lesions
        Measured lesions.
    labels
        Integers (slices, rows, columns): the number of the lesion at each voxel, 0 elsewhere.
    load
        Lesions per structure; empty without a map of structures.
    """

    lesions: tuple[Lesion, ...]
    labels: NDArray[Any]
    load: tuple[StructureLoad, ...] = ()

    @property
    def total_ml(self) -> float:
        """Volume of all lesions, mL."""
        return sum(one.volume_ml for one in self.lesions)

    def to_json(self) -> dict[str, Any]:
        """Return plain dictionaries and lists; `load` only with a map of structures."""
        found: dict[str, Any] = {
            "count": len(self.lesions),
            "total_ml": self.total_ml,
            "lesions": [one.to_json() for one in self.lesions],
        }
        if self.load:
            found["load"] = {one.name: one.to_json() for one in self.load}
        return found


def number_lesions(labels: NDArray[Any], grid: Grid | None = None, minimum_ml: float = 0.0) -> NDArray[Any]:
    """Return a label map with numbered lesions.

    A map of zeros and ones is split into its connected parts (voxels that share a face, an edge or a corner), numbered from 1, the
    largest first. A map with more labels is numbered already and keeps its numbers.

    Parameters
    ----------
    labels
        (slices, rows, columns), integers; 0 is background.
    grid
        Of the label map; needed for a minimum.
    minimum_ml
        Lesions that are smaller are left out, mL.

    Returns
    -------
    ndarray
        int32, or the type of a map that is numbered already; same shape.

    Raises
    ------
    SpacingUnknownError
        There is a minimum, but no grid.
    LabelMapError
        It is no label map.
    """
    values = label_map(labels)
    if values.max() <= 1:
        parts, _ = ndimage.label(values, structure=_TOUCHING)
        sizes = np.bincount(parts.ravel())
        order = np.argsort(-sizes[1:], kind="stable")
        numbers = np.zeros(sizes.size, dtype=np.int32)
        numbers[order + 1] = np.arange(1, sizes.size, dtype=np.int32)
        values = numbers[parts]
    if minimum_ml > 0:
        sizes = np.bincount(values.ravel().astype(np.int64, copy=False))
        small = sizes * require(grid).voxel_ml < minimum_ml
        small[0] = False
        values = np.where(small[values], 0, values)
    return values


def count_lesions(labels: NDArray[Any]) -> int:
    """Count the lesions of a label map as `number_lesions` tells them apart; needs no spacing."""
    numbered = number_lesions(labels)
    return int(np.count_nonzero(np.unique(numbered)))


def measure_lesions(
    labels: NDArray[Any],
    grid: Grid | None,
    *,
    probabilities: NDArray[Any] | None = None,
    structures: NDArray[Any] | None = None,
    structure_names: Labels | None = None,
    minimum_ml: float = 0.0,
) -> LesionTable:
    """Measure all lesions of a label map.

    Parameters
    ----------
    labels
        (slices, rows, columns): a mask, or numbered lesions; see `number_lesions`.
    grid
        Of the label map; None if the images do not say their spacing.
    probabilities
        Of lesion, 0 to 1, same shape.
    structures
        Label map of structures on the same grid, from another head.
    structure_names
        Its structures; needed with it.
    minimum_ml
        Lesions that are smaller are left out, mL.

    Raises
    ------
    SpacingUnknownError
        There is no grid; `count_lesions` still counts.
    LabelMapError
        Shapes or values do not fit.
    """
    values = label_map(labels)
    grid = require(grid)
    if probabilities is not None:
        check_shape(probabilities, values, "the probability")
        check_probabilities(probabilities)
    names = structure_names or {}
    if structures is not None:
        check_shape(structures, values, "the map of structures")
        structures = label_map(structures)
        if not names:
            raise LabelMapError("a map of structures needs the names of its labels")
    numbered = number_lesions(values, grid, minimum_ml)
    found = []
    for number, box in enumerate(ndimage.find_objects(numbered), 1):
        if box is None:
            continue
        mask = numbered[box] == number
        first = (box[0].start, box[1].start, box[2].start)
        lesion_voxels = np.argwhere(mask) + first
        centre = grid.positions(lesion_voxels.mean(axis=0)[None])[0]
        inside = {} if structures is None else volumes_inside(structures[box][mask], names, grid)
        confidence, expected = None, None
        if probabilities is not None:
            confidence = float(np.mean(probabilities[box][mask], dtype=np.float64))
            expected = _estimate(numbered, number, box, probabilities, grid)
        found.append(
            Lesion(
                number,
                len(lesion_voxels) * grid.voxel_ml,
                diameters(mask, grid, first),
                (float(centre[0]), float(centre[1]), float(centre[2])),
                confidence,
                expected,
                inside,
            )
        )
    found.sort(key=lambda one: (-one.volume_ml, one.number))
    load = () if structures is None else loads(numbered > 0, structures, names, grid)
    return LesionTable(tuple(found), numbered, load)


def _estimate(
    numbered: NDArray[Any], number: int, box: tuple[slice, slice, slice], probabilities: NDArray[Any], grid: Grid
) -> Estimate:
    """Return the volume of a lesion from the probabilities in and around it, other lesions left out."""
    rim = [int(np.ceil(RIM_MM / spacing)) for spacing in grid.spacing]
    wide = tuple(slice(max(0, one.start - more), one.stop + more) for one, more in zip(box, rim, strict=True))
    near = ndimage.distance_transform_edt(numbered[wide] != number, sampling=grid.spacing) <= RIM_MM
    others = (numbered[wide] != 0) & (numbered[wide] != number)
    return estimate(probabilities[wide][near & ~others], grid)
