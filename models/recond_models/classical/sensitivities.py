"""Coil sensitivities for the models that need them."""

from __future__ import annotations

import torch
from torch import Tensor

from recond_kernels import espirit
from recond_models.batch import PackedBatch
from recond_models.registry import MINIMUM_CALIBRATION, ModelInfo, UnsuitableModelError

CROP = 0.95
"""Pixels of a smaller ESPIRiT eigenvalue are background. In measured heads 999 of 1000 pixels with signal are above 0.99."""

_LARGEST_BLOCK = 24
"""Rows and columns of calibration data that are used; more cost time and add little."""


def estimate(batch: PackedBatch, info: ModelInfo, device: torch.device) -> Tensor:
    """Return complex64 (coils of all frames, rows, columns): root sum of squares 1 in the object and 0 outside.

    Parameters
    ----------
    batch
        Frames with calibration data.
    info
        The model that asks, for the message of the error.
    device
        Where to compute.

    Raises
    ------
    UnsuitableModelError
        A frame has no calibration data, too few, or a single coil.
    """
    shape = (int(batch.kspace.shape[1]), int(batch.kspace.shape[2]))
    maps = []
    for number, (calibration, coils) in enumerate(zip(batch.calibrations, batch.layout.counts, strict=True)):
        if calibration is None or min(calibration.shape[1:]) < MINIMUM_CALIBRATION or coils < 2:
            found = (
                "no calibration data"
                if calibration is None
                else f"calibration data of shape {tuple(calibration.shape)}"
            )
            raise UnsuitableModelError(
                f"{info.name} needs two coils or more and at least {MINIMUM_CALIBRATION} x {MINIMUM_CALIBRATION} calibration "
                f"samples, but frame {number} of the batch has {coils} coil(s) and {found}: use the model rss"
            )
        maps.append(_of_frame(calibration.to(device), shape))
    return torch.cat(maps)


def _of_frame(calibration: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return complex64 (coils, rows, columns), cropped; zero for calibration data of zeros."""
    block = calibration
    for axis, size in enumerate(shape, start=1):
        wanted = min(_LARGEST_BLOCK, size, block.shape[axis])
        block = block.narrow(axis, block.shape[axis] // 2 - wanted // 2, wanted)
    if not bool(block.abs().max() > 0):
        return torch.zeros((calibration.shape[0], *shape), dtype=torch.complex64, device=calibration.device)
    result = espirit.estimate(block, shape)
    return torch.where(result.eigenvalues > CROP, result.sensitivities, 0)
