"""A small head to paint."""

from __future__ import annotations

import numpy as np
import pytest

from recond_models.training.heads.label_maps import LabelMap
from recond_models.training.labels import STRUCTURES


@pytest.fixture(scope="session")
def label_map() -> LabelMap:
    """Return concentric shells: scalp, fluid, cortex, white matter, thalamus, and a cerebellum below."""
    grids = np.meshgrid(*(np.arange(size) - size / 2 for size in (120, 140, 130)), indexing="ij")
    radius = np.sqrt((grids[0] / 0.9) ** 2 + (grids[1] / 1.1) ** 2 + grids[2] ** 2)
    structures = np.zeros(radius.shape, dtype=np.int64)
    for outer, structure in ((60, 507), (52, 24), (48, 3), (42, 2), (12, 10)):
        structures[radius < outer] = structure
    below = (radius < 46) & (grids[2] < -20) & (grids[1] < -5)
    structures[below] = 8
    table = np.zeros(max(STRUCTURES) + 1, dtype=np.uint8)
    table[list(STRUCTURES)] = np.arange(len(STRUCTURES))
    return LabelMap(table[structures], (60.0, 70.0, 65.0), (1.0, 1.0, 1.0))
