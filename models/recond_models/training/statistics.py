"""What decides how hard a scan is to reconstruct, of measured and of simulated ones alike: arrays, spectra, phase, noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from recond_kernels import espirit
from recond_models.training.fields import to_images

_BLOCK = 24
_CROP = 0.95
_RIDGE = 1e-6
# Radial frequencies between which spectra are fitted, parts of the largest.
_LOW, _HIGH = 0.08, 0.6
_NOISE_FROM = 0.92


@dataclass(frozen=True, slots=True)
class ScanStatistics:
    """Figures of one slice. NaN where a slice has not what they need.

    Parameters
    ----------
    effective_coils
        Exponential of the entropy of the spectrum of the coil covariance; see `effective_coils`.
    g_median, g_high
        Median and 90th percentile of the g-factor of 4-fold equispaced lines in the object.
    slope
        Exponent of the fall of the power with radial frequency.
    detail
        Share of the energy beyond a quarter of the largest frequency, without noise.
    noise
        Standard deviation of real and imaginary part of the noise of a coil over the bright pixels.
    phase_slope
        Root mean square change of the phase over the field of view in the object, turns.
    phase_detail
        Share of the energy that is not real after a smooth phase is taken out, without noise.
    """

    effective_coils: float
    g_median: float
    g_high: float
    slope: float
    detail: float
    noise: float
    phase_slope: float
    phase_detail: float


def of_scan(kspace: NDArray[np.complex64], mask: NDArray[np.bool_] | None = None) -> ScanStatistics:
    """Return the figures of a slice.

    Parameters
    ----------
    kspace
        complex64 (coils, rows, columns); fully sampled but for `mask`.
    mask
        Bool (rows, columns); None if fully sampled. Without full sampling the figures of images are NaN.
    """
    coils, rows, columns = kspace.shape
    extent = (min(_BLOCK, rows), min(_BLOCK, columns))
    top, left = rows // 2 - extent[0] // 2, columns // 2 - extent[1] // 2
    block = np.ascontiguousarray(kspace[:, top : top + extent[0], left : left + extent[1]])
    nan = float("nan")
    array, middle, high = (nan, nan, nan)
    maps: NDArray[np.complex64] = np.zeros((0, rows, columns), dtype=np.complex64)
    if coils > 1:
        scaled = (block / np.abs(block).max()).astype(np.complex64)
        maps = espirit.estimate_batch([torch.from_numpy(scaled)], (rows, columns), crop=_CROP).numpy()
        array = effective_coils(block)
        combined = np.sqrt((np.abs(to_images(_padded(block, rows, columns))) ** 2).sum(axis=0))
        values = g_factors(maps, 4)[(combined > 0.1 * np.quantile(combined, 0.99)) & (np.abs(maps).sum(axis=0) > 0)]
        middle, high = (float(np.quantile(values, share)) for share in (0.5, 0.9))
    if mask is not None and not mask.all():
        return ScanStatistics(array, middle, high, nan, nan, nan, nan, nan)
    images = to_images(kspace.copy())
    image = images[0] if coils == 1 else (maps.conj() * images).sum(axis=0)
    slope, detail = spectrum(kspace)
    magnitude = np.sqrt((np.abs(images) ** 2).sum(axis=0))
    noise = _edge_noise(kspace) / float(np.quantile(magnitude, 0.99))
    return ScanStatistics(array, middle, high, slope, detail, noise, *_phase(image, noise))


def effective_coils(block: NDArray[np.complex64]) -> float:
    """Return over how many coils the signal is spread: ``exp(-sum p log p)``, p the normalised eigenvalues of the covariance.

    Parameters
    ----------
    block
        complex64 (coils, rows, columns): calibration samples.
    """
    samples = block.reshape(len(block), -1)
    values = np.maximum(np.linalg.eigvalsh(samples @ samples.conj().T).astype(np.float64), 0)
    shares = values / values.sum()
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def g_factors(maps: NDArray[np.complex64], acceleration: int) -> NDArray[np.float64]:
    """Return the g-factor of equispaced lines (Pruessmann et al. 1999, SENSE), float64 (rows, columns); 0 outside the object.

    Parameters
    ----------
    maps
        complex64 (coils, rows, columns): sensitivities in which the noise is white, 0 outside the object.
    acceleration
        Spacing of the lines; columns that are left over beyond a multiple of it are cut off for the computation.
    """
    coils, rows, columns = maps.shape
    width = columns // acceleration
    start = (columns - width * acceleration) // 2
    folded = maps[:, :, start : start + width * acceleration].reshape(coils, rows, acceleration, width)
    pixels = folded.transpose(1, 3, 0, 2).astype(np.complex128)
    gram = pixels.conj().swapaxes(-1, -2) @ pixels
    own = np.einsum("...ii->...i", gram).real
    # A pixel outside the object folds onto nothing.
    empty = own < _RIDGE
    gram += np.eye(acceleration) * _RIDGE + empty[..., None] * np.eye(acceleration)
    inverse = np.einsum("...ii->...i", np.linalg.inv(gram)).real
    g = np.where(empty, 0, np.sqrt(np.maximum(inverse * own, 1)))
    result = np.zeros((rows, columns))
    result[:, start : start + width * acceleration] = g.transpose(0, 2, 1).reshape(rows, -1)
    return result


def spectrum(kspace: NDArray[np.complex64]) -> tuple[float, float]:
    """Return the exponent of the power over radial frequency, and the share of the energy in detail; noise taken off.

    Parameters
    ----------
    kspace
        complex64 (coils, rows, columns), fully sampled.
    """
    rows, columns = kspace.shape[1:]
    radius = np.hypot(
        (np.arange(rows) - rows // 2)[:, None] / (rows / 2),
        (np.arange(columns) - columns // 2)[None, :] / (columns / 2),
    )
    power = (np.abs(kspace) ** 2).sum(axis=0).astype(np.float64)
    power = np.maximum(power - 2 * len(kspace) * _edge_noise(kspace) ** 2, 0)
    edges = np.geomspace(_LOW, _HIGH, 13)
    bins = np.digitize(radius, edges)
    means = np.array([power[bins == number].mean() for number in range(1, len(edges))])
    centres = np.sqrt(edges[1:] * edges[:-1])
    known = means > 0
    exponent = (
        float(np.polyfit(np.log(centres[known]), np.log(means[known]), 1)[0]) if known.sum() > 2 else float("nan")
    )
    inside = radius <= 1
    return exponent, float(power[inside & (radius > 0.25)].sum() / power[inside].sum())


def _phase(image: NDArray[np.complexfloating], noise: float) -> tuple[float, float]:
    """Return how the phase changes over the field of view, and the share of the energy that a smooth phase leaves imaginary."""
    magnitude = np.abs(image)
    bright = float(np.quantile(magnitude, 0.99))
    smooth = ndimage.gaussian_filter(image.real, 4) + 1j * ndimage.gaussian_filter(image.imag, 4)
    inside = np.abs(smooth) > 0.15 * bright
    if inside.sum() < 16:
        return float("nan"), float("nan")
    turns = []
    for axis, size in enumerate(image.shape):
        step = np.angle(smooth * np.roll(smooth, 1, axis=axis).conj()) / (2 * np.pi) * size
        # The linear part is a shift of the echo and harmless.
        turns.append(step[inside] - np.median(step[inside]))
    change = float(np.sqrt(np.mean(np.square(turns))))
    turned = (image * smooth.conj() / np.maximum(np.abs(smooth), 1e-12))[inside]
    left = float((turned.imag**2).mean()) - (noise * bright) ** 2
    return change, max(left, 0.0) / float((np.abs(turned) ** 2).mean())


def _edge_noise(kspace: NDArray[np.complex64]) -> float:
    """Return the standard deviation of real and imaginary part at the corners of k-space, where there is least signal."""
    rows, columns = kspace.shape[1:]
    radius = np.hypot(
        (np.arange(rows) - rows // 2)[:, None] / (rows / 2),
        (np.arange(columns) - columns // 2)[None, :] / (columns / 2),
    )
    parts = kspace[:, radius > _NOISE_FROM * radius.max()]
    values = np.abs(np.concatenate([parts.real, parts.imag], axis=1))
    values = np.where(values == 0, np.nan, values)
    if np.isnan(values).all():
        return 0.0
    return float(np.sqrt(np.mean((np.nanmedian(values, axis=1) / 0.6745) ** 2)))


def _padded(block: NDArray[np.complex64], rows: int, columns: int) -> NDArray[np.complex64]:
    """Put a block in the middle of an empty k-space, tapered to its edge."""
    coils, height, width = block.shape
    window = np.hanning(height + 2)[1:-1, None] * np.hanning(width + 2)[None, 1:-1]
    result = np.zeros((coils, rows, columns), dtype=np.complex64)
    top, left = rows // 2 - height // 2, columns // 2 - width // 2
    result[:, top : top + height, left : left + width] = block * window
    return result
