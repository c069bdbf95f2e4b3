"""How far images are from the samples that they were made from."""

from __future__ import annotations

import torch
from torch import Tensor

from recond_kernels import coils
from recond_kernels.layout import CoilLayout
from recond_kernels.operators.linear import LinearOperator


def relative_residuals(encoding: LinearOperator, images: Tensor, samples: Tensor, layout: CoilLayout) -> Tensor:
    """Return ``||A x - y|| / ||y||`` of each frame.

    Parameters
    ----------
    encoding
        A.
    images
        Complex (batch, rows, columns): x.
    samples
        Complex (coils of all frames, ...): y, zero where nothing was measured.
    layout
        Coils of each frame.

    Returns
    -------
    Tensor
        float64 (batch,); 0 for a frame whose samples are all zero.
    """
    missing = _norms(encoding(images) - samples, layout)
    norms = _norms(samples, layout)
    return torch.where(norms > 0, missing / norms.clamp_min(torch.finfo(norms.dtype).tiny), 0)


def _norms(packed: Tensor, layout: CoilLayout) -> Tensor:
    """Return float64 (batch,): the norm of each frame's coils."""
    squares = torch.view_as_real(packed).square().flatten(1)
    return coils.sum_segments(squares.sum(dim=1, dtype=torch.float64), layout).sqrt()
