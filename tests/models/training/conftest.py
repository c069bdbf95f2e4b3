"""A head of nested ellipsoids, so that the tests of the simulator need no download."""

import numpy as np
import pytest

from recond_models.training.volumes import Source, Volume


def ellipsoids(name: str = "ellipsoids", subject: str = "nobody", *, tissues: bool = True) -> Volume:
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, size) for size in (90, 108, 90)), indexing="ij")
    radius = np.sqrt((x / 0.85) ** 2 + (y / 0.9) ** 2 + (z / 0.85) ** 2)
    folds = 0.04 * np.sin(14 * x) * np.sin(14 * y) * np.sin(14 * z)
    borders = (0.25, 0.62 + folds, 0.8, 0.84, 0.92, 1.0)
    # fluid, white, grey, fluid, bone, scalp from the middle outwards
    kinds, signals = (2, 1, 0, 2, 3, 4), (0.2, 0.85, 0.6, 0.2, 0.05, 0.9)
    signal, shares = np.zeros(x.shape), np.zeros((5, *x.shape))
    inner = 0.0
    for kind, level, outer in zip(kinds, signals, borders, strict=True):
        shell = (radius >= inner) & (radius < outer)
        signal[shell] = level
        shares[kind][shell] = 1
        inner = outer
    source = Source(name, subject, "training", "Apache-2.0", "made here", "for tests")
    maps = np.round(255 * shares).astype(np.uint8) if tissues else None
    return Volume.of(source, signal, maps, (2.0, 2.0, 2.0), (45.0, 54.0, 45.0))


@pytest.fixture(scope="session")
def head() -> Volume:
    return ellipsoids()
