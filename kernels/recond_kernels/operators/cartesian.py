"""What Cartesian encodings are made of: the centred Fourier transform and the mask of the measured samples."""

from __future__ import annotations

from torch import Tensor

from recond_kernels.consistency import sample
from recond_kernels.fourier import fft2c, ifft2c
from recond_kernels.layout import CoilLayout
from recond_kernels.operators.linear import LinearOperator, SelfAdjointOperator


class Fourier(LinearOperator):
    """The centred, orthonormal two-dimensional DFT of complex (..., rows, columns): images to k-space."""

    def __call__(self, images: Tensor, /) -> Tensor:
        """Transform images to k-space."""
        return fft2c(images)

    def adjoint(self, kspace: Tensor, /) -> Tensor:
        """Transform k-space to images: the inverse."""
        return ifft2c(kspace)


class Mask(SelfAdjointOperator):
    """Keeps the measured samples of every coil and sets the others to zero.

    Parameters
    ----------
    masks
        Bool (batch, rows, columns), true where measured.
    layout
        Coils of each frame.
    """

    def __init__(self, masks: Tensor, layout: CoilLayout) -> None:
        self._masks, self._layout = masks, layout

    def __call__(self, kspace: Tensor, /) -> Tensor:
        """Mask complex (coils of all frames, rows, columns)."""
        return sample(kspace, self._masks, self._layout)

    @property
    def gram(self) -> LinearOperator:
        """The mask itself: masking twice is masking once."""
        return self
