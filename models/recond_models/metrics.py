"""Image quality figures in float64 numpy.

`ssim`, `psnr` and `nmse` compare with a reference exactly as fastMRI's `evaluate.py` does: both volumes are first cropped about
their centre to the square of their number of columns. Images with more columns than rows, which fastMRI refuses, are cropped to the
square of their rows. ``square=False`` leaves the crop out. `noise_level` needs no reference.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from recond_models._wavelet import finest_diagonal

WINDOW = 7
"""Width of the SSIM window in pixels."""

_K1 = 0.01
_K2 = 0.03
# Median absolute value of a normal variable with standard deviation 1.
_NORMAL_MAD = 0.6744897501960817

Volume = NDArray[np.float64]


class MetricError(ValueError):
    """The images cannot be compared: their shapes differ, or nothing is in them that a figure could refer to."""


class ShapeMismatchError(MetricError):
    """Reference and reconstruction differ in shape, or are not volumes."""


class ImageTooSmallError(MetricError):
    """The images are smaller than the SSIM window."""


def ssim(reference: NDArray[Any], reconstruction: NDArray[Any], *, square: bool = True) -> float:
    """Return the structural similarity (Wang et al. 2004, doi:10.1109/TIP.2003.819861) as fastMRI defines it.

    Mean over slices; uniform 7 x 7 windows that lie within the image, sample covariance, and the maximum of the reference volume
    (after the crop) as the data range.

    Parameters
    ----------
    reference, reconstruction
        Real (slices, rows, columns), same units: nothing is scaled or aligned.
    square
        Crop to a square first.

    Returns
    -------
    float
        1 for equal volumes.

    Raises
    ------
    ShapeMismatchError
        The shapes differ or are not volumes.
    ImageTooSmallError
        There are fewer than 7 rows or columns.
    MetricError
        The reference has no positive value.
    """
    target, image = prepare(reference, reconstruction, square=square)
    return float(np.mean([ssim_map(t, i, target.max()).mean() for t, i in zip(target, image, strict=True)]))


def ssim_per_slice_range(reference: NDArray[Any], reconstruction: NDArray[Any], *, square: bool = True) -> float:
    """Return the structural similarity with each slice's own maximum as its data range; not comparable with fastMRI's figure.

    Parameters, result and errors are those of `ssim`.
    """
    target, image = prepare(reference, reconstruction, square=square)
    if min(t.max() for t in target) <= 0:
        raise MetricError("a slice of the reference has no positive value, so it has no range of its own")
    return float(np.mean([ssim_map(t, i, t.max()).mean() for t, i in zip(target, image, strict=True)]))


def psnr(reference: NDArray[Any], reconstruction: NDArray[Any], *, square: bool = True) -> float:
    """Return the peak signal-to-noise ratio of the volume in dB: ``10 log10(max(reference)^2 / mean squared error)``.

    Parameters
    ----------
    reference, reconstruction
        Real (slices, rows, columns).
    square
        Crop to a square first.

    Returns
    -------
    float
        One figure for the volume, not a mean over slices; infinite for equal volumes.

    Raises
    ------
    ShapeMismatchError, ImageTooSmallError, MetricError
        As for `ssim`.
    """
    target, image = prepare(reference, reconstruction, square=square)
    error = np.mean((target - image) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(target.max() ** 2 / error))


def nmse(reference: NDArray[Any], reconstruction: NDArray[Any], *, square: bool = True) -> float:
    """Return the normalised mean squared error of the volume: ``||reference - reconstruction||^2 / ||reference||^2``.

    Parameters
    ----------
    reference, reconstruction
        Real (slices, rows, columns).
    square
        Crop to a square first.

    Returns
    -------
    float
        0 for equal volumes.

    Raises
    ------
    ShapeMismatchError, ImageTooSmallError, MetricError
        As for `ssim`.
    """
    target, image = prepare(reference, reconstruction, square=square)
    return float(np.sum((target - image) ** 2) / np.sum(target**2))


def noise_level(volume: NDArray[Any]) -> float:
    """Return the standard deviation of the noise in magnitude images as a fraction of their maximum.

    Median absolute deviation of the finest diagonal wavelet coefficients (Donoho and Johnstone 1994, doi:10.1093/biomet/81.3.425)
    with the orthonormal Daubechies wavelet of four taps, which does not see linear shading. Only blocks whose pixels are all at
    least a tenth of the maximum count: elsewhere a reconstruction may have set the image to zero, and the noise of a magnitude
    is not Gaussian. A small figure also comes from an image that was smoothed.

    Parameters
    ----------
    volume
        Real (slices, rows, columns), at least 8 rows and columns.

    Returns
    -------
    float
        0 for a volume of zeros.

    Raises
    ------
    ShapeMismatchError
        It is not a volume.
    ImageTooSmallError
        It has fewer than 8 rows or columns.
    """
    images = np.asarray(volume, dtype=np.float64)
    if images.ndim != 3 or images.size == 0:
        raise ShapeMismatchError(f"expected a volume (slices, rows, columns), got the shape {images.shape}")
    if min(images.shape[1:]) < WINDOW + 1:
        raise ImageTooSmallError(f"images of {images.shape[1]} x {images.shape[2]} are too small, need 8 x 8")
    peak = float(images.max())
    if peak <= 0:
        return 0.0
    coefficients, lowest = finest_diagonal(images / peak)
    with_signal = lowest >= 0.1
    chosen = coefficients[with_signal] if np.count_nonzero(with_signal) >= 64 else coefficients
    return float(np.median(np.abs(chosen)) / _NORMAL_MAD)


def prepare(reference: NDArray[Any], reconstruction: NDArray[Any], *, square: bool) -> tuple[Volume, Volume]:
    """Return both volumes in float64, cropped if wanted; raises what `ssim` raises."""
    if reference.shape != reconstruction.shape or reference.ndim != 3 or reference.size == 0:
        raise ShapeMismatchError(
            f"expected two volumes (slices, rows, columns) of one shape, got {reference.shape} and {reconstruction.shape}"
        )
    rows, columns = reference.shape[1:]
    if min(rows, columns) < WINDOW:
        raise ImageTooSmallError(f"images of {rows} x {columns} are smaller than the {WINDOW} x {WINDOW} window")
    target = np.asarray(reference, dtype=np.float64)
    image = np.asarray(reconstruction, dtype=np.float64)
    if square:
        side = min(rows, columns)
        top, left = (rows - side) // 2, (columns - side) // 2
        target, image = (volume[:, top : top + side, left : left + side] for volume in (target, image))
    if not target.max() > 0:
        raise MetricError("the reference has no positive value, so there is no data range")
    return target, image


def ssim_map(target: Volume, image: Volume, data_range: float) -> Volume:
    """Return the structural similarity of every 7 x 7 window within a slice: (rows, columns) to (rows - 6, columns - 6)."""
    pixels = WINDOW * WINDOW
    # Differences of large sums lose digits: take out the mean, which no covariance notices.
    offset = float(target.mean())
    x, y = target - offset, image - offset
    mean_x, mean_y = _window_sums(x) / pixels, _window_sums(y) / pixels
    unbiased = pixels / (pixels - 1)
    variance_x = unbiased * (_window_sums(x * x) / pixels - mean_x**2)
    variance_y = unbiased * (_window_sums(y * y) / pixels - mean_y**2)
    covariance = unbiased * (_window_sums(x * y) / pixels - mean_x * mean_y)
    mean_x, mean_y = mean_x + offset, mean_y + offset
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    similarity: Volume = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
    )
    return similarity


def _window_sums(image: Volume) -> Volume:
    """Return the sums over all 7 x 7 windows within (rows, columns): (rows - 6, columns - 6)."""
    rows = np.lib.stride_tricks.sliding_window_view(image, WINDOW, axis=0).sum(axis=-1)
    sums: Volume = np.lib.stride_tricks.sliding_window_view(rows, WINDOW, axis=1).sum(axis=-1)
    return sums
