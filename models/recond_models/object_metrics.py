"""Image quality figures inside the object, in float64 numpy; beside `recond_models.metrics`, which judges the whole picture.

What lies around a head is no part of a diagnosis, but most of a picture. A root sum of squares of noisy coils has a floor there
that no good image has, and figures over the picture measure that floor. The rule here leaves the background out:

* **Object**: the mean over 7 x 7 pixels of the reference is above a tenth of the 99th percentile of the reference volume; holes of
  a slice are filled.
* **SSIM** is that of `metrics.ssim`, with the same windows and constants; windows count whose middle is in the object, all windows
  of the volume alike.
* **PSNR** and **NMSE** count the pixels in the object.
* Nothing is cropped, for an object may reach beyond the square. The data range is the maximum of the reference volume, as in
  fastMRI's figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from recond_models import metrics

_OBJECT_FROM: Final = 0.1
_BRIGHT: Final = 0.99

# A smooth window of this level against an empty one has a similarity of 0.8: below it a floor hardly counts.
_LOWEST_FLOOR: Final = 0.005
_ABOVE_IMAGE: Final = 1.5
_LEAST_BACKGROUND: Final = 0.05
_LEAST_LOSS: Final = 0.02


@dataclass(frozen=True, slots=True)
class ObjectFigures:
    """Figures inside the object.

    Parameters
    ----------
    ssim
        Structural similarity.
    psnr
        Peak signal-to-noise ratio in dB; infinite if the images are equal there.
    nmse
        ``||reference - reconstruction||^2 / ||reference||^2``.
    """

    ssim: float
    psnr: float
    nmse: float


def object_mask(reference: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where the object is.

    Parameters
    ----------
    reference
        Real (rows, columns) or (slices, rows, columns). The threshold is that of the volume, so that slices beyond the end of
        the object are empty.

    Returns
    -------
    ndarray
        bool, the shape of the reference; false everywhere if the reference has no positive value, or one that is not finite.
        Where the object fills less than a hundredth of the volume, the maximum takes the place of the percentile.
    """
    values = np.asarray(reference, dtype=np.float64)
    inside = np.zeros(values.shape, dtype=np.bool_)
    if not np.isfinite(values).all() or not values.max(initial=0.0) > 0:
        return inside
    bright = float(np.quantile(values, _BRIGHT))
    if bright <= 0:  # the object fills less than a hundredth of the picture
        bright = float(values.max())
    for index in np.ndindex(values.shape[:-2]):
        means = ndimage.uniform_filter(values[index], metrics.WINDOW, mode="constant")
        inside[index] = ndimage.binary_fill_holes(means > _OBJECT_FROM * bright)
    return inside


def inside_object(
    reference: NDArray[Any], reconstruction: NDArray[Any], inside: NDArray[np.bool_] | None = None
) -> ObjectFigures:
    """Return the figures in the object.

    Parameters
    ----------
    reference, reconstruction
        Real (slices, rows, columns), same units: nothing is scaled or aligned.
    inside
        bool, same shape: the object; found in the reference by `object_mask` if None.

    Raises
    ------
    ShapeMismatchError
        The shapes differ or are not volumes.
    ImageTooSmallError
        There are fewer than 7 rows or columns.
    MetricError
        The reference has no positive value, or no window lies in the object.
    """
    target, image = metrics.prepare(reference, reconstruction, square=False)
    inside = object_mask(target) if inside is None else inside
    if inside.shape != target.shape:
        raise metrics.ShapeMismatchError(f"the object has the shape {inside.shape}, the images have {target.shape}")
    windows = _windows(inside)
    if not windows.any():
        raise metrics.MetricError("no object can be told from the background of the reference")
    level = float(target.max())
    with np.errstate(all="ignore"):  # what is no number in the image is none in the figures
        similarities = [
            metrics.ssim_map(one, other, level)[counted]
            for one, other, counted in zip(target, image, windows, strict=True)
            if counted.any()
        ]
        squares = np.square(target[inside] - image[inside])
        error = squares.mean()
        return ObjectFigures(
            ssim=float(np.concatenate(similarities).mean()),
            psnr=float("inf") if error == 0 else float(10 * np.log10(level**2 / error)),
            nmse=float(squares.sum() / np.square(target[inside]).sum()),
        )


@dataclass(frozen=True, slots=True)
class NoiseFloor:
    """Typical values around the object, medians over the background as fractions of the maximum of the reference.

    Parameters
    ----------
    reference, reconstruction
        Of the two volumes.
    """

    reference: float
    reconstruction: float


def noise_floor(
    reference: NDArray[Any], reconstruction: NDArray[Any], inside: NDArray[np.bool_] | None = None
) -> NoiseFloor | None:
    """Return the floor of a reference that its image lacks and that rules the SSIM over the picture; None if there is none.

    The root sum of squares of coils with noise has a non-central chi distribution (Constantinides et al. 1997,
    doi:10.1002/mrm.1910380524): without any signal its mean is the noise times about the root of twice the number of coils, while
    images that combine coils with their sensitivities have hardly anything there. A floor counts if its median is at least half a
    percent of the maximum and half as much again as that of the image, and if it costs the SSIM over the picture 0.02 or more.

    Parameters
    ----------
    reference, reconstruction
        Real (slices, rows, columns), same units.
    inside
        bool, same shape: the object; found in the reference by `object_mask` if None.

    Raises
    ------
    ShapeMismatchError, ImageTooSmallError, MetricError
        As for `inside_object`.
    """
    target, image = metrics.prepare(reference, reconstruction, square=False)
    inside = object_mask(target) if inside is None else inside
    near = np.ones((1, metrics.WINDOW, metrics.WINDOW), dtype=np.bool_)
    nearby: NDArray[np.bool_] = ndimage.binary_dilation(inside, near)
    with_object: NDArray[np.bool_] = np.any(inside, axis=(1, 2), keepdims=True)
    background = ~nearby & with_object
    if background.mean() < _LEAST_BACKGROUND:
        return None
    level = float(target.max())
    floor = NoiseFloor(float(np.median(target[background])) / level, float(np.median(image[background])) / level)
    # Written so that values that are not numbers give no floor.
    if not (floor.reference >= _LOWEST_FLOOR and floor.reference >= _ABOVE_IMAGE * floor.reconstruction):
        return None
    maps = np.stack([metrics.ssim_map(one, other, level) for one, other in zip(target, image, strict=True)])
    return floor if maps[_windows(inside)].mean() - maps.mean() >= _LEAST_LOSS else None


def _windows(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which windows of bool (slices, rows, columns) have their middle in the object."""
    edge = metrics.WINDOW // 2
    return inside[:, edge : inside.shape[1] - edge, edge : inside.shape[2] - edge]
