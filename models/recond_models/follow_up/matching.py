"""Which lesion of one scan is which lesion of the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from recond_models.follow_up.moving import labels_onto
from recond_models.heads.measurements import Grid, LesionTable

TOLERANCE_MM: Final = 5.0
"""Lesions that do not overlap are one if their centres are nearer than this after registration."""

LEAST_OVERLAP: Final = 0.1
"""Share of the smaller lesion that two have in common, if they are one."""


@dataclass(frozen=True, slots=True)
class Group:
    """Lesions that belong together.

    Parameters
    ----------
    prior, current
        Their numbers in the two scans. One on each side: the same lesion; none on one side: vanished or new; several: merged or
        split.
    """

    prior: tuple[int, ...]
    current: tuple[int, ...]


def match(
    prior: LesionTable,
    prior_grid: Grid,
    current: LesionTable,
    current_grid: Grid,
    matrix: NDArray[np.float64],
    tolerance_mm: float = TOLERANCE_MM,
) -> tuple[Group, ...]:
    """Match the lesions of two scans.

    Lesions belong together if they share at least a tenth of the smaller one after registration. Those that share nothing with any
    are matched to the nearest by their centres, if it is within the tolerance: small ones whose overlap a millimetre decides.

    Parameters
    ----------
    prior, current
        Lesions of the two scans.
    prior_grid, current_grid
        Their grids.
    matrix
        (4, 4): positions in the current scan to positions in the prior one, RAS+ mm.
    tolerance_mm
        Of the centres, mm.

    Returns
    -------
    tuple of Group
        Each lesion in one of them; the largest prior lesions first, new ones last.
    """
    befores, afters = [one.number for one in prior.lesions], [one.number for one in current.lesions]
    joined = _overlaps(prior, prior_grid, current, current_grid, matrix) >= LEAST_OVERLAP
    free = np.flatnonzero(~joined.any(axis=1)), np.flatnonzero(~joined.any(axis=0))
    distances = _distances(prior, current, matrix)
    for row, column in _nearest(distances[np.ix_(*free)], tolerance_mm):
        joined[free[0][row], free[1][column]] = True
    return tuple(
        Group(tuple(befores[one] for one in rows), tuple(afters[one] for one in columns))
        for rows, columns in _groups(joined, distances)
    )


def _overlaps(
    prior: LesionTable, prior_grid: Grid, current: LesionTable, current_grid: Grid, matrix: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return what pairs of lesions share, as a part of the smaller one of each pair (prior, current).

    On the finer of the two grids, so that a small lesion does not fall between the voxels of thick slices.
    """
    if prior_grid.voxel_ml <= current_grid.voxel_ml:
        before = prior.labels
        after = labels_onto(current.labels, current_grid, matrix, prior_grid, before.shape)
    else:
        after = current.labels
        before = labels_onto(prior.labels, prior_grid, np.asarray(np.linalg.inv(matrix)), current_grid, after.shape)
    shared = np.zeros((len(prior.lesions), len(current.lesions)))
    sizes_after = np.bincount(after.ravel().astype(np.int64))
    boxes = ndimage.find_objects(before)
    for row, one in enumerate(prior.lesions):
        box = boxes[one.number - 1] if one.number <= len(boxes) else None
        if box is None:
            continue
        mask = before[box] == one.number
        counts = np.bincount(after[box][mask].astype(np.int64), minlength=sizes_after.size)
        for column, other in enumerate(current.lesions):
            size = sizes_after[other.number] if other.number < sizes_after.size else 0
            if size:
                shared[row, column] = counts[other.number] / min(int(mask.sum()), int(size))
    return shared


def _distances(prior: LesionTable, current: LesionTable, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distances of centres (prior, current) after registration, mm."""
    befores = np.array([one.centre_mm for one in prior.lesions]).reshape(-1, 3)
    afters = np.array([one.centre_mm for one in current.lesions]).reshape(-1, 3)
    afters = afters @ matrix[:3, :3].T + matrix[:3, 3]
    return np.asarray(np.linalg.norm(befores[:, None] - afters[None], axis=-1))


def _nearest(distances: NDArray[np.float64], tolerance_mm: float) -> list[tuple[int, int]]:
    """Return pairs within the tolerance, the nearest first, none twice."""
    pairs = []
    left = distances.copy()
    while left.size and left.min() <= tolerance_mm:
        row, column = np.unravel_index(int(left.argmin()), left.shape)
        pairs.append((int(row), int(column)))
        left[row, :], left[:, column] = np.inf, np.inf
    return pairs


def _groups(joined: NDArray[np.bool_], distances: NDArray[Any]) -> list[tuple[list[int], list[int]]]:
    """Return rows and columns that belong together."""
    rows, columns = joined.shape
    links = np.zeros((rows + columns, rows + columns), dtype=np.bool_)
    links[:rows, rows:] = joined
    count, names = connected_components(csr_matrix(links), directed=False)
    found = []
    for name in range(count):
        members = np.flatnonzero(names == name)
        befores, afters = (
            [int(one) for one in members if one < rows],
            [int(one - rows) for one in members if one >= rows],
        )
        if len(befores) == len(afters) > 1:  # neighbours that touch across: as many before as after are the same ones
            pairs = linear_sum_assignment(distances[np.ix_(befores, afters)])
            found += [([befores[i]], [afters[j]]) for i, j in zip(*pairs, strict=True)]
        else:
            found.append((befores, afters))
    return sorted(found, key=lambda one: (not one[0], one))
