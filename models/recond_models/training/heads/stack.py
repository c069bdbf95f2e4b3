"""Stacks of slices that recond has reconstructed, on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Stack:
    """Five slices as a model reconstructed them.

    Parameters
    ----------
    slices
        float32 (5, rows, columns).
    target
        uint8 (rows, columns): classes of the middle one.
    model
        Who reconstructed them.
    acceleration
        Positions over measured positions.
    """

    slices: NDArray[np.float32]
    target: NDArray[np.uint8]
    model: str
    acceleration: float

    def save(self, path: Path) -> None:
        """Write the stack whole or not at all, in half precision."""
        unfinished = path.with_suffix(".part")
        with unfinished.open("wb") as file:
            np.savez_compressed(
                file,
                slices=self.slices.astype(np.float16),
                target=self.target,
                model=self.model,
                acceleration=self.acceleration,
            )
        unfinished.replace(path)

    @classmethod
    def load(cls, path: Path) -> Stack:
        """Read what `save` wrote."""
        with np.load(path) as file:
            return cls(
                file["slices"].astype(np.float32), file["target"], str(file["model"]), float(file["acceleration"])
            )


def load_bank(folder: Path) -> list[Stack]:
    """Return the stacks in a folder, none if it is not there."""
    return [Stack.load(path) for path in sorted(folder.glob("*.npz"))]
