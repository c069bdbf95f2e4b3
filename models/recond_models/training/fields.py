"""Smooth functions over an image, and the centred Fourier transform of coil images."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.interpolate import BSpline, CubicSpline


def smooth_field(
    generator: np.random.Generator, shape: tuple[int, int], knots: int, count: int = 1
) -> NDArray[np.float32]:
    """Draw random cubic splines.

    Parameters
    ----------
    generator
        Source of the coefficients, standard normal.
    shape
        Rows and columns.
    knots
        Control points along each side, at least 4: more wiggle more.
    count
        How many fields.

    Returns
    -------
    ndarray
        float32 (count, rows, columns), of the order of 1.
    """
    coefficients = generator.standard_normal((count, knots, knots), dtype=np.float32)
    return np.asarray(_basis(shape[0], knots) @ coefficients @ _basis(shape[1], knots).T, dtype=np.float32)


def upsample(coarse: NDArray[np.complex64], shape: tuple[int, int]) -> NDArray[np.complex64]:
    """Interpolate by cubic splines from a coarse grid whose outermost points lie on those of the fine one.

    Parameters
    ----------
    coarse
        complex64 or float32 (..., coarse rows, coarse columns), at least 4 along each side.
    shape
        Rows and columns wanted.
    """
    rows = _interpolation(shape[0], coarse.shape[-2])
    columns = _interpolation(shape[1], coarse.shape[-1])
    fine: NDArray[np.complex64] = rows @ (coarse @ columns.T)
    return fine


def to_kspace(images: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """Transform (..., rows, columns) by the centred orthonormal DFT."""
    return _centred(images, fft.fft2)


def to_images(kspace: NDArray[np.complex64]) -> NDArray[np.complex64]:
    """Invert `to_kspace`."""
    return _centred(kspace, fft.ifft2)


def _centred(values: NDArray[np.complex64], transform: object) -> NDArray[np.complex64]:
    """Transform about ``n // 2``."""
    axes = (-2, -1)
    moved = fft.ifftshift(values, axes=axes)
    changed = transform(moved, axes=axes, norm="ortho", overwrite_x=True)  # type: ignore[operator]
    shifted: NDArray[np.complex64] = fft.fftshift(changed, axes=axes)
    return shifted


@lru_cache(maxsize=4096)
def _basis(size: int, knots: int) -> NDArray[np.float32]:
    """Return uniform cubic B-splines on `size` points, (size, knots), for coefficients of unit variance."""
    degree = 3
    positions = np.arange(-degree, knots + 1, dtype=np.float64)
    points = np.linspace(0, knots - degree, size, endpoint=False) + (knots - degree) / (2 * size)
    matrix = np.asarray(BSpline.design_matrix(points, positions, degree).todense())
    # The mean square of a sum of B-splines with unit coefficients is about a half along each axis.
    return np.ascontiguousarray(matrix / np.sqrt(0.48), dtype=np.float32)


@lru_cache(maxsize=4096)
def _interpolation(size: int, coarse: int) -> NDArray[np.float32]:
    """Return the matrix (size, coarse) of the interpolating cubic spline."""
    spline = CubicSpline(np.linspace(0, 1, coarse), np.eye(coarse))
    return np.ascontiguousarray(spline(np.linspace(0, 1, size)), dtype=np.float32)
