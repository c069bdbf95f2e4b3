"""Sampling masks and data consistency in k-space, for frames with different numbers of coils."""

from __future__ import annotations

import torch
from torch import Tensor

from recond_kernels import triton_kernels
from recond_kernels.layout import CoilLayout


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

    Raises
    ------
    ValueError
        The number of coils is not that of the layout.
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

    Raises
    ------
    ValueError
        The number of coils is not that of the layout.
    """
    layout.check(estimate)
    return torch.where(masks[layout.owners(estimate.device)], measured, estimate)


def approach_measured(
    estimate: Tensor,
    measured: Tensor,
    masks: Tensor,
    weight: Tensor | float,
    layout: CoilLayout,
    ramp: Tensor | None = None,
) -> Tensor:
    """Move estimated samples towards the measured ones: soft data consistency.

    The update of variational networks (Hammernik et al. 2018, doi:10.1002/mrm.26977; Sriram et al. 2020, arXiv:2004.06688):
    ``k - weight * where(mask, k - measured, 0)``. Weight 1 is `replace_measured`; also the residual of the samples is one:
    ``k - approach_measured(k, ...)`` with weight 1.

    Parameters
    ----------
    estimate, measured
        Complex (coils of all frames, rows, columns).
    masks
        Bool (batch, rows, columns), true where measured.
    weight
        Number, or real tensor with one element, which may need a gradient.
    layout
        Coils of each frame.
    ramp
        Complex (rows, columns): `estimate` is multiplied by it first. With `recond_kernels.fourier.ramp` it may come straight
        from a plain DFT.

    Returns
    -------
    Tensor
        Complex (coils of all frames, rows, columns).

    Raises
    ------
    ValueError
        The number of coils is not that of the layout.
    """
    layout.check(estimate)
    if triton_kernels.suit(estimate, measured, *([weight] if isinstance(weight, Tensor) else [])):
        return triton_kernels.launches().approach_measured(estimate, measured, masks, weight, layout, ramp)
    centred = estimate if ramp is None else estimate * ramp
    missing = torch.where(masks[layout.owners(estimate.device)], centred - measured, 0)
    return centred - weight * missing
