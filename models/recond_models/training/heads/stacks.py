"""Neighbouring slices through a head: where their pixels lie, and what a packed head holds there."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recond_models.training.fields import smooth_field
from recond_models.training.heads.bank import EXTRA_SHIFT, HULL_SHIFT, LesionHead
from recond_models.training.heads.lesions import Lesion
from recond_models.training.volumes import SIGNAL_UNITS

SLICES = 5
_VIEWS = {"axial": (2, 1, 0), "coronal": (1, 2, 0), "sagittal": (0, 2, 1)}
_SHARES = (0.64, 0.18, 0.18)
_TILT_DEGREES = 10.0
_STRAIN = 0.06
_BEND_MM = 2.5
# Pictures that are mostly air, as the first and last slices of a head are.
_ASIDE_SHARE = 0.2
_INNER_SHARE = 0.5
# What a push moves lies within so many radii.
_PUSHED = 3.5


@dataclass(frozen=True, slots=True)
class Stack:
    """Slices of a patient, who is a head stretched and bent.

    Parameters
    ----------
    origin
        float64 (3,): middle pixel of the middle slice, mm.
    axes
        float64 (3, 3): unit vectors across the slices, down the rows and along the columns.
    step
        From slice to slice, mm.
    offsets
        float64 (parts,): where within its thickness a slice is evaluated, mm from its middle.
    size
        Rows and columns, of 1 mm.
    strain
        float64 (3, 3): from positions of the patient to those of the head.
    slices
        How many.
    """

    origin: NDArray[np.float64]
    axes: NDArray[np.float64]
    step: float
    offsets: NDArray[np.float64]
    size: tuple[int, int]
    strain: NDArray[np.float64]
    slices: int = SLICES

    def averaged(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (slices, rows, columns) of values (slices x parts, rows, columns)."""
        averages: NDArray[np.float32] = values.reshape(self.slices, len(self.offsets), *self.size).mean(axis=1)
        return averages

    @property
    def heights(self) -> NDArray[np.float64]:
        """Planes that are evaluated, float64 (slices x parts,), mm from the origin across the slices."""
        middles = (np.arange(self.slices) - self.slices // 2) * self.step
        heights: NDArray[np.float64] = (middles[:, None] + self.offsets[None, :]).reshape(-1)
        return heights

    def points(self) -> NDArray[np.float32]:
        """Return where the pixels lie, float32 (3, slices x parts, rows, columns), mm."""
        rows, columns = (np.arange(n) - n // 2 for n in self.size)
        base = self.origin[:, None] + self.axes[0][:, None] * self.heights
        down = self.axes[1][:, None] * rows
        across = self.axes[2][:, None] * columns
        places = base[:, :, None, None] + down[:, None, :, None] + across[:, None, None, :]
        return np.ascontiguousarray(places, dtype=np.float32)

    def window(self, centre: NDArray[np.floating], extent: float) -> tuple[slice, slice, slice] | None:
        """Return the part of the pixels within a distance of a position; None if there is none."""
        place = self.axes @ (np.asarray(centre, dtype=np.float64) - self.origin)
        near = np.flatnonzero(np.abs(self.heights - place[0]) < extent)
        if near.size == 0:
            return None
        parts = [slice(int(near[0]), int(near[-1]) + 1)]
        for size, value in zip(self.size, place[1:], strict=True):
            start, stop = int(np.floor(value - extent)) + size // 2, int(np.ceil(value + extent)) + size // 2 + 1
            start, stop = max(start, 0), min(stop, size)
            if start >= stop:
                return None
            parts.append(slice(start, stop))
        return parts[0], parts[1], parts[2]


@dataclass(frozen=True, slots=True)
class Found:
    """What a head holds at the pixels of a stack; each (slices x parts, rows, columns).

    Parameters
    ----------
    image
        float32: signal, or the mean signal of the structures.
    hull
        float32, 0 to 1: within the skull.
    extra
        float32, 0 to 1: see `LesionHead.extra`.
    nearest
        uint32: the nearest packed voxel.
    """

    image: NDArray[np.float32]
    hull: NDArray[np.float32]
    extra: NDArray[np.float32]
    nearest: NDArray[np.uint32]


def draw_stack(
    generator: np.random.Generator,
    head: LesionHead,
    focus: NDArray[np.floating] | None,
    size: tuple[int, int],
    view: str | None = None,
) -> Stack:
    """Draw slices of a head, through a position of it if one is given.

    Parameters
    ----------
    generator
        Source of randomness.
    head
        The head; thick slices are kept as they are.
    focus
        (3,), mm from the middle of the brain, in the head; None for anywhere.
    size
        Rows and columns.
    view
        Nearest of axial, coronal and sagittal; drawn if None. Thick slices are axial.
    """
    strain = np.eye(3) + generator.normal(0, _STRAIN, (3, 3)) * (0.4 + 0.6 * np.eye(3))
    if head.thick or view is None:
        view = "axial" if head.thick else str(generator.choice(list(_VIEWS), p=_SHARES))
    axes = np.eye(3)[list(_VIEWS[view])]
    tilt = generator.normal(0, np.radians(_TILT_DEGREES), 3)
    if head.thick:
        tilt[:2] = 0
        strain[2], strain[:, 2] = (0, 0, 1), (0, 0, 1)
    axes = axes @ _rotation(tilt).T
    step = head.spacing[2] if head.thick else _draw_step(generator)
    place = np.linalg.solve(
        strain, np.asarray(_anywhere(generator, head) if focus is None else focus, dtype=np.float64)
    )
    along = axes @ place
    along[0] += generator.uniform(-1, 1) * step / 2
    # The middle of the picture lies between the focus and the middle of the head.
    along[1:] = along[1:] * generator.uniform(0.2, 0.8, 2) + generator.normal(0, 14, 2)
    if generator.random() < _ASIDE_SHARE:
        along[1:] += generator.uniform(-0.5, 0.5, 2) * np.asarray(size)
    if head.thick:
        height = np.round(along[0] / step + head.centre[2]) - head.centre[2]
        along[0] = height * step
    parts = 1 if head.thick or step < 1.6 else 2 if step < 4 else 3
    thickness = step * generator.uniform(0.75, 1.0)
    offsets = (np.arange(parts) - (parts - 1) / 2) * thickness / parts
    return Stack(along @ axes, axes, float(step), offsets, size, strain)


def shown(
    generator: np.random.Generator,
    head: LesionHead,
    stack: Stack,
    lesions: list[Lesion],
    table: NDArray[np.float32] | None,
) -> tuple[NDArray[np.float32], Found]:
    """Return what is in the slices, pushed aside by the lesions.

    Parameters
    ----------
    generator
        Source of randomness: the bending.
    head, stack, lesions
        What lies where.
    table
        float32 (256,): mean signal of each structure where the head is a map; None otherwise.

    Returns
    -------
    points
        float32 (3, slices x parts, rows, columns), mm, of the patient.
    found
        What is there.
    """
    points = stack.points()
    before = points
    for lesion in lesions:
        window = stack.window(lesion.centre, _PUSHED * lesion.radius) if lesion.push > 0 else None
        if window is not None:
            before = points.copy() if before is points else before
            place = (slice(None), *window)
            before[place] = lesion.source(before[place])
    places = (stack.strain.astype(np.float32) @ before.reshape(3, -1)).reshape(points.shape)
    if not head.thick:
        bend = smooth_field(generator, stack.size, 6, 3) * np.float32(generator.uniform(0, _BEND_MM))
        places += bend[:, None]
    return points, _fetch(head, places, table, len(stack.offsets))


def _fetch(head: LesionHead, points: NDArray[np.float32], table: NDArray[np.float32] | None, parts: int) -> Found:
    """Look up a head; 0 outside.

    Structures are those of the nearest voxel. Signals are interpolated, in slices that are averaged over their thickness along two
    axes only: what matters here is time.
    """
    shape = points.shape[1:]
    flat = head.flat
    places = points.reshape(3, -1)
    places *= np.asarray([1 / size for size in head.spacing], dtype=np.float32)[:, None]
    places += np.asarray(head.centre, dtype=np.float32)[:, None]
    limits = [n - 1.001 for n in head.voxels.shape]
    inside = np.ones(places.shape[1], dtype=bool)
    for values, limit in zip(places, limits, strict=True):
        inside &= (values >= 0) & (values <= limit)
        np.clip(values, 0, limit, out=values)
    _, width, depth = head.voxels.shape
    strides = np.array([width * depth, depth, 1], dtype=np.int32)
    rounded = (places + np.float32(0.5)).astype(np.int32)
    near = rounded[0] * strides[0] + rounded[1] * strides[1] + rounded[2]
    nearest = flat.take(near)
    if not inside.all():
        nearest *= inside
    if table is not None:
        image = table.take(nearest & 0xFF)
    else:
        image = _interpolated(flat, places, rounded, strides, across=head.thick or parts > 1)
        image *= inside
    scale = np.float32(1 / 255)
    hull = ((nearest >> HULL_SHIFT) & 0xFF).astype(np.float32) * scale
    extra = (nearest >> EXTRA_SHIFT).astype(np.float32) * scale
    return Found(image.reshape(shape), hull.reshape(shape), extra.reshape(shape), nearest.reshape(shape))


def _interpolated(
    flat: NDArray[np.uint32],
    places: NDArray[np.float32],
    rounded: NDArray[np.int32],
    strides: NDArray[np.int32],
    *,
    across: bool,
) -> NDArray[np.float32]:
    """Return signals, 0 to 1, float32 (points,), at places (3, points) in voxels.

    `across` takes the nearest voxel along the axis on which the points change least, that of the slices.
    """
    lower = places.astype(np.int32)
    beyond = places - lower
    axes = [0, 1, 2]
    start = np.zeros(places.shape[1], dtype=np.int32)
    if across:
        left_out = int(np.argmin([float(np.ptp(values)) for values in places]))
        axes.remove(left_out)
        start += rounded[left_out] * strides[left_out]
    for axis in axes:
        start += lower[axis] * strides[axis]
    image = np.zeros(start.size, dtype=np.float32)
    for corner in itertools.product((0, 1), repeat=len(axes)):
        offset = np.int32(sum(int(strides[axis]) for axis, on in zip(axes, corner, strict=True) if on))
        values = (flat.take(start + offset) & 0xFFFF).astype(np.float32)
        for axis, on in zip(axes, corner, strict=True):
            values *= beyond[axis] if on else 1 - beyond[axis]
        image += values
    image *= np.float32(1 / SIGNAL_UNITS)
    return image


def _draw_step(generator: np.random.Generator) -> float:
    """Draw a distance of slices: 1 mm in three-dimensional scans, 3 to 7 in most others."""
    choice = generator.random()
    if choice < 0.35:
        return float(generator.uniform(0.8, 1.3))
    return float(generator.uniform(1.3, 2.6)) if choice < 0.5 else float(generator.uniform(2.6, 7.0))


def _anywhere(generator: np.random.Generator, head: LesionHead) -> NDArray[np.float64]:
    """Draw a position in the brain, or anywhere in the volume up to its first and last slices."""
    places = head.sites["any"]
    if generator.random() < _INNER_SHARE and len(places):
        return np.asarray(places[generator.integers(len(places))], dtype=np.float64)
    voxel = generator.uniform(0.02, 0.98, 3) * head.voxels.shape
    return np.asarray((voxel - np.asarray(head.centre)) * np.asarray(head.spacing))


def _rotation(turns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rotation (3, 3) by a vector of angles, Rodrigues' formula."""
    angle = float(np.linalg.norm(turns))
    x, y, z = turns / max(angle, 1e-12)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation: NDArray[np.float64] = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return rotation
