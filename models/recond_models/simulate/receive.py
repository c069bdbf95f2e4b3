"""Receive coils and their noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_RADIUS = 1.5


def sensitivities(coils: int, rows: int, columns: int) -> NDArray[np.complex128]:
    """Return the receive fields of loops around the object.

    Each loop is a pair of long wires with opposite currents on a cylinder along the slice axis. With x + iy as a complex number z,
    the law of Biot and Savart makes the transverse field of a wire at w proportional to ``1 / (z - w)``; what is received is its
    left-handed part, which is this function itself (Hoult 2000, doi:10.1002/1099-0534(2000)12:4<173::AID-CMR1>3.0.CO;2-Q).

    Parameters
    ----------
    coils
        Number of loops; a single one has a uniform field, as a volume coil.
    rows, columns
        Size of the grid over the field of view, origin at ``n // 2``.

    Returns
    -------
    ndarray
        complex128 (coils, rows, columns), largest root sum of squares in the disc that touches the sides 1.
    """
    if coils == 1:
        return np.ones((1, rows, columns), dtype=np.complex128)
    y = (np.arange(rows) - rows // 2)[:, None] * (2 / rows)
    x = (np.arange(columns) - columns // 2)[None, :] * (2 / columns)
    z = x + 1j * y
    centres = 2 * np.pi * np.arange(coils)[:, None, None] / coils
    half_width = max(1.15 * np.pi / coils, 0.25)
    wires = [_RADIUS * np.exp(1j * (centres + side * half_width)) for side in (-1, 1)]
    fields = 1 / (z - wires[0]) - 1 / (z - wires[1])
    # Every coil has its own phase, as if from its cable.
    fields = fields * np.exp(2j * np.pi * 0.382 * np.arange(coils))[:, None, None]
    total = np.sqrt(np.sum(np.abs(fields) ** 2, axis=0))
    result: NDArray[np.complex128] = fields / total[np.abs(z) <= 1].max()
    return result


def noise_covariance(coils: int, deviation: float, generator: np.random.Generator) -> NDArray[np.complex128]:
    """Return the covariance of the noise of coupled coils with different gains.

    Parameters
    ----------
    coils
        Number of coils.
    deviation
        Standard deviation of real and imaginary part of the noise of a coil, root mean square over the coils.
    generator
        Source of the gains and the coupling.

    Returns
    -------
    ndarray
        complex128 (coils, coils), Hermitian and positive definite: mean of ``n n^H`` of complex noise, so ``2 deviation^2`` on
        average on its diagonal.
    """
    gains = generator.uniform(0.7, 1.3, coils)
    steps = np.arange(coils)
    distance = np.minimum(np.abs(steps[:, None] - steps), coils - np.abs(steps[:, None] - steps))
    phases = np.exp(1j * generator.uniform(-np.pi, np.pi, coils))
    mixing = (gains * phases)[:, None] * 0.2**distance
    covariance = mixing @ mixing.conj().T
    scaled: NDArray[np.complex128] = covariance * (2 * deviation**2 * coils / np.trace(covariance).real)
    return scaled


def draw_noise(
    covariance: NDArray[np.complex128], shape: tuple[int, ...], generator: np.random.Generator
) -> NDArray[np.complex128]:
    """Draw complex Gaussian noise of a covariance.

    Parameters
    ----------
    covariance
        complex128 (coils, coils), positive definite or zero.
    shape
        Axes after the coils.
    generator
        Source of the noise.

    Returns
    -------
    ndarray
        complex128 (coils, *shape).
    """
    coils = covariance.shape[0]
    white = generator.standard_normal((2, coils, *shape))
    samples = (white[0] + 1j * white[1]) / np.sqrt(2)
    if not covariance.any():
        return np.zeros_like(samples)
    return np.tensordot(np.linalg.cholesky(covariance), samples, axes=1)
