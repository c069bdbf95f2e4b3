"""Scenes with a truth that tell how good each candidate is, and what held-out samples say of it."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scenes import Scene, root_sum_of_squares
from trained import midas

from recond_models.training.simulator import SimulationSettings, Simulator
from recond_models.training.volumes import load_volumes

_LOW, _HIGH = (1e-3, 5e-3), (5e-3, 3e-2)
_SIDES = (176, 256)
# Kind, accelerations, coils.
_SIMULATED: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = (
    ("equispaced_fraction", (3, 4, 6, 8), (4, 8, 16)),
    ("random", (4, 6, 8), (8, 16)),
    ("grid", (4, 8), (8, 16)),
    ("poisson", (4, 8, 12), (8, 16)),
)
_MEASURED = (("equispaced_fraction", (3, 4, 6, 8)), ("random", (4, 6)), ("poisson", (4, 6, 8, 10)))


@dataclass(frozen=True, slots=True)
class Case:
    """A scene and where it belongs.

    Parameters
    ----------
    cell
        Kind of sampling, acceleration, coils and noise.
    volume
        Scenes that share it are taken for slices of one scan.
    scene
        What was measured, and the truth.
    measured
        It is from a scanner, not from the simulator.
    """

    cell: str
    volume: str
    scene: Scene
    measured: bool


def cases(volumes: Path, slices: int) -> Iterator[Case]:
    """Yield the cases, the measured ones first.

    Parameters
    ----------
    volumes
        Folder of held-out subjects, see `recond_models.training.volumes`.
    slices
        In each simulated cell.
    """
    for kind, accelerations in _MEASURED:
        for acceleration, seed in itertools.product(accelerations, range(3)):
            cell = f"measured {kind} {acceleration}x 7ch"
            yield Case(cell, cell, midas(kind, acceleration, seed), measured=True)
    simulated = [
        (kind, acceleration, coils, noise)
        for kind, accelerations, arrays in _SIMULATED
        for acceleration, coils, noise in itertools.product(accelerations, arrays, (_LOW, _HIGH))
    ]
    held_out = (*load_volumes(volumes, "validation"), *load_volumes(volumes, "test"))
    for number, (kind, acceleration, coils, noise) in itertools.product(range(slices), simulated):
        cell = f"{kind} {acceleration}x {coils}ch {'low' if noise == _LOW else 'high'} noise"
        settings = SimulationSettings(
            max_coils=12, coils=(coils,), accelerations=(acceleration,) * 2, noise=noise, kinds=(kind,), motion=0
        )
        generator = np.random.default_rng([zlib.crc32(cell.encode()), number])
        rows, columns = (int(side) // 2 * 2 for side in generator.integers(_SIDES[0], _SIDES[1] + 1, 2))
        sample = Simulator(held_out, settings).sample(int(generator.integers(1 << 40)), (rows, columns))
        truth = root_sum_of_squares(sample.coil_images)
        yield Case(cell, cell, Scene(sample.kspace, sample.mask, sample.calibration, truth), measured=False)
