"""Small heads of nested shells, so that these tests need no download."""

import numpy as np
import pytest

from recond_models.training import labels
from recond_models.training.heads.bank import LesionHead, from_labels, from_signal
from recond_models.training.heads.label_maps import LabelMap
from recond_models.training.labels import STRUCTURES
from recond_models.training.volumes import Source, Volume


def radius_of(shape: tuple[int, int, int]) -> np.ndarray:
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    return np.sqrt(x**2 + y**2 + z**2)


@pytest.fixture(scope="session")
def map_head() -> LesionHead:
    """Fluid, white and grey matter, fluid, bone and skin from the middle outwards; 3 mm."""
    radius = radius_of((60, 70, 60))
    bounds = [radius < edge for edge in (0.15, 0.5, 0.72, 0.78, 0.84, 0.92)]
    structures = np.select(bounds, [4, 2, 3, 24, 515, 511], 0)
    source = Source("map", "nobody", "training", "MIT", "made here", "for tests", layout="labels")
    volume = Volume(source, labels.numbers_of(structures), False, (3.0, 3.0, 3.0), (30.0, 35.0, 30.0))
    return from_labels(volume, seed=1)


def measured_volume(name: str = "measured", layout: str = "volume") -> Volume:
    """A T1-weighted head of the same kind."""
    radius = radius_of((60, 70, 60))
    bounds = [radius < edge for edge in (0.15, 0.5, 0.72, 0.78, 0.84, 0.92)]
    signal = np.select(bounds, [0.2, 0.8, 0.55, 0.2, 0.05, 0.9], 0.0)
    source = Source(name, "somebody", "training", "MIT", "made here", "for tests", layout=layout)  # type: ignore[arg-type]
    return Volume.of(source, signal, None, (3.0, 3.0, 3.0), (30.0, 35.0, 30.0))


@pytest.fixture(scope="session")
def measured_head() -> LesionHead:
    return from_signal(measured_volume(), "t1", radius_of((60, 70, 60)) < 0.75, seed=2)


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
