"""Centred, orthonormal discrete Fourier transforms. k-space to image is the inverse transform; the centre is index n // 2."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.fft
from numpy.typing import NDArray


def kspace_to_image(kspace: NDArray[np.complexfloating], axes: Sequence[int] = (-2, -1)) -> NDArray[np.complexfloating]:
    """Return the centred orthonormal inverse DFT along `axes`, in the precision of the input."""
    shifted = scipy.fft.ifftshift(kspace, axes=axes)
    image: NDArray[np.complexfloating] = scipy.fft.ifftn(shifted, axes=axes, norm="ortho", overwrite_x=True)
    return scipy.fft.fftshift(image, axes=axes)


def image_to_kspace(image: NDArray[np.complexfloating], axes: Sequence[int] = (-2, -1)) -> NDArray[np.complexfloating]:
    """Return the centred orthonormal DFT along `axes`, in the precision of the input."""
    shifted = scipy.fft.ifftshift(image, axes=axes)
    kspace: NDArray[np.complexfloating] = scipy.fft.fftn(shifted, axes=axes, norm="ortho", overwrite_x=True)
    return scipy.fft.fftshift(kspace, axes=axes)
