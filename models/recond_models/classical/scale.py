"""Bring every frame near 1 before anything is squared or compared with a constant."""

from __future__ import annotations

import torch
from torch import Tensor

from recond_kernels.layout import CoilLayout


def normalise(kspace: Tensor, layout: CoilLayout) -> tuple[Tensor, Tensor]:
    """Multiply every frame by a power of two so that its largest part is in [0.5, 1).

    Powers of two change no digit, so k-space of any scale gives the same image but for the exponent.

    Parameters
    ----------
    kspace
        complex64 (coils of all frames, rows, columns).
    layout
        Coils of each frame.

    Returns
    -------
    kspace
        complex64, normalised copy.
    scales
        float64 (batch,): what the frames were divided by; 1 for a frame of zeros. Images are multiplied by it.
    """
    parts = torch.view_as_real(kspace).abs().amax(dim=(-3, -2, -1))
    largest = torch.stack([coil.amax() for coil in torch.split(parts, list(layout.counts))])
    _, exponents = torch.frexp(largest)
    exponents = torch.where(largest > 0, exponents, 0)
    # Two factors: 2**-exponent itself may overflow float32 where the product does not.
    half = exponents // 2
    owners = layout.owners(kspace.device)
    factors = [torch.ldexp(torch.ones_like(largest), -part)[owners, None, None] for part in (half, exponents - half)]
    scales = torch.ldexp(torch.ones_like(largest, dtype=torch.float64), exponents)
    return kspace * factors[0] * factors[1], scales


def bright_pixels(images: Tensor) -> Tensor:
    """Return float64 (batch,): the 99th percentile of the magnitudes of complex (batch, rows, columns)."""
    magnitudes = images.abs().flatten(1)
    rank = max(1, round(0.99 * magnitudes.shape[1]))
    return magnitudes.kthvalue(rank, dim=1).values.to(torch.float64)
