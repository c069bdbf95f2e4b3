"""How much noise there is in measured k-space."""

from __future__ import annotations

import torch
from torch import Tensor

from recond_kernels.layout import CoilLayout

_OUTER = 0.8
# Median absolute value of a normal variable with standard deviation 1.
_NORMAL_MAD = 0.6744897501960817


def deviations(kspace: Tensor, masks: Tensor, layout: CoilLayout) -> Tensor:
    """Estimate the standard deviation of real and imaginary part of the noise from the edge of k-space.

    Far from the centre there is little signal, and the median of the magnitudes does not see what stands out of the noise
    (Donoho and Johnstone 1994, doi:10.1093/biomet/81.3.425). Without noise it is the level of the finest detail.

    Parameters
    ----------
    kspace
        complex64 (coils of all frames, rows, columns).
    masks
        Bool (batch, rows, columns), true where measured.
    layout
        Coils of each frame.

    Returns
    -------
    Tensor
        float64 (batch,), root mean square over the coils; 0 for a frame without samples.
    """
    rows, columns = kspace.shape[1:]
    down = (torch.arange(rows, device=kspace.device) - rows // 2) / max(rows / 2, 1)
    across = (torch.arange(columns, device=kspace.device) - columns // 2) / max(columns / 2, 1)
    radius = torch.hypot(down[:, None], across[None, :])
    results = []
    for frame, mask in zip(torch.split(kspace, list(layout.counts)), masks, strict=True):
        if not bool(mask.any()):
            results.append(torch.zeros((), dtype=torch.float64, device=kspace.device))
            continue
        outer = mask & (radius >= _OUTER * radius[mask].amax())
        parts = torch.view_as_real(frame[:, outer]).flatten(1).abs()
        results.append((parts.median(dim=1).values.to(torch.float64) / _NORMAL_MAD).square().mean().sqrt())
    return torch.stack(results)
