"""Fewer, virtual coils in place of many, by principal components.

Buehrer et al. 2007, doi:10.1002/mrm.21237; Huang et al. 2008, doi:10.1016/j.mri.2007.04.010.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recond_kernels.layout import CoilLayout


@dataclass(frozen=True, slots=True)
class Mixture:
    """How virtual coils are mixed from real ones.

    Parameters
    ----------
    weights
        Complex (virtual coils, coils), orthonormal rows, strongest signal first. White noise stays white.
    energy
        Fraction of the energy of the calibration data that the virtual coils keep, at most 1.
    """

    weights: Tensor
    energy: float

    def apply(self, kspace: Tensor) -> Tensor:
        """Mix complex (coils, ...) to (virtual coils, ...)."""
        mixed: Tensor = torch.tensordot(self.weights.to(kspace.dtype), kspace, dims=1)
        return mixed


def find(samples: Tensor, *, coils: int | None = None, energy: float | None = None) -> Mixture:
    """Find the mixture that keeps most of the signal.

    Parameters
    ----------
    samples
        Complex (coils, ...), any scale: usually the calibration data.
    coils
        Most virtual coils.
    energy
        Smallest fraction of the energy that is kept, in (0, 1]: as few virtual coils as that takes. With `coils` the smaller
        number counts.

    Returns
    -------
    Mixture
        As many virtual coils as asked for, at most the real ones and at least one; complex128. For samples that are all zero it is
        the first coils as they are.

    Raises
    ------
    ValueError
        Neither or nonsense is asked for.
    """
    if (coils is None and energy is None) or (coils is not None and coils < 1):
        raise ValueError(f"need a number of virtual coils of at least 1 or a fraction of the energy, got {coils}")
    if energy is not None and not 0 < energy <= 1:
        raise ValueError(f"the fraction of the energy is in (0, 1], got {energy}")
    real_coils = samples.shape[0]
    largest = samples.abs().amax()
    if not bool(largest > 0):
        count = real_coils if coils is None else min(coils, real_coils)
        return Mixture(torch.eye(real_coils, dtype=torch.complex128, device=samples.device)[:count], 1.0)
    flat = (samples / largest).reshape(real_coils, -1).to(torch.complex128)
    # Squared singular values and left singular vectors of the samples, largest first.
    powers, vectors = torch.linalg.eigh(flat @ flat.mH)
    powers, vectors = powers.flip(0).clamp_min(0), vectors.flip(1)
    kept = torch.cumsum(powers, dim=0) / powers.sum()
    count = real_coils if coils is None else min(coils, real_coils)
    if energy is not None:
        # Rounding must not ask for a coil more than there are, nor for one that adds nothing.
        count = min(count, 1 + int((kept < energy - 1e-12).sum()))
    return Mixture(vectors[:, :count].mH.resolve_conj(), min(1.0, float(kept[count - 1])))


def compress(kspace: Tensor, mixtures: list[Mixture], layout: CoilLayout) -> tuple[Tensor, CoilLayout]:
    """Mix the coils of every frame of a batch.

    Parameters
    ----------
    kspace
        Complex (coils of all frames, rows, columns).
    mixtures
        One for each frame.
    layout
        Coils of each frame.

    Returns
    -------
    kspace
        Complex (virtual coils of all frames, rows, columns).
    layout
        Virtual coils of each frame.

    Raises
    ------
    ValueError
        The numbers of coils or frames do not belong together.
    """
    layout.check(kspace)
    found = tuple(int(mixture.weights.shape[1]) for mixture in mixtures)
    if found != layout.counts:
        raise ValueError(f"the mixtures are for {found} coils, the frames have {layout.counts}")
    frames = torch.split(kspace, list(layout.counts))
    virtual = [mixture.apply(frame) for mixture, frame in zip(mixtures, frames, strict=True)]
    return torch.cat(virtual), CoilLayout(tuple(frame.shape[0] for frame in virtual))
