"""Noise whitening (Pruessmann et al. 2001, doi:10.1002/mrm.1241; Kellman and McVeigh 2005, doi:10.1002/mrm.20713)."""

from __future__ import annotations

import torch
from torch import Tensor

from recond_kernels.layout import CoilLayout


def factor(noise: Tensor) -> Tensor:
    """Return the Cholesky factor of the noise covariance.

    Parameters
    ----------
    noise
        Complex (coils, samples): noise alone, more samples than coils.

    Returns
    -------
    Tensor
        complex128 (coils, coils), lower triangular L with ``L L^H = E[n n^H] / 2``: after `whiten`, real and imaginary part have
        standard deviation 1.

    Raises
    ------
    ValueError
        There are too few samples, or the covariance is singular: a coil is dead or double.
    """
    coils, samples = noise.shape
    if samples <= coils:
        raise ValueError(f"{samples} noise samples do not determine the covariance of {coils} coils")
    precise = noise.to(torch.complex128)
    covariance = precise @ precise.mH / (2 * samples)
    lower: Tensor
    lower, failures = torch.linalg.cholesky_ex(covariance)
    pivots = lower.diagonal().real
    # Scale of each coil by itself: weak coils are no less independent than strong ones.
    sizes = covariance.diagonal().real.sqrt()
    if int(failures) != 0 or not bool((pivots > 1e-6 * sizes).all()):
        raise ValueError(
            f"the noise covariance of {coils} coils is singular: leave out coils without signal or with equal signals"
        )
    return lower


def whiten(kspace: Tensor, factors: list[Tensor], layout: CoilLayout) -> Tensor:
    """Make the noise of the coils of every frame white, by solving with the Cholesky factor.

    Parameters
    ----------
    kspace
        Complex (coils of all frames, rows, columns).
    factors
        For each frame complex (coils, coils), from `factor`.
    layout
        Coils of each frame.

    Returns
    -------
    Tensor
        Complex (coils of all frames, rows, columns), dtype of `kspace`.

    Raises
    ------
    ValueError
        The numbers of coils or frames do not belong together.
    """
    layout.check(kspace)
    found = tuple(int(lower.shape[0]) for lower in factors)
    if found != layout.counts:
        raise ValueError(f"the factors are for {found} coils, the frames have {layout.counts}")
    white = []
    for frame, lower in zip(torch.split(kspace, list(layout.counts)), factors, strict=True):
        solved = torch.linalg.solve_triangular(lower.to(frame.dtype), frame.flatten(1), upper=False)
        white.append(solved.reshape(frame.shape))
    return torch.cat(white)
