"""From a volume to what the networks of heads see, and back.

A network sees five neighbouring slices as they were measured, at 1 mm within the slice, cropped to the object and scaled by the
object's own brightness. Slices may lie in any plane, in any direction and order: nothing here knows left from right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as nnf
from numpy.typing import NDArray
from torch import Tensor

from recond_models.heads.network import SLICES

PIXEL_MM = 1.0
"""Edge of the pixels that networks see."""

LEAST_SLICES = 3
LARGEST_PIXEL_MM = 3.0
LARGEST_STEP_MM = 8.0
"""From slice to slice."""

SMALLEST_SPACING_MM = 0.05
"""What is given as less than this is no length in mm."""

MULTIPLE = 32
BRIGHTEST = 3.0
"""Brighter pixels are clipped; 1 is about the brightest tissue."""

_HALO = SLICES // 2
_MARGIN = 8
_OUTLIERS = 99.9
_BRIGHT = 95.0
_OBJECT = 0.1
_SHARE_OF_LINE = 0.02


class VolumeError(ValueError):
    """The volume is nothing that a head can be run on; the message says what is wrong and what to do."""


class ShapeError(VolumeError):
    """The volume is not (slices, rows, columns)."""


class NotFiniteError(VolumeError):
    """The volume holds NaN or infinity."""


class EmptyVolumeError(VolumeError):
    """All voxels have the same value, or none is positive."""


class SpacingError(VolumeError):
    """The edges of a voxel are not known."""


class TooFewSlicesError(VolumeError):
    """The volume has fewer slices than a head needs."""


class TooCoarseError(VolumeError):
    """The voxels are larger than any that the networks were trained on."""


@dataclass(frozen=True, slots=True)
class Grid:
    """How the pixels of a volume's slices and those that a network sees lie to each other.

    Parameters
    ----------
    size
        Rows and columns of the volume.
    resampled
        Rows and columns of the same slices at `PIXEL_MM`.
    start
        First row and column of these that the network sees; negative where zeros were added before them.
    seen
        Rows and columns that the network sees, multiples of `MULTIPLE`.
    """

    size: tuple[int, int]
    resampled: tuple[int, int]
    start: tuple[int, int]
    seen: tuple[int, int]

    def back(self, values: Tensor, outside: float) -> Tensor:
        """Interpolate what a network said on the pixels of the volume.

        Parameters
        ----------
        values
            float32 (slices, channels, rows, columns) as the network sees them.
        outside
            Value of pixels that the network did not see.

        Returns
        -------
        Tensor
            float32 (slices, channels, rows, columns) of the volume.
        """
        whole = values.new_full((*values.shape[:2], *self.resampled), outside)
        (row, column), (rows, columns) = self.start, self.resampled
        top, left = max(row, 0), max(column, 0)
        bottom, right = min(row + self.seen[0], rows), min(column + self.seen[1], columns)
        whole[..., top:bottom, left:right] = values[..., top - row : bottom - row, left - column : right - column]
        return _resized(whole, self.size)


@dataclass(frozen=True, slots=True)
class Block:
    """Neighbouring slices of a prepared volume with the two on either side that the first and last of them need.

    Parameters
    ----------
    images
        float32 (slices + 4, rows, columns).
    grid
        Where the pixels lie in the volume.
    """

    images: NDArray[np.float32]
    grid: Grid

    @property
    def slices(self) -> int:
        """Slices that a network says something about."""
        return len(self.images) - 2 * _HALO

    def stacks(self) -> Tensor:
        """Return what the network sees: float32 (slices, 5, rows, columns)."""
        return torch.from_numpy(self.images).unfold(0, SLICES, 1).permute(0, 3, 1, 2).contiguous()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A volume as networks see it.

    Parameters
    ----------
    images
        float32 (slices, rows, columns), 0 to `BRIGHTEST`.
    grid
        Where the pixels lie in the volume.
    scale
        Brightness in units of the volume that became 1.
    """

    images: NDArray[np.float32]
    grid: Grid
    scale: float

    def block(self, start: int, stop: int) -> Block:
        """Return slices from `start` to before `stop`; beyond the ends of the volume the last slice repeats.

        Raises
        ------
        IndexError
            There are no such slices.
        """
        count = len(self.images)
        if not 0 <= start < stop <= count:
            raise IndexError(f"slices {start} to {stop} of {count}")
        numbers = np.clip(np.arange(start - _HALO, stop + _HALO), 0, count - 1)
        return Block(self.images[numbers], self.grid)


def prepare(
    volume: NDArray[np.floating], spacing: tuple[float, float, float], least_slices: int = LEAST_SLICES
) -> Prepared:
    """Bring a volume to the pixels and the brightness that the networks of heads know.

    Parameters
    ----------
    volume
        Magnitude (slices, rows, columns) in any unit.
    spacing
        Distance of slices, of rows and of columns, mm.
    least_slices
        How many slices the head needs.

    Raises
    ------
    VolumeError
        One of its kinds: the volume is not one, is empty or not finite, has too few slices or too large voxels, or nobody knows how
        large they are.
    """
    _check(volume, spacing, least_slices)
    scale = brightness(volume)
    size = (volume.shape[1], volume.shape[2])
    resampled = (_resampled(size[0], spacing[1]), _resampled(size[1], spacing[2]))
    images = np.empty((len(volume), *resampled), dtype=np.float32)
    for number, image in enumerate(volume):
        scaled = np.clip(image / scale, 0, BRIGHTEST).astype(np.float32)
        images[number] = _resized(torch.from_numpy(scaled)[None, None], resampled)[0, 0].numpy()
    start, seen = _crop(images)
    return Prepared(_cut(images, start, seen), Grid(size, resampled, start, seen), scale)


def brightness(values: NDArray[np.floating]) -> float:
    """Return how bright the brighter tissues of an object are, whatever is around it.

    The 95th percentile of what is brighter than the mean, with the brightest thousandth of all positive values clipped before.

    Parameters
    ----------
    values
        Magnitudes, finite, any shape.

    Raises
    ------
    EmptyVolumeError
        No value is positive, or all are the same.
    """
    positive = values[values > 0].astype(np.float64)
    if positive.size == 0 or float(values.min()) == float(values.max()):
        raise EmptyVolumeError(
            "the image is empty: all voxels have one value; check how the volume was read or reconstructed"
        )
    clipped = np.minimum(positive, np.percentile(positive, _OUTLIERS))
    mean = clipped.sum() / values.size
    return float(np.percentile(clipped[clipped >= min(mean, float(clipped.max()))], _BRIGHT))


def _check(volume: NDArray[np.floating], spacing: tuple[float, float, float], least_slices: int) -> None:
    """Raise what `prepare` raises."""
    if volume.ndim != 3 or min(volume.shape) < 1:
        raise ShapeError(f"a volume is (slices, rows, columns), got the shape {volume.shape}")
    if len(spacing) != 3 or not all(np.isfinite(step) and step > SMALLEST_SPACING_MM for step in spacing):
        raise SpacingError(
            f"the distances of slices, rows and columns must be known in mm, got {spacing}: give a file with a geometry"
        )
    if len(volume) < least_slices:
        raise TooFewSlicesError(
            f"the head needs {least_slices} neighbouring slices, got {len(volume)}: give the whole series"
        )
    if max(spacing[1:]) > LARGEST_PIXEL_MM or spacing[0] > LARGEST_STEP_MM:
        raise TooCoarseError(
            f"pixels up to {LARGEST_PIXEL_MM:g} mm and slices up to {LARGEST_STEP_MM:g} mm apart are understood, got "
            f"{spacing[1]:g} x {spacing[2]:g} mm and {spacing[0]:g} mm"
        )
    if not np.isfinite(volume).all():
        raise NotFiniteError("the image holds NaN or infinity: reconstruct it anew, or replace them")


def _resampled(count: int, step: float) -> int:
    """Return how many pixels of `PIXEL_MM` cover as much as `count` of `step` mm."""
    return max(1, round(count * step / PIXEL_MM))


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Interpolate (slices, channels, rows, columns); averaged where pixels become larger."""
    if tuple(images.shape[-2:]) == size:
        return images
    return nnf.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)


def _crop(images: NDArray[np.float32]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the first row and column of the object with a margin, and how many to see."""
    bright = images > _OBJECT
    starts, sizes = [], []
    for axis in (1, 2):
        line = bright.mean(axis=tuple(other for other in range(3) if other != axis))
        used = np.flatnonzero(line > _SHARE_OF_LINE * line.max())
        first, last = int(used[0]) - _MARGIN, int(used[-1]) + 1 + _MARGIN
        # No more zeros than it takes to reach a multiple.
        first, last = max(first, 0), min(last, images.shape[axis])
        size = -(-(last - first) // MULTIPLE) * MULTIPLE
        starts.append(first - (size - (last - first)) // 2)
        sizes.append(size)
    return (starts[0], starts[1]), (sizes[0], sizes[1])


def _cut(images: NDArray[np.float32], start: tuple[int, int], seen: tuple[int, int]) -> NDArray[np.float32]:
    """Cut a rectangle out of all slices, with zeros where it reaches over their edge."""
    made = np.zeros((len(images), *seen), dtype=np.float32)
    (row, column), (_, rows, columns) = start, images.shape
    top, left = max(row, 0), max(column, 0)
    bottom, right = min(row + seen[0], rows), min(column + seen[1], columns)
    made[:, top - row : bottom - row, left - column : right - column] = images[:, top:bottom, left:right]
    return made
