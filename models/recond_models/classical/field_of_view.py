"""Leave out readout oversampling before the work, not after it.

fastMRI's files keep the readout twice as long as the image that is wanted. Where every sample of a readout was measured, its
transform is known without any reconstruction, and half of all later work is on pixels that nobody will see.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor
from torch.nn import functional

from recond_models.batch import PackedBatch

_MARGIN = 8
"""Rows kept beyond the wanted ones, so that networks see what lies beside them."""


def trim(batch: PackedBatch) -> tuple[PackedBatch, int]:
    """Shorten the readout of frames to what is wanted of their images.

    Parameters
    ----------
    batch
        Frames, with crops where less than the whole image is wanted.

    Returns
    -------
    batch
        With fewer rows; the same one where a frame has no crop, was not measured in whole lines, or would hardly get smaller.
    first
        Row of the whole image at which the first of the shortened one lies.
    """
    rows = int(batch.kspace.shape[1])
    if not batch.crops or any(crop is None for crop in batch.crops):
        return batch, 0
    wanted = max(crop[0] for crop in batch.crops if crop is not None) + 2 * _MARGIN
    wanted += wanted % 2
    whole_lines = bool((batch.masks == batch.masks[:, :1]).all())
    whole_blocks = all(block is None or block.shape[1] == rows for block in batch.calibrations)
    if 4 * wanted > 3 * rows or not whole_lines or not whole_blocks:
        return batch, 0
    first = rows // 2 - wanted // 2
    return dataclasses.replace(
        batch,
        kspace=_shorten(batch.kspace, first, wanted),
        masks=batch.masks[:, :wanted],
        calibrations=tuple(None if block is None else _shorten(block, first, wanted) for block in batch.calibrations),
        crops=(),
    ), first


def are_alike(batch: PackedBatch) -> bool:
    """Tell whether `trim` does the same with every frame of a batch, alone or together."""
    lines = (batch.masks == batch.masks[:, :1]).flatten(1).all(dim=1)
    return not batch.crops or (len(set(batch.crops)) == 1 and bool((lines == lines[0]).all()))


def untrim(images: Tensor, rows: int, first: int) -> Tensor:
    """Put images (batch, fewer rows, columns) where they belong among zeros: (batch, rows, columns)."""
    if images.shape[1] == rows:
        return images
    return functional.pad(images, (0, 0, first, rows - first - images.shape[1]))


def _shorten(kspace: Tensor, first: int, wanted: int) -> Tensor:
    """Return the k-space of some rows of the image, complex64 (coils, wanted, columns)."""
    lines = torch.fft.fftshift(torch.fft.ifft(torch.fft.ifftshift(kspace, dim=1), dim=1, norm="ortho"), dim=1)
    kept = torch.fft.ifftshift(lines[:, first : first + wanted], dim=1)
    shortened: Tensor = torch.fft.fftshift(torch.fft.fft(kept, dim=1, norm="ortho"), dim=1)
    return shortened
