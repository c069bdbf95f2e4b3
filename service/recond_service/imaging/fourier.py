"""Centred, orthonormal discrete Fourier transforms. k-space to image is the inverse transform; the centre is index n // 2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import scipy.fft
from numpy.typing import NDArray


def kspace_to_image(kspace: NDArray[Any], axes: Sequence[int] = (-2, -1)) -> NDArray[Any]:
    """Return the centred orthonormal inverse DFT along `axes`, in the precision of the input."""
    shifted = scipy.fft.ifftshift(kspace, axes=axes)
    image = scipy.fft.ifftn(shifted, axes=axes, norm="ortho", overwrite_x=True)
    centred: NDArray[Any] = scipy.fft.fftshift(image, axes=axes)
    return centred


def image_to_kspace(image: NDArray[Any], axes: Sequence[int] = (-2, -1)) -> NDArray[Any]:
    """Return the centred orthonormal DFT along `axes`, in the precision of the input."""
    shifted = scipy.fft.ifftshift(image, axes=axes)
    kspace = scipy.fft.fftn(shifted, axes=axes, norm="ortho", overwrite_x=True)
    centred: NDArray[Any] = scipy.fft.fftshift(kspace, axes=axes)
    return centred
