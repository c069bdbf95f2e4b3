"""Which part of a volume's slices the networks of heads see, at what size and in what units. Free of torch.

A network sees five neighbouring slices as they were measured, at 1 mm within the slice, cropped to the object and scaled by the
object's own brightness. Slices may lie in any plane, in any direction and order: nothing here knows left from right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PIXEL_MM = 1.0
"""Edge of the pixels that networks see."""

LEAST_SLICES = 3
LARGEST_PIXEL_MM = 3.0
LARGEST_STEP_MM = 8.0
"""From slice to slice."""

SMALLEST_SPACING_MM = 0.05
"""What is given as less than this is no length in mm."""

LARGEST_FIELD = 640
"""Rows or columns at `PIXEL_MM` that networks see at most: more than any bore is wide."""

MULTIPLE = 32
SLICE_SIDE = 160
"""Rows and columns that networks for single slices see."""

BRIGHTEST = 3.0
"""Brighter pixels are clipped; 1 is about the brightest tissue."""

_MARGIN = 8
_OUTLIERS = 99.9
_BRIGHT = 95.0
_OBJECT = 0.1
_SHARE_OF_LINE = 0.02


class VolumeError(ValueError):
    """The volume is nothing that a head can be run on; the message says what is wrong and what to do.

    Attributes
    ----------
    reason
        Stable name of what is wrong.
    """

    reason = "VOLUME_SHAPE"


class ShapeError(VolumeError):
    """The volume is not (slices, rows, columns)."""


class NotFiniteError(VolumeError):
    """The volume holds NaN or infinity."""

    reason = "IMAGE_NOT_FINITE"


class EmptyVolumeError(VolumeError):
    """All voxels have the same value, or none is positive."""

    reason = "IMAGE_EMPTY"


class SpacingError(VolumeError):
    """The edges of a voxel are not known."""

    reason = "SPACING_UNKNOWN"


class TooFewSlicesError(VolumeError):
    """The volume has fewer slices than a head needs."""

    reason = "TOO_FEW_SLICES"


class FieldTooLargeError(VolumeError):
    """The object is larger than any patient."""

    reason = "FIELD_TOO_LARGE"


class TooCoarseError(VolumeError):
    """The voxels are larger than any that the networks were trained on."""

    reason = "TOO_COARSE"


@dataclass(frozen=True, slots=True)
class Framing:
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
    scale
        Brightness in units of the volume that becomes 1.
    """

    size: tuple[int, int]
    resampled: tuple[int, int]
    start: tuple[int, int]
    seen: tuple[int, int]
    scale: float


def frame(
    volume: NDArray[np.floating], spacing: tuple[float, float, float], least_slices: int = LEAST_SLICES
) -> Framing:
    """Decide what networks see of a volume.

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
    start, seen = _crop(volume > _OBJECT * scale, resampled)
    if max(seen) > LARGEST_FIELD:
        raise FieldTooLargeError(
            f"what the images show is {seen[0]} x {seen[1]} mm large, more than the {LARGEST_FIELD} mm of any scanner: check the "
            f"pixel size, {spacing[1]:.3g} x {spacing[2]:.3g} mm"
        )
    return Framing(size, resampled, start, seen, scale)


def frame_slice(images: NDArray[np.floating]) -> Framing:
    """Decide what networks see of single slices whose pixel size does not matter: each in the middle of a square.

    Parameters
    ----------
    images
        Magnitude (slices, rows, columns) in any unit.

    Raises
    ------
    ShapeError, NotFiniteError
        They are no slices, or not finite. Empty ones are none of its business: they are black.
    """
    if images.ndim != 3 or min(images.shape) < 1:
        raise ShapeError(f"slices are (slices, rows, columns), got the shape {images.shape}")
    if not np.isfinite(images).all():
        raise NotFiniteError("the image holds NaN or infinity: reconstruct it anew, or replace them")
    try:
        scale = brightness(images)
    except EmptyVolumeError:
        scale = max(float(images.max()) * 1e6, 1.0)
    rows, columns = images.shape[1:]
    largest = max(rows, columns)
    resampled = (max(1, round(SLICE_SIDE * rows / largest)), max(1, round(SLICE_SIDE * columns / largest)))
    start = (-((SLICE_SIDE - resampled[0]) // 2), -((SLICE_SIDE - resampled[1]) // 2))
    return Framing((rows, columns), resampled, start, (SLICE_SIDE, SLICE_SIDE), scale)


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


def _crop(bright: NDArray[np.bool_], resampled: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the first row and column of the object at `PIXEL_MM`, with a margin, and how many to see.

    Parameters
    ----------
    bright
        (slices, rows, columns) of the volume: what is no background.
    resampled
        Rows and columns at `PIXEL_MM`.
    """
    starts, sizes = [], []
    for axis, extent in zip((1, 2), resampled, strict=True):
        line = bright.mean(axis=tuple(other for other in range(3) if other != axis))
        used = np.flatnonzero(line > _SHARE_OF_LINE * line.max())
        factor = extent / bright.shape[axis]
        # No more zeros than it takes to reach a multiple.
        first = max(int(np.floor(used[0] * factor)) - _MARGIN, 0)
        last = min(int(np.ceil((used[-1] + 1) * factor)) + _MARGIN, extent)
        size = -(-(last - first) // MULTIPLE) * MULTIPLE
        starts.append(first - (size - (last - first)) // 2)
        sizes.append(size)
    return (starts[0], starts[1]), (sizes[0], sizes[1])
