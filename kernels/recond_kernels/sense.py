"""The encoding of Cartesian parallel imaging: sensitivities, Fourier transform, sampling."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from recond_kernels import coils
from recond_kernels.coils import CoilLayout
from recond_kernels.fourier import fft2c, ifft2c


def sample(kspace: Tensor, masks: Tensor, layout: CoilLayout) -> Tensor:
    """Keep the measured samples of every coil and set the others to +0.

    Parameters
    ----------
    kspace
        Complex (coils of all frames, rows, columns).
    masks
        Bool (batch, rows, columns), true where measured.
    layout
        Coils of each frame.

    Returns
    -------
    Tensor
        Complex (coils of all frames, rows, columns). Selection, not multiplication, so no -0 and no NaN comes through.
    """
    layout.check(kspace)
    return torch.where(masks[layout.owners(kspace.device)], kspace, 0)


def replace_measured(estimate: Tensor, measured: Tensor, masks: Tensor, layout: CoilLayout) -> Tensor:
    """Put the measured samples in place of estimated ones: hard data consistency.

    Parameters
    ----------
    estimate, measured
        Complex (coils of all frames, rows, columns).
    masks
        Bool (batch, rows, columns), true where measured.
    layout
        Coils of each frame.

    Returns
    -------
    Tensor
        Complex (coils of all frames, rows, columns).
    """
    layout.check(estimate)
    return torch.where(masks[layout.owners(estimate.device)], measured, estimate)


@dataclass(frozen=True)
class SenseEncoding:
    """A = sampling . Fourier . sensitivities, for a batch of frames (Pruessmann et al. 1999, 2001, doi:10.1002/mrm.1241).

    Parameters
    ----------
    sensitivities
        Complex (coils of all frames, rows, columns).
    masks
        Bool (batch, rows, columns), true where measured.
    layout
        Coils of each frame.

    Raises
    ------
    ValueError
        The shapes do not belong together.
    """

    sensitivities: Tensor
    masks: Tensor
    layout: CoilLayout
    _coil_masks: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.layout.check(self.sensitivities)
        expected = (self.layout.batch, *self.sensitivities.shape[1:])
        if tuple(self.masks.shape) != expected:
            raise ValueError(f"masks have the shape {tuple(self.masks.shape)}, expected {expected}")
        object.__setattr__(self, "_coil_masks", self.masks[self.layout.owners(self.masks.device)])

    def forward(self, images: Tensor) -> Tensor:
        """Encode complex images (batch, rows, columns) to samples (coils of all frames, rows, columns)."""
        encoded = fft2c(coils.expand(images, self.sensitivities, self.layout))
        return torch.where(self._coil_masks, encoded, 0)

    def adjoint(self, kspace: Tensor) -> Tensor:
        """Apply the adjoint of `forward`: (coils of all frames, rows, columns) to (batch, rows, columns)."""
        coil_images = ifft2c(torch.where(self._coil_masks, kspace, 0))
        return coils.reduce(coil_images, self.sensitivities, self.layout)

    def normal(self, images: Tensor) -> Tensor:
        """Apply ``adjoint(forward(images))``."""
        return self.adjoint(self.forward(images))

    def relative_residuals(self, images: Tensor, kspace: Tensor) -> Tensor:
        """Return ``||A x - y|| / ||y||`` over the measured samples of each frame.

        Parameters
        ----------
        images
            Complex (batch, rows, columns).
        kspace
            Complex (coils of all frames, rows, columns).

        Returns
        -------
        Tensor
            float64 (batch,); 0 for a frame whose samples are all zero.
        """
        measured = torch.where(self._coil_masks, kspace, 0)
        missing = _squared_norms(self.forward(images) - measured, self.layout).sqrt()
        norms = _squared_norms(measured, self.layout).sqrt()
        return torch.where(norms > 0, missing / norms.clamp_min(torch.finfo(norms.dtype).tiny), 0)


def _squared_norms(packed: Tensor, layout: CoilLayout) -> Tensor:
    """Return float64 (batch,): the squared norm of each frame's coils."""
    squares = packed.real.square() + packed.imag.square()
    return coils.sum_segments(squares.sum(dim=(-2, -1), dtype=torch.float64), layout)
