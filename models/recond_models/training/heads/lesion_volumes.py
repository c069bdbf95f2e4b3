"""Whole volumes with lesions, to measure detection with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recond_models.training.heads.acquisition import acquire
from recond_models.training.heads.bank import LesionHead
from recond_models.training.heads.lesion_samples import CLIPPED, PRESENT, SEVERITY
from recond_models.training.heads.looks import Weighting
from recond_models.training.heads.planning import draw_planned, look_of
from recond_models.training.heads.scenes import compose
from recond_models.training.heads.stacks import Stack

_BELOW_MM, _ABOVE_MM = 62.0, 72.0


@dataclass(frozen=True, slots=True)
class LesionVolume:
    """A volume and its lesions.

    Parameters
    ----------
    image
        float32 (slices, rows, columns), axial.
    truth
        uint8 (slices, rows, columns): number of the lesion, 0 for none.
    spacing
        Distance of slices, of rows and of columns, mm.
    """

    image: NDArray[np.float32]
    truth: NDArray[np.uint8]
    spacing: tuple[float, float, float]

    def volumes_ml(self) -> dict[int, float]:
        """Return the volume of each lesion, by its number."""
        counts = np.bincount(self.truth.ravel())
        voxel = float(np.prod(self.spacing)) / 1000
        return {number: float(count) * voxel for number, count in enumerate(counts) if number and count}


def draw_lesion_volume(
    generator: np.random.Generator,
    head: LesionHead,
    weighting: Weighting,
    step: float,
    lesions: int,
    size: tuple[int, int] = (224, 192),
) -> LesionVolume:
    """Draw an axial volume of a head with so many lesions.

    Parameters
    ----------
    generator
        Source of randomness.
    head
        Not of thick slices.
    weighting
        A contrast that the head can show.
    step
        Distance of slices, mm.
    lesions
        How many; those that grow into each other are one.
    size
        Rows and columns, 1 mm each.

    Raises
    ------
    ValueError
        The head has thick slices.
    """
    if head.thick:
        raise ValueError(f"{head.name} has thick slices, which no volume is cut from")
    count = int((_BELOW_MM + _ABOVE_MM) / step)
    parts = max(1, round(step / 1.5))
    stack = Stack(
        origin=np.array([0.0, 0.0, (_ABOVE_MM - _BELOW_MM) / 2]),
        axes=np.eye(3)[[2, 1, 0]],
        step=step,
        offsets=(np.arange(parts) - (parts - 1) / 2) * step / parts,
        size=size,
        strain=np.eye(3),
        slices=count,
    )
    many = lesions > 2
    planned = [draw_planned(generator, head, weighting, many=many and number > 0) for number in range(lesions)]
    look = look_of(generator, head, weighting)
    scene = compose(generator, head, look, stack, planned)
    image = acquire(generator, np.minimum(scene.image, CLIPPED * look.white), generator.uniform(0, SEVERITY))
    truth = np.where(scene.share >= PRESENT, scene.owner, 0).astype(np.uint8)
    return LesionVolume(image, truth, (step, 1.0, 1.0))
