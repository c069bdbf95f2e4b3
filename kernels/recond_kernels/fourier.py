"""Centred, orthonormal two-dimensional DFT."""

from __future__ import annotations

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
    shifted = torch.fft.ifftshift(image, dim=_AXES)
    kspace: Tensor = torch.fft.fftshift(torch.fft.fft2(shifted, dim=_AXES, norm="ortho"), dim=_AXES)
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
    shifted = torch.fft.ifftshift(kspace, dim=_AXES)
    image: Tensor = torch.fft.fftshift(torch.fft.ifft2(shifted, dim=_AXES, norm="ortho"), dim=_AXES)
    return image
