"""A scan as registration sees it: smoothed to a coarser grid, with where the head is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from recond_models.heads.measurements import Grid

_BRIGHT: Final = 0.98
_FOREGROUND: Final = 0.15
_DARK: Final = 0.005
_BRIGHTEST: Final = 0.995
_HEAD_MM: Final = 150.0
_MARGIN_MM: Final = 6.0


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A scan on one grid.

    Parameters
    ----------
    values
        float32 (slices, rows, columns), 0 to 1.
    grid
        Of the values.
    foreground
        bool: where there is signal.
    head
        bool: the foreground down to 150 mm below its top, with a margin. The neck bends, so it is no part of a rigid head.
    brain
        bool: the brain with a margin, if a head has found it.
    brain_only
        bool: the brain without the margin.
    """

    values: NDArray[np.float32]
    grid: Grid
    foreground: NDArray[np.bool_]
    head: NDArray[np.bool_]
    brain: NDArray[np.bool_] | None
    brain_only: NDArray[np.bool_] | None

    @classmethod
    def of(cls, volume: NDArray[Any], grid: Grid, brain: NDArray[np.bool_] | None) -> View:
        """Return a volume on its own grid, with its brightest and darkest values cut off."""
        values = np.asarray(volume, dtype=np.float32) / np.float32(
            max(abs(float(volume.max())), abs(float(volume.min())))
        )
        low, high = np.quantile(values, [_DARK, _BRIGHTEST])
        if high <= low:  # next to nothing in it: its extremes say more than its quantiles
            low, high = float(values.min()), float(values.max())
        scaled = np.clip((values - low) / (high - low), 0, 1).astype(np.float32)
        empty = np.zeros(0, dtype=np.bool_)
        return cls(scaled, grid, empty, empty, None, None if brain is None else np.asarray(brain, dtype=np.bool_))

    def at(self, spacing: float) -> View:
        """Return the view on a grid along the same axes with at least this spacing, mm; coarser axes stay as they are."""
        steps = np.maximum(1.0, spacing / np.array(self.grid.spacing))
        values, grid = resample(self.values, self.grid, steps)
        foreground = _foreground(values)
        head = _widened(_upper(foreground, grid), grid)
        if self.brain_only is None:
            return View(values, grid, foreground, head, None, None)
        share, _ = resample(self.brain_only.astype(np.float32), self.grid, steps)
        brain = share >= 0.5
        return View(values, grid, foreground, head, _widened(brain, grid), brain)


def resample(values: NDArray[np.float32], grid: Grid, steps: NDArray[np.float64]) -> tuple[NDArray[np.float32], Grid]:
    """Return a volume on a grid that is coarser by a factor per axis, smoothed first; the first voxels stay in place."""
    smooth = ndimage.gaussian_filter(values, np.maximum(0.4 * steps, 0.6))
    shape = tuple(int((count - 1) / step) + 1 for count, step in zip(values.shape, steps, strict=True))
    coarse = ndimage.affine_transform(smooth, steps, output_shape=shape, order=1, mode="nearest")
    return np.asarray(coarse, dtype=np.float32), Grid(grid.affine @ np.diag([*steps, 1.0]))


def _widened(mask: NDArray[np.bool_], grid: Grid) -> NDArray[np.bool_]:
    """Return a mask with a margin."""
    size = [2 * max(1, round(_MARGIN_MM / one)) + 1 for one in grid.spacing]
    return np.asarray(ndimage.maximum_filter(mask.view(np.uint8), size)).view(np.bool_)


def _foreground(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where there is signal: the largest connected part above a share of the bright voxels."""
    above = values > _FOREGROUND * np.quantile(values, _BRIGHT)
    parts, count = ndimage.label(above)
    if count == 0:
        return np.ones(values.shape, dtype=np.bool_)
    sizes = np.bincount(parts.ravel())[1:]
    return np.asarray(parts == 1 + int(sizes.argmax()))


def _upper(foreground: NDArray[np.bool_], grid: Grid) -> NDArray[np.bool_]:
    """Return the part of a foreground that is less than 150 mm below its top."""
    height = np.zeros(foreground.shape)
    for axis, step in enumerate(grid.affine[2, :3]):
        shape = [1, 1, 1]
        shape[axis] = -1
        height = height + step * np.arange(foreground.shape[axis]).reshape(shape)
    top = np.quantile(height[foreground], 0.999)
    return np.asarray(foreground & (height >= top - _HEAD_MM))
