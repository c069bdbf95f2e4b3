"""What a head is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

IGNORED = 255
"""In a target: nobody knows the class of this pixel, and it does not count."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Five neighbouring slices and what the middle one shows.

    Parameters
    ----------
    image
        float32 (5, rows, columns), at 1 mm and scaled as `recond_models.heads.preparation` does.
    target
        uint8 (rows, columns): classes, or `IGNORED`.
    """

    image: NDArray[np.float32]
    target: NDArray[np.uint8]


class Samples(Protocol):
    """A generator of samples, all of one size."""

    @property
    def classes(self) -> int:
        """Classes in the targets, background included."""
        ...

    def draw(self, generator: np.random.Generator) -> Sample:
        """Return a sample; the same generator state gives the same sample."""
        ...
