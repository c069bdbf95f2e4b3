"""Heads of nested ellipsoids with lesions to be put in, so that these tests need no download."""

import numpy as np
import pytest

from recond_models.training import labels
from recond_models.training.heads.bank import LesionHead, from_labels, from_signal
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
