"""What a scanner does to five slices: resolution, coil sensitivity, noise, samples left out; and the scaling that heads expect."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from recond_models.heads.framing import BRIGHTEST, EmptyVolumeError, brightness
from recond_models.training.fields import smooth_field

_BLURS = (0.25, 0.7)
_COARSE_SHARE, _COARSEST = 0.8, 2.0
_BIAS_SHARE, _BIAS = 0.8, 0.45
_GAMMA = 0.3
_NOISE_SHARE, _NOISE = 0.85, 0.13
_UNDERSAMPLED_SHARE = 0.5
_SCALE_SPREAD = 0.18
_EVERY = 3
_SMALLEST_WEIGHT = 1e-5


def acquire(generator: np.random.Generator, slices: NDArray[np.float32], severity: float) -> NDArray[np.float32]:
    """Return slices as a scanner might have measured them and `preparation` brought back to 1 mm and to scale.

    Parameters
    ----------
    generator
        Source of randomness.
    slices
        float32 (slices, rows, columns) at 1 mm, not negative, largest value about 1.
    severity
        0 for a good scan to 1 for a bad one.

    Returns
    -------
    ndarray
        float32 (slices, rows, columns), 0 to `BRIGHTEST`.
    """
    size = slices.shape[1:]
    slices = np.maximum(slices, 0)
    if generator.random() < _BIAS_SHARE:
        field = smooth_field(generator, size, int(generator.integers(4, 6)))[0]
        slices = slices * np.exp(np.float32(severity * generator.uniform(0, _BIAS)) * field)
    top = max(float(slices.max()), 1e-6)
    slices = top * (slices / np.float32(top)) ** np.float32(np.exp(severity * generator.normal(0, _GAMMA)))
    pixels = [1.0, 1.0]
    if generator.random() < _COARSE_SHARE * severity:
        pixels = [float(generator.uniform(1, _COARSEST))] * 2
        if generator.random() < 0.4:
            pixels[int(generator.integers(2))] = float(generator.uniform(1, _COARSEST))
    blurs = [float(generator.uniform(*_BLURS))] * 2
    measured = [max(8, round(side / pixel)) for side, pixel in zip(size, pixels, strict=True)]
    down = [_coarser(side, wanted, round(blur, 1)) for side, wanted, blur in zip(size, measured, blurs, strict=True)]
    coarse = np.asarray(down[0] @ slices @ down[1].T, dtype=np.float32)
    if generator.random() < _UNDERSAMPLED_SHARE * severity:
        coarse = undersample(generator, coarse)
    if generator.random() < _NOISE_SHARE:
        level = np.float32(top * _NOISE * severity * generator.random() ** 1.5)
        real = coarse + level * generator.standard_normal(coarse.shape, dtype=np.float32)
        imaginary = level * generator.standard_normal(coarse.shape, dtype=np.float32)
        coarse = np.sqrt(real**2 + imaginary**2, dtype=np.float32)
    up = [_finer(side, wanted) for side, wanted in zip(size, measured, strict=True)]
    return scaled(generator, np.asarray(up[0] @ coarse @ up[1].T, dtype=np.float32))


def scaled(generator: np.random.Generator, slices: NDArray[np.float32]) -> NDArray[np.float32]:
    """Divide by the brightness of a part of the volume, which is not quite that of the whole; clip."""
    try:
        level = brightness(slices[:, ::_EVERY, ::_EVERY])
    except EmptyVolumeError:
        level = 1.0
    factor = np.exp(generator.normal(0, _SCALE_SPREAD)) / level
    clipped: NDArray[np.float32] = np.clip(slices * np.float32(factor), 0, np.float32(BRIGHTEST))
    return clipped


def undersample(generator: np.random.Generator, slices: NDArray[np.float32]) -> NDArray[np.float32]:
    """Leave samples of k-space out and fill in zeros, with a part of the aliasing taken away as coils would.

    Parameters
    ----------
    generator
        Source of randomness.
    slices
        float32 (slices, rows, columns).

    Returns
    -------
    ndarray
        float32 (slices, rows, columns): magnitudes.
    """
    size = slices.shape[1:]
    kept = np.ones(size, dtype=bool)
    kind = generator.choice(3, p=(0.35, 0.45, 0.2))
    distance = [np.abs(fft.fftfreq(side)) * 2 for side in size]
    if kind == 0:  # fewer frequencies along one or both axes
        for axis in range(2):
            if axis == 0 or generator.random() < 0.5:
                inside = distance[axis] <= generator.uniform(0.45, 0.95)
                kept &= inside[:, None] if axis == 0 else inside[None]
    elif kind == 1:  # lines
        acceleration = generator.uniform(2, 10)
        lines = distance[1] <= generator.uniform(0.04, 0.12)
        if generator.random() < 0.5:
            lines |= generator.random(size[1]) < 1 / acceleration
        else:
            lines[int(generator.integers(2)) :: max(2, round(acceleration))] = True
        kept &= lines[None]
    else:  # points, denser in the middle
        radius = np.hypot(distance[0][:, None], distance[1][None])
        kept = generator.random(size) < np.clip((1 - 0.7 * radius) ** generator.uniform(1, 4), 0.05, 1)
        kept |= radius < 0.08
    spectrum = fft.fft2(slices)
    filled = fft.ifft2(spectrum * kept)
    remaining = np.float32(1.0 if kind == 0 else generator.uniform(0.1, 0.9))
    made: NDArray[np.float32] = np.abs(remaining * filled + (1 - remaining) * slices).astype(np.float32)
    return made


@lru_cache(maxsize=4096)
def _coarser(side: int, wanted: int, blur: float) -> NDArray[np.float32]:
    """Return the matrix (wanted, side) that blurs, then averages over pixels of side / wanted."""
    ratio = side / wanted
    centres = (np.arange(wanted) + 0.5) * ratio - 0.5
    deviation = np.hypot(max(blur, 0.05), 0.42 * (ratio if ratio > 1.01 else 0))
    weights = np.exp(-0.5 * ((np.arange(side)[None] - centres[:, None]) / deviation) ** 2)
    weights[weights < _SMALLEST_WEIGHT] = 0  # products of denormal numbers take a hundred times as long
    return np.ascontiguousarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


@lru_cache(maxsize=1024)
def _finer(side: int, coarse: int) -> NDArray[np.float32]:
    """Return the matrix (side, coarse) of linear interpolation."""
    places = np.clip((np.arange(side) + 0.5) * coarse / side - 0.5, 0, coarse - 1)
    weights = np.maximum(1 - np.abs(places[:, None] - np.arange(coarse)[None]), 0)
    return np.ascontiguousarray(weights, dtype=np.float32)
