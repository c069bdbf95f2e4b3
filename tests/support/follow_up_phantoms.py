"""Heads and lesions of known size for the measurements and the follow-up of a patient."""

from __future__ import annotations

from datetime import date

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from recond_models.follow_up import HeadResult, Visit
from recond_models.heads.measurements import Grid

CENTRE = np.array([5.0, -10.0, 30.0])
"""Middle of the phantom's head, RAS+ mm."""

_PARTS = (
    # centre from the middle, radii (mm), signal: skull, brain, ventricles, and odd things that break its symmetry
    ((0, 0, 0), (72, 90, 82), 0.9),
    ((0, 0, 0), (66, 84, 76), 0.15),
    ((0, -2, 2), (60, 78, 70), 0.6),
    ((-10, 5, 8), (7, 26, 12), 0.2),
    ((12, 3, 10), (6, 22, 10), 0.2),
    ((25, -40, -30), (22, 18, 16), 0.75),
    ((-28, -38, -32), (18, 18, 15), 0.75),
    ((30, 30, 20), (14, 12, 10), 0.8),
    ((-30, 20, 35), (10, 14, 9), 0.7),
    ((0, 70, -20), (9, 9, 9), 0.1),
)
_FOLD_MM = 6.0
_FOLDS = ndimage.gaussian_filter(np.random.default_rng(7).normal(size=(40, 40, 40)), 1.3)
"""Positive where the brain is grey matter: patches without a period, so that only one pose fits."""


def grid_of(spacing: tuple[float, float, float], shape: tuple[int, int, int], turn: Rotation | None = None) -> Grid:
    """Return a grid with these voxels whose middle is that of the head, axial as scanned, perhaps oblique."""
    axes = np.array([[0, 0, -1], [0, -1, 0], [1, 0, 0]], dtype=float) * spacing
    if turn is not None:
        axes = turn.as_matrix() @ axes
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = CENTRE - axes @ ((np.array(shape) - 1) / 2)
    return Grid(affine)


def positions(grid: Grid, shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """Return where the voxels are: (slices, rows, columns, 3)."""
    return grid.positions(np.moveaxis(np.indices(shape), 0, -1).reshape(-1, 3)).reshape(*shape, 3)


def ellipsoid(
    grid: Grid,
    shape: tuple[int, int, int],
    centre: tuple[float, float, float] | NDArray[np.float64],
    radii: float | tuple[float, float, float],
    pose: NDArray[np.float64] | None = None,
    samples: int = 1,
) -> NDArray[np.bool_]:
    """Return the voxels of an ellipsoid: those with their centre inside, or half of their volume by samples per axis.

    `pose`, (4, 4), moves the head: the ellipsoid lies at ``pose @ centre``.
    """
    places = positions(grid, shape)
    offsets = (np.arange(samples) + 0.5) / samples - 0.5
    inside = np.zeros(shape)
    back = np.eye(4) if pose is None else np.linalg.inv(pose)
    for index in np.ndindex(samples, samples, samples):
        moved = places + grid.affine[:3, :3] @ offsets[list(index)]
        moved = moved @ back[:3, :3].T + back[:3, 3]
        inside += (((moved - centre) / radii) ** 2).sum(axis=-1) <= 1
    return inside >= samples**3 / 2


def head(
    grid: Grid, shape: tuple[int, int, int], pose: NDArray[np.float64] | None = None, seed: int = 0
) -> NDArray[np.float32]:
    """Return an image of the phantom's head with a little noise, its signal at scanner-like scale."""
    back = np.eye(4) if pose is None else np.linalg.inv(pose)
    places = positions(grid, shape) @ back[:3, :3].T + back[:3, 3] - CENTRE
    image = np.zeros(shape)
    for centre, radii, signal in _PARTS:
        image[(((places - centre) / radii) ** 2).sum(axis=-1) <= 1] = signal
    folds = ndimage.map_coordinates(
        _FOLDS, np.moveaxis(places, -1, 0) / _FOLD_MM + len(_FOLDS) / 2, order=1, mode="nearest"
    )
    image[(image == 0.6) & (folds > 0)] = 0.42  # grey matter among the white
    noise = np.random.default_rng(seed).normal(0, 0.02, shape)
    return (700 * np.abs(image + noise)).astype(np.float32)


def pose_of(angles: tuple[float, float, float], shift: tuple[float, float, float]) -> NDArray[np.float64]:
    """Return a rigid motion of the head, (4, 4): turned about its middle by degrees about each axis, then shifted by mm."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    matrix[:3, 3] = CENTRE + shift - matrix[:3, :3] @ CENTRE
    return matrix


def largest_error(matrix: NDArray[np.float64], truth: NDArray[np.float64], reach: float = 60.0) -> float:
    """Return the largest distance between where two transforms put the corners of a box about the head, mm."""
    corners = CENTRE + reach * np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    first, second = (corners @ one[:3, :3].T + one[:3, 3] for one in (matrix, truth))
    return float(np.linalg.norm(first - second, axis=1).max())


SHAPE = (33, 40, 35)
SPACING = (5.0, 5.0, 5.0)


def visit(
    lesions: NDArray[np.integer] | NDArray[np.bool_] | None,
    day: date | None = None,
    name: str = "scan",
    grid: Grid | None = None,
    patient: str = "",
    image: NDArray[np.float32] | None = None,
) -> Visit:
    """Return a visit with a mask of lesions, on the small grid unless another is given; the image may be empty."""
    grid = grid_of(SPACING, SHAPE) if grid is None else grid
    shape = SHAPE if lesions is None else lesions.shape
    heads = {} if lesions is None else {"lesion": HeadResult("lesions", lesions.astype(np.uint8))}
    return Visit(name, np.zeros(shape, dtype=np.float32) if image is None else image, grid, heads, day, patient)
