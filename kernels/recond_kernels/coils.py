"""Sums over the coils of each frame, and their adjoint, for frames with different numbers of coils."""

from __future__ import annotations

import torch
from torch import Tensor

from recond_kernels import triton_kernels
from recond_kernels.layout import CoilLayout


def sum_segments(packed: Tensor, layout: CoilLayout) -> Tensor:
    """Sum over the coils of each frame.

    One reduction per frame, so that the order of the additions, and with it the rounding, does not depend on the other frames.

    Parameters
    ----------
    packed
        (coils of all frames, ...).
    layout
        Coils of each frame.

    Returns
    -------
    Tensor
        (batch, ...).
    """
    layout.check(packed)
    return torch.stack([segment.sum(dim=0) for segment in torch.split(packed, list(layout.counts))])


def expand(images: Tensor, sensitivities: Tensor, layout: CoilLayout, ramp: Tensor | None = None) -> Tensor:
    """Weight each frame's image by its coil sensitivities.

    Parameters
    ----------
    images
        Complex (batch, rows, columns).
    sensitivities
        Complex (coils of all frames, rows, columns).
    layout
        Coils of each frame.
    ramp
        Complex (rows, columns), multiplied in as well: with `recond_kernels.fourier.ramp` a plain DFT of the result is centred but
        for the same factor in k-space.

    Returns
    -------
    Tensor
        Complex (coils of all frames, rows, columns).
    """
    layout.check(sensitivities)
    if triton_kernels.suit(images, sensitivities):
        return triton_kernels.launches().expand(images, sensitivities, layout, ramp)
    weighted = images if ramp is None else images * ramp
    return weighted[layout.owners(images.device)] * sensitivities


def reduce(coil_images: Tensor, sensitivities: Tensor, layout: CoilLayout, ramp: Tensor | None = None) -> Tensor:
    """Combine coil images with the conjugate sensitivities: the adjoint of `expand`.

    Parameters
    ----------
    coil_images, sensitivities
        Complex (coils of all frames, rows, columns).
    layout
        Coils of each frame.
    ramp
        Complex (rows, columns); its conjugate is multiplied in.

    Returns
    -------
    Tensor
        Complex (batch, rows, columns).
    """
    layout.check(coil_images)
    if triton_kernels.suit(coil_images, sensitivities):
        return triton_kernels.launches().reduce(coil_images, sensitivities, layout, ramp)
    combined = sum_segments(sensitivities.conj() * coil_images, layout)
    return combined if ramp is None else combined * ramp.conj()


def root_sum_of_squares(coil_images: Tensor, layout: CoilLayout) -> Tensor:
    """Combine coil images by the root of the sum of squared magnitudes (Roemer et al. 1990, doi:10.1002/mrm.1910160203).

    Parameters
    ----------
    coil_images
        Complex (coils of all frames, rows, columns). Values should be near 1: squares must neither over- nor underflow.
    layout
        Coils of each frame.

    Returns
    -------
    Tensor
        Real (batch, rows, columns). Factors of magnitude 1 do not matter, so the images may come from a DFT that is centred in
        k-space only.
    """
    layout.check(coil_images)
    if triton_kernels.suit(coil_images):
        return triton_kernels.launches().root_sum_of_squares(coil_images, layout)
    parts = torch.view_as_real(coil_images)
    return sum_segments(parts.square().sum(dim=-1), layout).sqrt()
