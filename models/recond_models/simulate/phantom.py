"""The Shepp-Logan phantom, in the image and, in closed form, in k-space.

Ten ellipses (Shepp and Logan 1974, doi:10.1109/TNS.1974.6499235) with the raised contrast of Toft 1996. The Fourier transform of an
ellipse is a Bessel function; coil sensitivities are short sums of plane waves, and each of these shifts k-space (Guerquin-Kern et
al. 2012, doi:10.1109/TMI.2011.2174158). So multi-coil k-space needs no discrete image.

Lengths are in half fields of view: the image spans [-1, 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import j1

Real = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Ellipse:
    """An ellipse of constant signal.

    Parameters
    ----------
    signal
        What it adds.
    half_axes
        Half axes along x (columns) and y (upwards) before rotation.
    centre
        (x, y).
    angle
        Rotation in degrees, counter-clockwise.
    """

    signal: float
    half_axes: tuple[float, float]
    centre: tuple[float, float]
    angle: float


ELLIPSES = (
    Ellipse(1.0, (0.69, 0.92), (0.0, 0.0), 0.0),
    Ellipse(-0.8, (0.6624, 0.874), (0.0, -0.0184), 0.0),
    Ellipse(-0.2, (0.11, 0.31), (0.22, 0.0), -18.0),
    Ellipse(-0.2, (0.16, 0.41), (-0.22, 0.0), 18.0),
    Ellipse(0.1, (0.21, 0.25), (0.0, 0.35), 0.0),
    Ellipse(0.1, (0.046, 0.046), (0.0, 0.1), 0.0),
    Ellipse(0.1, (0.046, 0.046), (0.0, -0.1), 0.0),
    Ellipse(0.1, (0.046, 0.023), (-0.08, -0.605), 0.0),
    Ellipse(0.1, (0.023, 0.023), (0.0, -0.606), 0.0),
    Ellipse(0.1, (0.023, 0.046), (0.06, -0.605), 0.0),
)


def image(rows: int, columns: int, ellipses: tuple[Ellipse, ...] = ELLIPSES) -> NDArray[np.float64]:
    """Return the phantom at the pixel centres: float64 (rows, columns), y upwards, origin at ``n // 2``."""
    y = -(np.arange(rows) - rows // 2)[:, None] * (2 / rows)
    x = (np.arange(columns) - columns // 2)[None, :] * (2 / columns)
    total = np.zeros((rows, columns))
    for ellipse in ellipses:
        along, across = _rotate(x - ellipse.centre[0], y - ellipse.centre[1], ellipse.angle)
        total += ellipse.signal * ((along / ellipse.half_axes[0]) ** 2 + (across / ellipse.half_axes[1]) ** 2 <= 1)
    return total


def transform(
    row_frequencies: Real,
    column_frequencies: Real,
    ellipses: tuple[Ellipse, ...] = ELLIPSES,
) -> NDArray[np.complex128]:
    """Return the continuous Fourier transform on a grid of frequencies.

    Parameters
    ----------
    row_frequencies, column_frequencies
        Cycles per unit length along increasing rows (downwards) and columns.
    ellipses
        The object.

    Returns
    -------
    ndarray
        complex128 (row frequencies, column frequencies): ``integral of object(r) exp(-2 pi i k . r)``.
    """
    kx, ky = column_frequencies[None, :], -row_frequencies[:, None]
    total = np.zeros((row_frequencies.size, column_frequencies.size), dtype=np.complex128)
    for ellipse in ellipses:
        along, across = _rotate(kx, ky, ellipse.angle)
        a, b = ellipse.half_axes
        radius = np.hypot(a * along, b * across)
        safe = np.where(radius > 0, radius, 1)
        amplitude = ellipse.signal * a * b * np.where(radius > 0, j1(2 * np.pi * safe) / safe, np.pi)
        total += amplitude * np.exp(-2j * np.pi * (kx * ellipse.centre[0] + ky * ellipse.centre[1]))
    return total


def multicoil_kspace(
    weights: NDArray[np.complex128],
    rows: int,
    columns: int,
    oversampling: int,
    ellipses: tuple[Ellipse, ...] = ELLIPSES,
) -> NDArray[np.complex128]:
    """Return k-space of the phantom seen by coils, without discretising it.

    Parameters
    ----------
    weights
        complex128 (coils, orders, orders): plane-wave coefficients of the sensitivities, as `plane_wave_weights` gives them.
    rows, columns
        Size of the image.
    oversampling
        Readout oversampling, 1 or 2.
    ellipses
        The object.

    Returns
    -------
    ndarray
        complex128 (coils, oversampling * rows, columns), centred orthonormal DFT.
    """
    reach = weights.shape[1] // 2
    samples = (oversampling * rows, columns)
    # Frequencies in units of 1/4 cycle: half the spacing of a field of view of 2, so that plane waves of period 4 fall on the grid.
    steps = (2 // oversampling, 2)
    first = [-(n // 2) * step - reach for n, step in zip(samples, steps, strict=True)]
    counts = [(n - 1) * step + 1 + 2 * reach for n, step in zip(samples, steps, strict=True)]
    row_frequencies, column_frequencies = (
        (start + np.arange(count)) / 4 for start, count in zip(first, counts, strict=True)
    )
    lattice = transform(row_frequencies, column_frequencies, ellipses)
    scale = np.sqrt(samples[0] * samples[1]) * (steps[0] / 4) * (steps[1] / 4)
    result = np.zeros((weights.shape[0], *samples), dtype=np.complex128)
    for row_order in range(2 * reach + 1):
        for column_order in range(2 * reach + 1):
            # The plane wave exp(2 pi i m . r / 4) moves k-space by m; orders run from -reach.
            top, left = 2 * reach - row_order, 2 * reach - column_order
            shifted = lattice[
                top : top + counts[0] - 2 * reach : steps[0], left : left + counts[1] - 2 * reach : steps[1]
            ]
            result += weights[:, row_order, column_order, None, None] * shifted
    result *= scale
    return result


def plane_wave_weights(sensitivities: NDArray[np.complex128], reach: int = 4) -> NDArray[np.complex128]:
    """Fit sums of plane waves of period 4 to sensitivities over the disc of radius 1.

    Parameters
    ----------
    sensitivities
        complex128 (coils, rows, columns) over [-1, 1), origin at ``n // 2``.
    reach
        Highest order on each axis.

    Returns
    -------
    ndarray
        complex128 (coils, 2 reach + 1, 2 reach + 1).
    """
    rows, columns = sensitivities.shape[1:]
    y = (np.arange(rows) - rows // 2) * (2 / rows)
    x = (np.arange(columns) - columns // 2) * (2 / columns)
    inside = y[:, None] ** 2 + x[None, :] ** 2 <= 1
    orders = np.arange(-reach, reach + 1)
    row_waves, column_waves = (np.exp(0.5j * np.pi * axis[:, None] * orders) for axis in (y, x))
    basis = np.einsum("rm,cn->rcmn", row_waves, column_waves)[inside].reshape(int(inside.sum()), -1)
    # A little damping: the plane waves are nearly dependent on the disc.
    gram = basis.conj().T @ basis
    gram += 1e-9 * np.trace(gram).real / len(gram) * np.eye(len(gram))
    weights = np.linalg.solve(gram, basis.conj().T @ sensitivities[:, inside].T)
    return np.ascontiguousarray(weights.T).reshape(-1, orders.size, orders.size)


def plane_waves(weights: NDArray[np.complex128], rows: int, columns: int) -> NDArray[np.complex128]:
    """Return the sensitivities that `plane_wave_weights` stands for: complex128 (coils, rows, columns)."""
    reach = weights.shape[1] // 2
    orders = np.arange(-reach, reach + 1)
    row_waves, column_waves = (
        np.exp(0.5j * np.pi * ((np.arange(size) - size // 2) * (2 / size))[:, None] * orders)
        for size in (rows, columns)
    )
    maps: NDArray[np.complex128] = np.einsum("kmn,rm,cn->krc", weights, row_waves, column_waves, optimize=True)
    return maps


def _rotate(x: Real, y: Real, degrees: float) -> tuple[Real, Real]:
    """Return the coordinates along the axes of an ellipse turned by `degrees`."""
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return x * cosine + y * sine, y * cosine - x * sine
