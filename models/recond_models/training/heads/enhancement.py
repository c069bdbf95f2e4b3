"""Where a healthy head is bright after contrast: vessels, sinuses, dura, choroid plexus, pituitary gland, mucosa.

Drawn from rough positions of the anatomy (mm from the middle of the brain, RAS) and the surface of the brain, and uneven on
purpose: a network is to learn that what is tubular, flat or in these places is no lesion.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.interpolate import CubicSpline

# Radius in mm, then points along the vessel; mirrored where x is not 0.
_ARTERIES: tuple[tuple[float, tuple[tuple[float, float, float], ...]], ...] = (
    (1.8, ((0, -4, -60), (0, -3, -45), (0, 2, -28))),  # basilar
    (2.2, ((16, 6, -58), (18, 14, -42), (9, 20, -35), (11, 19, -24))),  # internal carotid
    (1.3, ((11, 19, -24), (24, 20, -22), (38, 16, -14), (46, 2, 0), (50, -15, 12))),  # middle cerebral
    (1.0, ((38, 16, -14), (44, 24, 2), (46, 30, 14))),
    (1.0, ((2, 24, -18), (2, 45, -5), (3, 50, 18), (3, 25, 38), (3, 0, 44))),  # anterior cerebral
    (1.0, ((2, 2, -27), (16, 0, -22), (24, -18, -14), (18, -45, -2), (12, -68, 2))),  # posterior cerebral
)
_VEINS: tuple[tuple[float, tuple[tuple[float, float, float], ...]], ...] = (
    (1.0, ((2, 18, 8), (2, 0, 10), (2, -18, 6))),  # internal cerebral
    (2.2, ((0, -16, 4), (0, -26, -2), (0, -32, 6))),  # Galen
    (1.0, ((8, 10, -22), (20, -5, -18), (18, -22, -10), (2, -26, -2))),  # basal
)
_CHOROID: tuple[tuple[float, tuple[tuple[float, float, float], ...]], ...] = (
    (2.4, ((14, 8, 18), (20, -8, 16), (26, -26, 8), (28, -20, -8))),
)
_GLANDS = (
    (3.5, (0.0, 19.0, -37.0)),
    (2.2, (0.0, -18.0, -4.0)),
    (3.0, (11.0, 17.0, -37.0)),
    (3.0, (-11.0, 17.0, -37.0)),
)
_JITTER_MM = 3.0
_STEP_MM = 0.5
# The brain these positions belong to, half its edges along x, y, z.
_HALF = np.array([68.0, 87.0, 68.0])


def normal_enhancement(
    generator: np.random.Generator,
    hull: NDArray[np.bool_],
    spacing: tuple[float, float, float],
    centre: tuple[float, float, float],
    fluid: NDArray[np.bool_],
    depth: NDArray[np.float32],
) -> NDArray[np.uint8]:
    """Return how strongly each voxel enhances in a healthy head, uint8 (x, y, z), 255 as much as blood.

    Parameters
    ----------
    generator
        Source of randomness.
    hull
        Bool (x, y, z): all within the skull.
    spacing
        Edges of a voxel, mm.
    centre
        Voxel in the middle of the brain.
    fluid
        Bool (x, y, z): what may be cerebrospinal fluid; small veins run there.
    depth
        float32 (x, y, z): distance from the surface within the hull, mm.
    """
    strength = np.zeros(hull.shape, dtype=np.float32)
    scale = _scale(hull, spacing)
    place = _Place(generator, np.asarray(spacing), np.asarray(centre), scale)
    for radius, points in (*_ARTERIES, *_VEINS):
        place.tube(strength, points, radius, generator.uniform(0.6, 1))
    for radius, points in _CHOROID:
        place.tube(strength, points, radius, generator.uniform(0.4, 0.9))
    for radius, middle in _GLANDS:
        place.tube(strength, (middle, tuple(value + 0.5 for value in middle)), radius, generator.uniform(0.5, 1))
    _sinuses(place, strength, hull)
    soft = ndimage.gaussian_filter(hull.astype(np.float32), [0.9 / size for size in spacing])
    surface = 4 * soft * (1 - soft) * (0.6 * _patches(generator, hull.shape, spacing, 18))
    np.maximum(strength, surface, out=strength)
    near = (depth > 0) & (depth < 14) & fluid
    np.maximum(strength, _veins(generator, hull.shape, spacing) * near, out=strength)
    mucosa = ~_swollen(hull, spacing) & _below(hull.shape, place, front=25.0, top=-25.0)
    np.maximum(strength, mucosa * _patches(generator, hull.shape, spacing, 5), out=strength)
    return np.round(255 * np.clip(strength, 0, 1)).astype(np.uint8)


class _Place:
    """Positions of the anatomy to voxels of one head."""

    def __init__(
        self,
        generator: np.random.Generator,
        spacing: NDArray[np.float64],
        centre: NDArray[np.float64],
        scale: NDArray[np.float64],
    ) -> None:
        self._generator, self._scale = generator, scale
        self.spacing, self.centre = spacing, centre

    def tube(
        self, strength: NDArray[np.float32], points: tuple[tuple[float, ...], ...], radius: float, level: float
    ) -> None:
        """Draw a tube through points, and its mirror image."""
        sides = (1, -1) if any(point[0] for point in points) else (1,)
        for side in sides:
            jitter = self._generator.normal(0, _JITTER_MM, (len(points), 3))
            knots = np.asarray(points) * [side, 1, 1] * self._scale + jitter
            self.through(strength, knots, radius * self._generator.uniform(0.7, 1.4), level)

    def through(
        self,
        strength: NDArray[np.float32],
        knots: NDArray[np.float64],
        radius: float | NDArray[np.float64],
        level: float,
    ) -> None:
        """Draw a tube along a spline through positions in mm from the middle of the brain; the radius may change."""
        along = np.r_[0, np.cumsum(np.maximum(np.linalg.norm(np.diff(knots, axis=0), axis=1), 0.1))]
        steps = np.arange(0, along[-1], _STEP_MM) if along[-1] > _STEP_MM else np.zeros(1)
        curve = CubicSpline(along, knots)(steps)
        radii = np.interp(steps, along, np.broadcast_to(radius, len(along)))
        for position, size in zip(curve, radii, strict=True):
            self._stamp(strength, position / self.spacing + self.centre, float(size), level)

    def _stamp(self, strength: NDArray[np.float32], voxel: NDArray[np.float64], radius: float, level: float) -> None:
        low = np.maximum(np.floor(voxel - (radius + 1) / self.spacing).astype(int), 0)
        high = np.minimum(np.ceil(voxel + (radius + 1) / self.spacing).astype(int) + 1, strength.shape)
        if (low >= high).any():
            return
        window = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        squares = [((np.arange(a, b) - v) * s) ** 2 for a, b, v, s in zip(low, high, voxel, self.spacing, strict=True)]
        away = np.sqrt(squares[0][:, None, None] + squares[1][None, :, None] + squares[2][None, None, :])
        ball = level * np.clip(radius + 0.5 - away, 0, 1)
        np.maximum(strength[window], ball, out=strength[window])


def _sinuses(place: _Place, strength: NDArray[np.float32], hull: NDArray[np.bool_]) -> None:
    """Draw the sagittal sinus along the top of the hull and the transverse sinuses along its back."""
    x = round(float(place.centre[0]))
    middle: NDArray[np.bool_] = np.any(hull[max(x - 1, 0) : x + 2], axis=0)
    ys = np.flatnonzero(middle.any(axis=1))
    if ys.size < 8:
        return
    torcula_z = -18.0
    crown, back = [], float("inf")
    for y in np.linspace(ys[0], ys[-1], 24).astype(int):
        zs = np.flatnonzero(middle[y])
        if zs.size == 0:
            continue
        position = (np.array([x, y, zs[-1] - 1]) - place.centre) * place.spacing
        if position[2] > torcula_z:
            crown.append(position)
            back = min(back, float(position[1]))
    if len(crown) < 4:
        return
    crown = sorted(crown, key=lambda position: -position[1])
    radii = np.linspace(1.2, 4.0, len(crown))
    place.through(strength, np.asarray(crown), radii, 1.0)
    torcula = np.array([0.0, back + 4, torcula_z])
    place.through(strength, np.stack([crown[-1], torcula]), 3.5, 1.0)
    place.through(strength, np.array([[0.0, -32.0, 6.0], torcula]), 1.8, 0.9)
    for side in (1, -1):
        path = [torcula]
        for share, height in ((0.35, -18.0), (0.65, -19.0), (0.85, -20.0)):
            found = _backmost(place, hull, side * share * 58.0, height)
            if found is not None:
                path.append(found)
        if len(path) > 1:
            path.append(path[-1] + np.array([side * 3.0, 16.0, -14.0]))
            place.through(strength, np.asarray(path), 2.8, 1.0)


def _backmost(place: _Place, hull: NDArray[np.bool_], x_mm: float, z_mm: float) -> NDArray[np.float64] | None:
    """Return the hull's hindmost position in a column along y, mm; None where there is no hull."""
    x, z = (round(float(place.centre[a] + mm / place.spacing[a])) for a, mm in ((0, x_mm), (2, z_mm)))
    if not (0 <= x < hull.shape[0] and 0 <= z < hull.shape[2]):
        return None
    ys = np.flatnonzero(hull[x, :, z])
    if ys.size == 0:
        return None
    found: NDArray[np.float64] = (np.array([x, ys[0] + 2, z]) - place.centre) * place.spacing
    return found


def _veins(generator: np.random.Generator, shape: tuple[int, ...], spacing: tuple[float, ...]) -> NDArray[np.float32]:
    """Return winding tubes where two smooth random fields are both nearly zero, in some regions."""
    total = np.ones(shape, dtype=np.float32)
    for _ in range(2):
        field = _smooth(generator, shape, spacing, 5.0)
        slope = np.sqrt(sum(part**2 for part in np.gradient(field, *spacing)))
        total *= np.exp(-((field / (0.9 * slope + 1e-3)) ** 2)).astype(np.float32)
    tubes: NDArray[np.float32] = total * np.clip(0.6 + 0.5 * _smooth(generator, shape, spacing, 12.0), 0, 1)
    return tubes


def _patches(
    generator: np.random.Generator, shape: tuple[int, ...], spacing: tuple[float, ...], size: float
) -> NDArray[np.float32]:
    """Return a smooth field between 0 and 1, 0 in about half of the space."""
    patches: NDArray[np.float32] = np.clip(_smooth(generator, shape, spacing, size), 0, 1)
    return patches


def _smooth(
    generator: np.random.Generator, shape: tuple[int, ...], spacing: tuple[float, ...], size: float
) -> NDArray[np.float32]:
    """Return a smooth random field of standard deviation about 1; features are about `size` mm."""
    coarse = [max(4, round(n * s / size) + 3) for n, s in zip(shape, spacing, strict=True)]
    values = generator.standard_normal(coarse).astype(np.float32)
    field: NDArray[np.float32] = ndimage.zoom(values, np.array(shape) / coarse, order=1, output=np.float32)
    # The corners of the linear interpolation are rounded.
    field = ndimage.gaussian_filter(field, [0.35 * size / edge for edge in spacing], truncate=2.5)
    return field / np.float32(max(float(field.std()), 1e-6))


def _swollen(hull: NDArray[np.bool_], spacing: tuple[float, ...]) -> NDArray[np.bool_]:
    """Return the hull and what is within about 12 mm of it, computed on every fourth voxel."""
    step = 4
    away = ndimage.distance_transform_edt(~hull[::step, ::step, ::step], sampling=[step * size for size in spacing])
    near = away < 12
    for axis in range(3):
        near = np.repeat(near, step, axis=axis)
    swollen: NDArray[np.bool_] = near[tuple(slice(0, n) for n in hull.shape)]
    return swollen


def _below(shape: tuple[int, ...], place: _Place, front: float, top: float) -> NDArray[np.bool_]:
    """Tell where the face is: in front of and below a position, mm."""
    y = (np.arange(shape[1]) - place.centre[1]) * place.spacing[1] > front
    z = (np.arange(shape[2]) - place.centre[2]) * place.spacing[2] < top
    return np.broadcast_to(y[None, :, None] & z[None, None, :], shape)


def _scale(hull: NDArray[np.bool_], spacing: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the size of a hull relative to that of the brain in which the positions were noted."""
    edges = []
    for axis in range(3):
        filled = np.flatnonzero(hull.any(axis=tuple(other for other in range(3) if other != axis)))
        edges.append((filled[-1] - filled[0] + 1) * spacing[axis] / 2)
    scale: NDArray[np.float64] = np.clip(np.asarray(edges) / (_HALF + 3), 0.8, 1.25)
    return scale
