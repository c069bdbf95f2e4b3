"""Receive arrays around a head: fields of loops, coupled and whitened."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SEGMENTS = 14
# Loops are no threads: nearer than this to the wire, mm, the field grows no more.
_WIRE_MM = 9.0
# Half axes of a usual head with its brain in the middle, mm: right, front, top.
_HEAD_MM = (80.0, 100.0, 95.0)
_LOWEST = -0.75
# Of the beta distribution of how hard an array is, from 0 to 1.
_HARDNESS = (1.2, 1.7)


def receive_fields(generator: np.random.Generator, coils: int, points: NDArray[np.floating]) -> NDArray[np.complex64]:
    """Return the fields of an array in which the noise is white.

    Loops lie on an ellipsoid around the head. A loop receives the transverse part of its own field, ``Bx - i By``, by the law of
    Biot and Savart (Hoult 2000, doi:10.1002/1099-0534(2000)12:4<173::AID-CMR1>3.0.CO;2-Q). The noise of neighbours is correlated
    as far as they see the same tissue (Roemer et al. 1990, doi:10.1002/mrm.1910160203), and whitening mixes the coils.

    Parameters
    ----------
    generator
        Source of randomness: number of rings, size, distance, tilt and phase of the loops, coupling.
    coils
        Number of loops; a single one is a volume coil with a nearly uniform field.
    points
        (3, rows, columns): places in mm from the middle of the brain, RAS.

    Returns
    -------
    ndarray
        complex64 (coils, rows, columns), root mean square over the coils and the head near 1.
    """
    shape = points.shape[1:]
    flat = points.reshape(3, -1).T
    if coils == 1:
        slopes = generator.normal(0, 1.2e-3, (2, 3))
        field = np.exp(flat @ (slopes[0] + 1j * slopes[1]))
        return np.asarray(field.reshape(1, *shape), dtype=np.complex64)
    # Measured arrays are harder than loops that fit closely and are all alike; see docs/training.md.
    hardness = generator.beta(*_HARDNESS)
    half_axes = np.asarray(_HEAD_MM) * np.exp(generator.normal(0, 0.05, 3)) + generator.uniform(10, 45 + 60 * hardness)
    places = _places(generator, coils) * half_axes
    normals = places / half_axes**2
    # The head is seldom in the middle of its array.
    places += generator.normal(0, 25 * hardness, 3) * np.array([0.4, 0.8, 1.2])
    normals += generator.normal(0, 0.18, normals.shape) * np.linalg.norm(normals, axis=1, keepdims=True)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    usual = 2 * float(np.mean(half_axes)) / np.sqrt(coils)
    radii = usual * generator.uniform(0.75, 1.15 + 0.5 * hardness) * np.exp(generator.normal(0, 0.1, coils))
    fields = np.stack([_loop(flat, *loop) for loop in zip(places, normals, radii.clip(18, 130), strict=True)])
    gains = np.exp(generator.normal(0, 0.15, coils) + 1j * generator.uniform(-np.pi, np.pi, coils))
    white = _whiten(generator, fields * gains[:, None], flat, hardness)
    return white.reshape(coils, *shape).astype(np.complex64)


def _places(generator: np.random.Generator, coils: int) -> NDArray[np.float64]:
    """Return unit vectors (coils, 3) on the upper part of a sphere or in rings around it."""
    if coils <= 4 or generator.random() < 0.4:
        rings = (
            1
            if coils < 8
            else int(generator.integers(1, 1 + coils // 6))
            if coils >= 12
            else int(generator.integers(1, 3))
        )
        counts = np.full(rings, coils // rings)
        counts[: coils - counts.sum()] += 1
        heights = [0.0] if rings == 1 else np.linspace(-0.5, 0.6, rings)
        unit = []
        for count, height in zip(counts, heights, strict=True):
            angles = 2 * np.pi * (np.arange(count) / count) + generator.uniform(0, 2 * np.pi)
            width = np.sqrt(1 - height**2)
            unit.append(np.column_stack([width * np.cos(angles), width * np.sin(angles), np.full(count, height)]))
        places = np.concatenate(unit)
    else:
        # Fibonacci's spiral spreads any number of places evenly.
        steps = np.arange(coils) + 0.5
        height = 1 - steps / coils * (1 - _LOWEST)
        angles = np.pi * (1 + np.sqrt(5)) * steps + generator.uniform(0, 2 * np.pi)
        width = np.sqrt(1 - height**2)
        places = np.column_stack([width * np.cos(angles), width * np.sin(angles), height])
    places += generator.normal(0, 0.25 / np.sqrt(coils), places.shape)
    return np.asarray(places / np.linalg.norm(places, axis=1, keepdims=True))


def _loop(
    points: NDArray[np.floating], centre: NDArray[np.float64], normal: NDArray[np.float64], radius: float
) -> NDArray[np.complex128]:
    """Return ``Bx - i By`` of a loop at points (n, 3), complex (n,)."""
    helper = np.eye(3)[int(np.argmin(np.abs(normal)))]
    first = np.cross(normal, helper)
    first /= np.linalg.norm(first)
    second = np.cross(normal, first)
    angles = 2 * np.pi * (np.arange(_SEGMENTS) + 0.5) / _SEGMENTS
    wire = centre + radius * (np.cos(angles)[:, None] * first + np.sin(angles)[:, None] * second)
    step = (2 * np.pi * radius / _SEGMENTS) * (-np.sin(angles)[:, None] * first + np.cos(angles)[:, None] * second)
    # sum of step x (point - wire) / distance^3 = (sum of step / distance^3) x point - sum of (step x wire) / distance^3
    squares = (points**2).sum(axis=1)[:, None] + (wire**2).sum(axis=1)[None, :] - 2 * points @ wire.T + _WIRE_MM**2
    weights = squares**-1.5
    along = weights @ step
    moments = weights @ np.cross(step, wire)
    x = along[:, 1] * points[:, 2] - along[:, 2] * points[:, 1] - moments[:, 0]
    y = along[:, 2] * points[:, 0] - along[:, 0] * points[:, 2] - moments[:, 1]
    field: NDArray[np.complex128] = x - 1j * y
    return field


def _whiten(
    generator: np.random.Generator, fields: NDArray[np.complex128], points: NDArray[np.floating], hardness: float
) -> NDArray[np.complex128]:
    """Couple the coils and mix them so that their noise is white."""
    inside = ((points / np.asarray(_HEAD_MM)) ** 2).sum(axis=1) < 1
    seen = fields[:, inside] if inside.sum() >= 8 else fields
    overlap = seen @ seen.conj().T / seen.shape[1]
    scale = np.sqrt(np.maximum(np.real(np.diag(overlap)), 1e-30))
    correlation = overlap / np.outer(scale, scale)
    # The noise of the coil itself and of its amplifier is its own.
    share = generator.uniform(0.1, 0.7)
    covariance = (1 - share) * np.eye(len(fields)) + share * correlation
    # All coils are equally noisy per unit of signal, within a factor.
    deviations = scale * np.exp(generator.normal(0, 0.1 + 0.5 * hardness, len(fields)))
    white = np.linalg.solve(np.linalg.cholesky(covariance * np.outer(deviations, deviations)), fields)
    level = np.sqrt(np.mean(np.abs(white[:, inside] if inside.sum() >= 8 else white) ** 2))
    return np.asarray(white / max(float(level), 1e-30), dtype=np.complex128)
