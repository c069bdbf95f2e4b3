"""Planes through a head: where the pixels of a slice lie, bent so that one head becomes many."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from recond_models.training.fields import smooth_field
from recond_models.training.volumes import TISSUES, Volume

# Unit vectors of rows and columns (RAS) and the normal's range of offsets from the middle of the brain, mm.
_VIEWS = {
    "axial": ((0, -1, 0), (-1, 0, 0), (-45.0, 55.0)),
    "coronal": ((0, 0, -1), (-1, 0, 0), (-60.0, 60.0)),
    "sagittal": ((0, 0, -1), (0, -1, 0), (-52.0, 52.0)),
}
_VIEW_SHARES = (0.5, 0.25, 0.25)
_TILT_DEGREES = 12.0
_STRAIN = 0.06
_SMALLEST_PIXEL_VOXELS = 0.45


@dataclass(frozen=True, slots=True)
class Plane:
    """Where the pixels of a slice lie.

    Parameters
    ----------
    view
        Nearest of axial, coronal and sagittal.
    origin
        Pixel ``(rows // 2, columns // 2)`` in mm from the middle of the brain, RAS.
    down, across
        Steps from row to row and from column to column in mm, RAS.
    """

    view: str
    origin: NDArray[np.float64]
    down: NDArray[np.float64]
    across: NDArray[np.float64]

    def points(
        self, shape: tuple[int, int], rows: NDArray[np.float64], columns: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return where (row, column) positions lie, float64 (3, rows, columns), mm from the middle of the brain."""
        down = (rows - shape[0] // 2)[None, :, None] * self.down[:, None, None]
        across = (columns - shape[1] // 2)[None, None, :] * self.across[:, None, None]
        return self.origin[:, None, None] + down + across


def extent(volume: Volume) -> NDArray[np.float64]:
    """Return the size of the head along x, y, z in mm."""
    step = 4
    present = volume.signal[::step, ::step, ::step] > 0.1
    sizes = []
    for axis in range(3):
        filled = np.flatnonzero(present.any(axis=tuple(other for other in range(3) if other != axis)))
        sizes.append((filled[-1] - filled[0] + 1) * step * volume.spacing[axis])
    return np.asarray(sizes)


def draw_plane(
    generator: np.random.Generator, shape: tuple[int, int], head: NDArray[np.float64], finest: float
) -> Plane:
    """Draw an oblique plane whose field of view is a little larger than the head, seldom a little smaller.

    Parameters
    ----------
    generator
        Source of randomness.
    shape
        Rows and columns.
    head
        Size of the head along x, y, z, mm.
    finest
        Edge of a voxel in mm; pixels are not much smaller.
    """
    view = str(generator.choice(list(_VIEWS), p=_VIEW_SHARES))
    down, across, (low, high) = _VIEWS[view]
    rotation = _rotation(generator, np.radians(_TILT_DEGREES))
    turns = int(generator.integers(4))
    axes = [np.asarray(down, dtype=np.float64), np.asarray(across, dtype=np.float64)]
    normal = np.cross(axes[0], axes[1])
    if turns % 2:
        axes.reverse()
    if turns >= 2:
        axes[0] = -axes[0]
    if generator.random() < 0.5:
        axes[1] = -axes[1]
    sizes = [float(np.abs(axis) @ head) for axis in axes]
    pixel = max(sizes[0] / shape[0], sizes[1] / shape[1]) * generator.uniform(0.94, 1.3)
    pixel = max(pixel, _SMALLEST_PIXEL_VOXELS * finest)
    ratio = np.exp(generator.uniform(-0.1, 0.1))
    steps = (pixel * ratio, pixel / ratio)
    # Offsets are for a human head of usual size along the normal.
    scale = float(np.abs(normal) @ head) / 180.0
    offset = generator.uniform(low, high) * scale * np.abs(normal)
    origin = offset + generator.normal(0, 4.0, 3)
    return Plane(view, origin, rotation @ axes[0] * steps[0], rotation @ axes[1] * steps[1])


def deformed(generator: np.random.Generator, plane: Plane, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Return where in the head the pixels of a plane lie when the head is stretched and bent, mm, float32 (3, rows, columns)."""
    points = plane.points(shape, np.arange(shape[0], dtype=np.float64), np.arange(shape[1], dtype=np.float64))
    strain = np.eye(3) + generator.normal(0, _STRAIN, (3, 3)) * (0.5 + 0.5 * np.eye(3))
    bent = np.tensordot(strain, points, axes=1).astype(np.float32)
    side = max(shape[0] * float(np.linalg.norm(plane.down)), shape[1] * float(np.linalg.norm(plane.across)))
    for knots, share in ((5, 0.09), (9, 0.08), (16, 0.06)):
        # Less than a third of the distance of the knots, or the head would fold over.
        amplitude = share * generator.uniform(0, 1) * side / (knots - 3)
        bent += np.float32(amplitude) * smooth_field(generator, shape, knots, 3)
    return bent


def cut(volume: Volume, points: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Interpolate a volume.

    Parameters
    ----------
    volume
        The head.
    points
        float32 (3, rows, columns), mm from the middle of the brain, RAS.

    Returns
    -------
    signal
        float32 (rows, columns).
    tissues
        float32 (tissues, rows, columns), shares from 0 to 1; None if unknown.
    """
    spacing = np.asarray(volume.spacing, dtype=np.float32)[:, None, None]
    voxels = points / spacing + np.asarray(volume.centre, dtype=np.float32)[:, None, None]
    signal = ndimage.map_coordinates(volume.signal, voxels, order=1, output=np.float32, prefilter=False)
    if volume.tissues is None:
        return signal, None
    tissues = np.empty((len(TISSUES), *signal.shape), dtype=np.float32)
    for number, share in enumerate(volume.tissues):
        ndimage.map_coordinates(share, voxels, order=1, output=tissues[number], prefilter=False)
    tissues /= 255
    return signal, tissues


def _rotation(generator: np.random.Generator, deviation: float) -> NDArray[np.float64]:
    """Return a small random rotation (3, 3), by Rodrigues' formula."""
    vector = generator.normal(0, deviation, 3)
    angle = float(np.linalg.norm(vector))
    x, y, z = vector / max(angle, 1e-12)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation: NDArray[np.float64] = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return rotation
