"""Centred, orthonormal two-dimensional DFT without shift copies.

Moving the origin from index 0 to ``n // 2`` on one side of a DFT multiplies the other side by a plane wave. So ``fft2c(x) = w *
fft2(w * x)`` with ``w[k] = exp(2 pi i (n // 2) (k - (n // 2) / 2) / n)`` along each axis: for even n signs that alternate, for
odd n a phase ramp, exact for both. The two products take less time than two copies, and an operator that multiplies next to the
transform anyway (sensitivities, masks) can have them for nothing: see `ramp`.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

_AXES = (-2, -1)


def fft2c(image: Tensor) -> Tensor:
    """Transform images to k-space.

    The origin of both spaces is at index ``n // 2``, for odd n too.

    Parameters
    ----------
    image
        Complex (..., rows, columns).

    Returns
    -------
    Tensor
        Complex (..., rows, columns), same dtype and device; the sum of squares is that of `image`.
    """
    wave = ramp(image.shape[-2], image.shape[-1], image.dtype, image.device)
    kspace: Tensor = torch.fft.fft2(image * wave, dim=_AXES, norm="ortho").mul_(wave)
    return kspace


def ifft2c(kspace: Tensor) -> Tensor:
    """Transform k-space to images: the inverse, and the adjoint, of `fft2c`.

    Parameters
    ----------
    kspace
        Complex (..., rows, columns).

    Returns
    -------
    Tensor
        Complex (..., rows, columns), same dtype and device.
    """
    wave = ramp(kspace.shape[-2], kspace.shape[-1], kspace.dtype, kspace.device, conjugate=True)
    image: Tensor = torch.fft.ifft2(kspace * wave, dim=_AXES, norm="ortho").mul_(wave)
    return image


def ramp(rows: int, columns: int, dtype: torch.dtype, device: torch.device, *, conjugate: bool = False) -> Tensor:
    """Return the plane wave that centres a plain DFT.

    ``fft2c(x) = ramp * fft2(ramp * x)``, and ``ifft2c(k) = conj(ramp) * ifft2(conj(ramp) * k)``, both with ``norm="ortho"``.

    Parameters
    ----------
    rows, columns
        Size of the transform.
    dtype
        complex64 or complex128.
    device
        Where it is needed.
    conjugate
        Return the complex conjugate, in memory.

    Returns
    -------
    Tensor
        Complex (rows, columns), of magnitude 1 everywhere. Kept between calls: never write to it.
    """
    return _ramp(rows, columns, dtype, device, conjugate)


@functools.lru_cache(maxsize=32)
def _ramp(rows: int, columns: int, dtype: torch.dtype, device: torch.device, conjugate: bool) -> Tensor:
    # A tensor made under inference mode could not take part in a later gradient.
    with torch.inference_mode(mode=False):
        waves = [_wave(size) for size in (rows, columns)]
        product = waves[0][:, None] * waves[1][None, :]
        if conjugate:
            product = product.conj().resolve_conj()
        return product.to(dtype=dtype, device=device)


def _wave(size: int) -> Tensor:
    """Return complex128 (size,): ``exp(2 pi i h (k - h / 2) / size)``, h = size // 2."""
    half = size // 2
    # Whole numbers until the end: the angle in units of pi / size, reduced to one turn.
    turns = (half * (2 * torch.arange(size, dtype=torch.int64) - half)) % (2 * size)
    angles = turns.to(torch.float64) * (math.pi / size)
    return torch.complex(_snap(angles.cos()), _snap(angles.sin()))


def _snap(values: Tensor) -> Tensor:
    """Return exact zeros where a cosine or sine is one, so that even sizes multiply by 1, -1, i and -i exactly."""
    return torch.where(values.abs() < 1e-15, 0.0, values)
