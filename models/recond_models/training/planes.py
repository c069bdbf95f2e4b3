"""Planes through a head: where the pixels of a slice lie, bent so that one head becomes many."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recond_models.training.fields import smooth_field
from recond_models.training.volumes import SIGNAL_UNITS, TISSUES, VOXEL, Volume

# Unit vectors of rows and columns (RAS) and the normal's range of offsets from the middle of the brain, mm.
_VIEWS = {
    "axial": ((0, -1, 0), (-1, 0, 0), (-45.0, 55.0)),
    "coronal": ((0, 0, -1), (-1, 0, 0), (-60.0, 60.0)),
    "sagittal": ((0, 0, -1), (0, -1, 0), (-52.0, 52.0)),
}
_VIEW_SHARES = (0.5, 0.25, 0.25)
_TILT_DEGREES = 12.0
_STRAIN = 0.06
# Fewer planes than this are looked at one by one.
_FEW_SLICES = 80
_EDGE_SLICES = 12
# Pixels need not be square.
_LARGEST_RATIO = 1.6
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

    @property
    def pixel(self) -> float:
        """Edge of a square pixel of the same area, mm."""
        return float(np.sqrt(np.linalg.norm(self.down) * np.linalg.norm(self.across)))

    def points(
        self, shape: tuple[int, int], rows: NDArray[np.float64], columns: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return where (row, column) positions lie, float64 (3, rows, columns), mm from the middle of the brain."""
        down = (rows - shape[0] // 2)[None, :, None] * self.down[:, None, None]
        across = (columns - shape[1] // 2)[None, None, :] * self.across[:, None, None]
        return self.origin[:, None, None] + down + across


def any_plane(generator: np.random.Generator, shape: tuple[int, int]) -> Plane:
    """Return an axial plane through the middle whose shorter side is 110 to 190 mm."""
    pixel = generator.uniform(110, 190) / min(shape)
    down, across = np.asarray([0.0, -pixel, 0.0]), np.asarray([pixel, 0.0, 0.0])
    return Plane("axial", np.zeros(3), down, across)


@dataclass(frozen=True, slots=True)
class HeadBox:
    """The box around a head, along x, y, z in mm from the middle of the brain.

    Parameters
    ----------
    size
        Its edges.
    middle
        Its middle.
    """

    size: NDArray[np.float64]
    middle: NDArray[np.float64]

    @classmethod
    def around(cls, volume: Volume) -> HeadBox:
        """Return the box around what has signal."""
        step = 4 if min(volume.shape) > _FEW_SLICES else 1
        present = volume.present(step)
        ends = []
        for axis in range(3):
            filled = np.flatnonzero(present.any(axis=tuple(other for other in range(3) if other != axis)))
            edges = step * np.array([filled[0], filled[-1] + 1], dtype=np.float64)
            ends.append((edges - volume.centre[axis]) * volume.spacing[axis])
        low, high = np.asarray(ends).T
        return cls(high - low, (high + low) / 2)


def slice_heights(volume: Volume) -> NDArray[np.float64] | None:
    """Return where thick slices lie, mm above the middle of the brain, without the outermost; None if cuts may go anywhere."""
    if volume.source.layout != "slices":
        return None
    count = volume.shape[2]
    edge = 1 if count > _EDGE_SLICES else 0
    heights = (np.arange(edge, count - edge) - volume.centre[2]) * volume.spacing[2]
    return np.asarray(heights, dtype=np.float64)


def draw_plane(
    generator: np.random.Generator,
    shape: tuple[int, int],
    head: HeadBox,
    finest: float,
    heights: NDArray[np.float64] | None = None,
) -> Plane:
    """Draw an oblique plane whose field of view is a little larger than the head, seldom a little smaller.

    Parameters
    ----------
    generator
        Source of randomness.
    shape
        Rows and columns.
    head
        Box around the head.
    finest
        Edge of a voxel in mm; pixels are not much smaller.
    heights
        Where slices lie, mm: the plane is one of them, turned within itself only. None for a plane in any direction.
    """
    view = str(generator.choice(list(_VIEWS), p=_VIEW_SHARES)) if heights is None else "axial"
    down, across, (low, high) = _VIEWS[view]
    tilt = np.radians(_TILT_DEGREES) * (np.ones(3) if heights is None else np.array([0.0, 0.0, 1.0]))
    rotation = _rotation(generator, tilt)
    turns = int(generator.integers(4))
    axes = [np.asarray(down, dtype=np.float64), np.asarray(across, dtype=np.float64)]
    normal = np.abs(np.cross(axes[0], axes[1]))
    if turns % 2:
        axes.reverse()
    if turns >= 2:
        axes[0] = -axes[0]
    if generator.random() < 0.5:
        axes[1] = -axes[1]
    fitting = [float(np.abs(axis) @ head.size) / size for axis, size in zip(axes, shape, strict=True)]
    ratio = float(np.clip(fitting[0] / fitting[1], 1 / _LARGEST_RATIO, _LARGEST_RATIO)) ** generator.uniform(0, 1)
    pixel = max(fitting[0] / ratio, fitting[1]) * generator.uniform(0.92, 1.3)
    steps = [max(size, _SMALLEST_PIXEL_VOXELS * finest) for size in (pixel * ratio, pixel)]
    # The range of offsets is that of a human head of usual size.
    offset = generator.uniform(low, high) * float(normal @ head.size) / 180.0 * normal
    origin = offset + (1 - normal) * head.middle + generator.normal(0, 3.0, 3)
    if heights is not None:
        origin[2] = generator.choice(heights)
    return Plane(view, origin, rotation @ axes[0] * steps[0], rotation @ axes[1] * steps[1])


def deformed(
    generator: np.random.Generator, plane: Plane, shape: tuple[int, int], *, flat: bool = False
) -> NDArray[np.float32]:
    """Return where in the head the pixels of a plane lie when the head is stretched and bent, mm, float32 (3, rows, columns).

    A flat plane is axial and stays so.
    """
    points = plane.points(shape, np.arange(shape[0], dtype=np.float64), np.arange(shape[1], dtype=np.float64))
    strain = np.eye(3) + generator.normal(0, _STRAIN, (3, 3)) * (0.5 + 0.5 * np.eye(3))
    bent = np.tensordot(strain, points, axes=1).astype(np.float32)
    side = max(shape[0] * float(np.linalg.norm(plane.down)), shape[1] * float(np.linalg.norm(plane.across)))
    for knots, share in ((5, 0.05), (9, 0.06), (16, 0.06)):
        # Less than a third of the distance of the knots, or the head would fold over.
        amplitude = share * generator.uniform(0, 1) * side / (knots - 3)
        bent += np.float32(amplitude) * smooth_field(generator, shape, knots, 3)
    if flat:
        bent[2] = np.float32(plane.origin[2])
    return bent


def cut(volume: Volume, points: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """Interpolate a volume.

    Parameters
    ----------
    volume
        The head, with a signal.
    points
        float32 (3, rows, columns), mm from the middle of the brain, RAS.

    Returns
    -------
    signal
        float32 (rows, columns).
    tissues
        float32 (tissues, rows, columns), shares from 0 to 1; None if unknown.
    """
    rows, columns = points.shape[1:]
    total = np.zeros((1 + len(TISSUES) * volume.has_tissues, rows * columns), dtype=np.float32)
    part = np.empty(rows * columns, dtype=np.float32)
    # One fetch of eight bytes brings all that is known of a voxel.
    flat = volume.voxels.reshape(-1).view(np.uint64 if volume.has_tissues else np.uint16)
    for places, share in corners(volume, points):
        fetched = flat[places]
        if not volume.has_tissues:
            np.multiply(fetched, share, out=part, casting="unsafe")
            total[0] += part
            continue
        known = fetched.view(VOXEL)
        np.multiply(known["signal"], share, out=part, casting="unsafe")
        total[0] += part
        for number in range(len(TISSUES)):
            np.multiply(known["tissues"][:, number], share, out=part, casting="unsafe")
            total[1 + number] += part
    signal = (total[0] * np.float32(1 / SIGNAL_UNITS)).reshape(rows, columns)
    if not volume.has_tissues:
        return signal, None
    return signal, (total[1:] * np.float32(1 / 255)).reshape(len(TISSUES), rows, columns)


def corners(volume: Volume, points: NDArray[np.float32]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Yield the voxels that a linear interpolation needs, and their shares.

    Parameters
    ----------
    volume
        The head.
    points
        float32 (3, rows, columns), mm from the middle of the brain, RAS.

    Yields
    ------
    places
        int64 (rows x columns,): numbers of voxels, eight times.
    shares
        float32 (rows x columns,), 0 outside the volume.
    """
    spacing = np.asarray(volume.spacing, dtype=np.float32)[:, None]
    places = points.reshape(3, -1) / spacing + np.asarray(volume.centre, dtype=np.float32)[:, None]
    limits = np.asarray(volume.shape, dtype=np.float32)[:, None] - np.float32(1.001)
    inside = ((places >= 0) & (places <= limits)).all(axis=0)
    np.clip(places, 0, limits, out=places)
    lower = places.astype(np.int32)
    places -= lower
    _, width, depth = volume.shape
    start = (lower[0].astype(np.int64) * width + lower[1]) * depth + lower[2]
    for x, y, z in itertools.product((0, 1), repeat=3):
        share = (places[0] if x else 1 - places[0]) * (places[1] if y else 1 - places[1])
        share *= places[2] if z else 1 - places[2]
        share *= inside
        yield start + ((x * width + y) * depth + z), share


def _rotation(generator: np.random.Generator, deviations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a small random rotation (3, 3) about x, y and z, by Rodrigues' formula."""
    vector = generator.normal(0, 1, 3) * deviations
    angle = float(np.linalg.norm(vector))
    x, y, z = vector / max(angle, 1e-12)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation: NDArray[np.float64] = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return rotation
