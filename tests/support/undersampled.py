"""Undersampled frames of a smooth object with its coils, quickly made."""

from __future__ import annotations

import numpy as np
import torch

from recond_models.batch import PackedBatch
from recond_models.sampling import centre_block
from recond_models.simulate.scan import ScanSettings, simulate

ROWS, COLUMNS = 96, 80


def undersampled(
    *, points: bool = False, coils: int = 4, noise: float = 0.003, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Return complex64 k-space (coils, rows, columns), zero where not measured, and its bool mask (rows, columns)."""
    settings = ScanSettings(
        phantom="shepp-logan", slices=1, rows=ROWS, columns=COLUMNS, coils=coils, oversampling=1, acceleration=1
    )
    kspace = simulate(settings).kspace.reshape(coils, ROWS, COLUMNS)
    generator = np.random.default_rng(seed)
    level = noise * np.abs(kspace).max() / 10
    kspace = kspace + level * (generator.standard_normal(kspace.shape) + 1j * generator.standard_normal(kspace.shape))
    if points:
        mask = generator.random((ROWS, COLUMNS)) < 0.25
    else:
        mask = np.zeros((ROWS, COLUMNS), dtype=bool)
        mask[:, seed % 3 :: 3] = True
    mask[:, COLUMNS // 2 - 8 : COLUMNS // 2 + 8] |= not points
    mask[ROWS // 2 - 8 : ROWS // 2 + 8, COLUMNS // 2 - 8 : COLUMNS // 2 + 8] = True
    return np.where(mask, kspace, 0).astype(np.complex64), mask


def batch_of(*frames: tuple[np.ndarray, np.ndarray]) -> PackedBatch:
    """Return frames as a packed batch, with a calibration block of 16 x 16."""
    blocks = [torch.from_numpy(centre_block(kspace, (16, 16)).copy()) for kspace, _ in frames]
    return PackedBatch.pack([kspace for kspace, _ in frames], [mask for _, mask in frames], blocks)
