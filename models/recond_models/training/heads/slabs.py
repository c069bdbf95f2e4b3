"""Where the voxels of five neighbouring slices lie in a head: any plane, any thickness, the head stretched and bent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recond_models.heads.network import SLICES
from recond_models.training.fields import smooth_field

# Distances from the middle of the brain at which slices are cut, mm along x, y, z (RAS): a little beyond the brain.
_REACH = ((-80.0, 80.0), (-105.0, 85.0), (-95.0, 82.0))
_VIEW_SHARES = (0.28, 0.27, 0.45)  # sagittal, coronal, axial
_OBLIQUE_SHARE = 0.12
_TILT_DEGREES = 9.0
_TURN_DEGREES = 12.0
_CENTRE_MM = 22.0
_STRETCH, _SHEAR = 0.08, 0.04
_BENDS = ((4, 0.06), (7, 0.07), (12, 0.07))
"""Control points along a side, and the largest mean displacement as a share of the side divided by them."""
_FINE_MM = 1.2
_SPACINGS = ((0.35, 0.8, 1.3), (0.30, 1.3, 3.2), (0.35, 3.2, 6.5))
"""How often, from and to: distance from slice to slice in mm."""


@dataclass(frozen=True, slots=True)
class Slab:
    """Five neighbouring slices, each of several thin ones that are averaged.

    Parameters
    ----------
    points
        float32 (3, 5 x thin, rows, columns): mm from the middle of the brain, RAS.
    thin
        Thin slices in a slice.
    step
        From slice to slice, mm.
    """

    points: NDArray[np.float32]
    thin: int
    step: float

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.points.shape[2], self.points.shape[3]

    def averaged(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return thick slices (5, rows, columns) of thin ones (5 x thin, rows, columns)."""
        if self.thin == 1:
            return values
        thick: NDArray[np.float32] = values.reshape(SLICES, self.thin, *self.size).mean(axis=1)
        return thick

    def middle(self, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the thin slices (thin, rows, columns) of the middle slice."""
        half = SLICES // 2
        return values[half * self.thin : (half + 1) * self.thin]


def draw_slab(generator: np.random.Generator, size: tuple[int, int], step: float | None = None) -> Slab:
    """Draw a slab somewhere in a head.

    Parameters
    ----------
    generator
        Source of randomness.
    size
        Rows and columns, at 1 mm.
    step
        From slice to slice, mm; None to draw it.
    """
    if step is None:
        shares = [share for share, _, _ in _SPACINGS]
        _, low, high = _SPACINGS[int(generator.choice(len(_SPACINGS), p=shares))]
        step = float(generator.uniform(low, high))
    thickness = step * float(generator.uniform(0.6, 1.0))
    thin = int(np.clip(np.ceil(thickness / _FINE_MM), 1, 4))
    axis = int(generator.choice(3, p=_VIEW_SHARES))
    middle = generator.normal(0, 1, 3) * _CENTRE_MM
    middle[axis] = generator.uniform(*_REACH[axis])
    rotation = np.roll(np.eye(3), axis, axis=1)  # rows: through the slices, down, across
    rotation = rotation @ _rotation(generator)
    linear = rotation * np.exp(generator.normal(0, _STRETCH, 3)) + generator.normal(0, _SHEAR, (3, 3))
    heights = (np.arange(SLICES) - SLICES // 2)[:, None] * step + (np.arange(thin) - (thin - 1) / 2) * thickness / thin
    heights = heights.reshape(-1).astype(np.float32)
    rows, columns = size
    down = np.arange(rows, dtype=np.float32) - np.float32(rows / 2)
    across = np.arange(columns, dtype=np.float32) - np.float32(columns / 2)
    bend = _bend(generator, size)
    points = np.empty((3, len(heights), rows, columns), dtype=np.float32)
    steps = linear.astype(np.float32)
    far = (heights / np.float32(SLICES * step))[:, None, None]
    for coordinate in range(3):
        plane = np.float32(middle[coordinate]) + steps[1, coordinate] * down[:, None] + steps[2, coordinate] * across
        np.multiply(far, bend[3 + coordinate], out=points[coordinate])
        points[coordinate] += plane + bend[coordinate]
        points[coordinate] += (steps[0, coordinate] * heights)[:, None, None]
    return Slab(points, thin, step)


def _bend(generator: np.random.Generator, size: tuple[int, int]) -> NDArray[np.float32]:
    """Return displacements of the middle slice, and how they change through the slab; float32 (6, rows, columns), mm."""
    total = np.zeros((6, *size), dtype=np.float32)
    for knots, share in _BENDS:
        amplitude = generator.uniform(0, share) * max(size) / (knots - 3)
        total += np.float32(amplitude) * smooth_field(generator, size, knots, 6)
    total[3:] *= np.float32(0.3)
    return total


def _rotation(generator: np.random.Generator) -> NDArray[np.float64]:
    """Return a rotation: small, in any direction, or seldom any at all."""
    if generator.random() < _OBLIQUE_SHARE:
        made, triangle = np.linalg.qr(generator.normal(0, 1, (3, 3)))
        return np.asarray(made * np.sign(np.diag(triangle)))
    degrees = generator.normal(0, 1, 3) * _TILT_DEGREES
    degrees[int(generator.integers(3))] = generator.normal(0, _TURN_DEGREES)
    rotation = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        turn = np.eye(3)
        first, second = (axis + 1) % 3, (axis + 2) % 3
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        rotation = rotation @ turn
    return rotation
