"""The noise of a frame from its calibration samples, where the edge of k-space still holds signal."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from recond_kernels.layout import CoilLayout
from recond_models.classical import noise

_KERNELS = (3, 2)
# Rows of the calibration matrix for each of its columns, at least.
_LEAST_ROWS = 1.25
_LARGEST_BLOCK = 24
_SHARE = 0.2
_SEED = 3


def deviations(kspace: Tensor, masks: Tensor, layout: CoilLayout) -> Tensor:
    """Estimate the standard deviation of real and imaginary part of the noise.

    The smaller of two estimates: that of `classical.noise`, from the edge of k-space, and one from the null space of the
    calibration matrix. Samples of neighbouring positions and all coils depend on each other linearly (Uecker et al. 2014,
    doi:10.1002/mrm.24751); what is left in the directions with the least energy is noise. On small matrices and at little noise the
    edge of k-space holds the finest detail, and its estimate is up to thirty times too large.

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
        float64 (batch,), root mean square over the coils.
    """
    edge = noise.deviations(kspace, masks, layout)
    results = []
    # The masks are looked at line by line: on the host, or each look would wait for the device.
    for frame, mask, outer in zip(torch.split(kspace, list(layout.counts)), masks.cpu(), edge, strict=True):
        inner = _of_block(frame[(slice(None), *_centre(mask))])
        results.append(outer if inner is None else torch.minimum(outer, inner.to(outer)))
    return torch.stack(results)


def _of_block(block: Tensor) -> Tensor | None:
    """Return the level in a fully sampled block, float64; None if it is too small for its coils."""
    coils, rows, columns = block.shape
    for kernel in _KERNELS:
        count = (rows - kernel + 1) * (columns - kernel + 1)
        if min(rows, columns) >= kernel and count >= _LEAST_ROWS * kernel * kernel * coils:
            least = _least_energy(block.cpu(), kernel)
            return (least / _of_noise(coils, rows, columns, kernel)).clamp_min(0).sqrt()
    return None


def _least_energy(block: Tensor, kernel: int) -> Tensor:
    """Return the mean of the smallest eigenvalues of the Gram matrix of all patches, float64."""
    patches = block.unfold(1, kernel, 1).unfold(2, kernel, 1)
    matrix = patches.permute(1, 2, 0, 3, 4).reshape(-1, block.shape[0] * kernel * kernel).to(torch.complex128)
    values: Tensor = torch.linalg.eigvalsh(matrix.mH @ matrix) / matrix.shape[0]
    return values[: max(1, round(_SHARE * len(values)))].mean()


@lru_cache(maxsize=256)
def _of_noise(coils: int, rows: int, columns: int, kernel: int) -> float:
    """Return the same of noise of standard deviation 1 in real and imaginary part."""
    generator = torch.Generator().manual_seed(_SEED)
    parts = torch.randn(4, coils, rows, columns, 2, generator=generator)
    return float(torch.stack([_least_energy(torch.view_as_complex(one), kernel) for one in parts]).mean())


def _centre(mask: Tensor) -> tuple[slice, slice]:
    """Return the largest fully measured block about ``n // 2``, at most 24 on a side, first wide and then high."""
    rows, columns = mask.shape
    width = 0
    while width < min(_LARGEST_BLOCK, columns) and bool(mask[_middle(rows, 1), _middle(columns, width + 1)].all()):
        width += 1
    height = 0
    while height < min(_LARGEST_BLOCK, rows) and bool(mask[_middle(rows, height + 1), _middle(columns, width)].all()):
        height += 1
    return _middle(rows, height), _middle(columns, width)


def _middle(size: int, wanted: int) -> slice:
    """Return a part of an axis about its middle."""
    return slice(size // 2 - wanted // 2, size // 2 - wanted // 2 + wanted)
