"""How slices are shown: upright, the patient's right on the left of an axial or coronal slice, with letters at the edges."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from recond_models.heads.measurements import Grid

# By the axis (right, front, top) that the slices follow: which way is down on the page, and which is right. RAS.
_PAGES: Final = (
    ((0.0, 0.0, -1.0), (0.0, -1.0, 0.0)),  # sagittal: feet down, back to the right
    ((0.0, 0.0, -1.0), (-1.0, 0.0, 0.0)),  # coronal: feet down, patient's left to the right
    ((0.0, -1.0, 0.0), (-1.0, 0.0, 0.0)),  # axial: back down, patient's left to the right
)
_LETTERS: Final = (("L", "R"), ("P", "A"), ("F", "H"))


@contextmanager
def plain_text() -> Iterator[None]:
    """Have matplotlib draw names as they are: a dollar sign begins no formula."""
    import matplotlib as mpl  # noqa: PLC0415 - heavy, and needed here only

    with mpl.rc_context({"text.parse_math": False}):
        yield


@dataclass(frozen=True, slots=True)
class Page:
    """How the slices of a volume are turned for the page.

    Parameters
    ----------
    is_transposed
        Columns of the volume run down the page.
    flips_down, flips_right
        What is then turned around.
    aspect
        Height of a pixel by its width.
    letters
        At the left, right, top and bottom edge.
    """

    is_transposed: bool
    flips_down: bool
    flips_right: bool
    aspect: float
    letters: tuple[str, str, str, str]

    def turned(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return a slice (rows, columns) as it lies on the page."""
        turned = values.T if self.is_transposed else values
        if self.flips_down:
            turned = turned[::-1]
        return turned[:, ::-1] if self.flips_right else turned


def page(grid: Grid) -> Page:
    """Return how slices of a grid are shown."""
    axes = grid.affine[:3, :3] / np.array(grid.spacing)
    normal = np.cross(axes[:, 1], axes[:, 2])
    down, right = (np.array(one) for one in _PAGES[int(np.abs(normal).argmax())])
    is_transposed = abs(axes[:, 1] @ right) > abs(axes[:, 2] @ right)
    first, second = (2, 1) if is_transposed else (1, 2)
    spacing = grid.spacing
    flips_down, flips_right = bool(axes[:, first] @ down < 0), bool(axes[:, second] @ right < 0)
    return Page(
        is_transposed,
        flips_down,
        flips_right,
        spacing[first] / spacing[second],
        (_letter(-right), _letter(right), _letter(-down), _letter(down)),
    )


def _letter(direction: NDArray[np.float64]) -> str:
    """Return where a direction points: R, L, A, P, H or F."""
    axis = int(np.abs(direction).argmax())
    return _LETTERS[axis][int(direction[axis] > 0)]
