"""Which tissue is where, from the signal of a T1-weighted head."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_ROUNDS = 8
_SMALLEST_DEVIATION = 0.03
_PRIOR_FLOOR = 1e-3
_CLOSING_MM = 20.0
# Layers around a bare brain: class, mean thickness in mm and T1-weighted signal relative to white matter.
_LAYERS = ((2, 3.0, 0.20), (3, 5.5, 0.06), (4, 6.5, 0.85))
_FLUID_SIGNAL = 0.18
_SEED = 19


def posteriors(signal: NDArray[np.float32], priors: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return how probable each tissue is, by a mixture of Gaussians with spatial priors.

    Expectation maximisation after Ashburner and Friston 2005 (doi:10.1016/j.neuroimage.2005.02.018), without its bias field and
    deformation.

    Parameters
    ----------
    signal
        float32 (x, y, z), about 0 to 1.
    priors
        float32 (6, x, y, z): grey, white, fluid, bone, soft, air.

    Returns
    -------
    ndarray
        uint8 (5, x, y, z): probabilities of the first five in 1/255.
    """
    weights = priors + _PRIOR_FLOOR
    weights /= weights.sum(axis=0)
    shares_now = weights
    for _ in range(_ROUNDS):
        total = shares_now.reshape(len(weights), -1).sum(axis=1)
        means = np.tensordot(shares_now, signal, axes=3) / total
        squares = np.tensordot(shares_now, signal**2, axes=3) / total
        deviations = np.maximum(np.sqrt(np.maximum(squares - means**2, 0)), _SMALLEST_DEVIATION)
        shares_now = np.stack(
            [
                weight * np.exp(-0.5 * ((signal - mean) / deviation) ** 2) / deviation
                for weight, mean, deviation in zip(weights, means, deviations, strict=True)
            ]
        )
        shares_now /= np.maximum(shares_now.sum(axis=0), 1e-12)
    result: NDArray[np.uint8] = np.round(255 * shares_now[:5]).astype(np.uint8)
    return result


def shares(signal: NDArray[np.float32], levels: tuple[float, float]) -> NDArray[np.float32]:
    """Return shares of grey matter, white matter and fluid in a bare brain, linear in the signal between them.

    Parameters
    ----------
    signal
        float32 (x, y, z), 0 outside the brain.
    levels
        Signal of grey and of white matter.

    Returns
    -------
    ndarray
        float32 (3, x, y, z), sum 1 inside and 0 outside.
    """
    grey_level, white_level = levels
    inside = ndimage.binary_fill_holes(signal > 0.05)
    white = np.clip((signal - grey_level) / (white_level - grey_level), 0, 1)
    grey = np.clip((signal - _FLUID_SIGNAL) / (grey_level - _FLUID_SIGNAL), 0, 1) - white
    result: NDArray[np.float32] = (np.stack([grey, white, 1 - grey - white]) * inside).astype(np.float32)
    return result


def add_head(
    signal: NDArray[np.float32], brain: NDArray[np.float32], spacing: tuple[float, ...]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Surround a bare brain with fluid, bone and scalp of uneven thickness.

    Parameters
    ----------
    signal
        float32 (x, y, z), 0 outside the brain, with room around it.
    brain
        float32 (3, x, y, z): shares of grey matter, white matter and fluid.
    spacing
        Edges of a voxel, mm.

    Returns
    -------
    signal
        float32 (x, y, z).
    tissues
        uint8 (5, x, y, z): shares in 1/255.
    """
    # Distances vary slowly: every second voxel is enough at 1 mm and below.
    step = max(1, round(2.0 / spacing[0]))
    inside = signal[::step, ::step, ::step] > 0.05
    coarse_spacing = [step * size for size in spacing]
    swollen = ndimage.distance_transform_edt(~inside, sampling=coarse_spacing) <= _CLOSING_MM
    envelope = ndimage.distance_transform_edt(swollen, sampling=coarse_spacing) - _CLOSING_MM
    outside = ndimage.distance_transform_edt(envelope <= 0, sampling=coarse_spacing)
    depth = np.where(envelope > 0, -envelope, outside)
    generator = np.random.default_rng(_SEED)
    unevenness = ndimage.zoom(generator.normal(0, 0.22, (7, 8, 7)), np.array(depth.shape) / (7, 8, 7), order=3)
    depth = depth * np.exp(unevenness)
    fine = ndimage.gaussian_filter(_enlarge(depth.astype(np.float32), signal.shape), 0.5 * step)
    occupied = np.clip(brain.sum(axis=0), 0, 1)
    tissues = np.zeros((5, *signal.shape), dtype=np.float32)
    tissues[:3] = brain
    # Fluid fills the furrows up to the first layer.
    free = 1 - occupied
    tissues[2] += free * _step(-fine)
    start = 0.0
    for tissue, thickness, _ in _LAYERS:
        tissues[tissue] += free * _step(fine - start) * _step(start + thickness - fine)
        start += thickness
    added = free * (_step(-fine) * _FLUID_SIGNAL)
    start = 0.0
    for _, thickness, value in _LAYERS:
        added += free * _step(fine - start) * _step(start + thickness - fine) * value
        start += thickness
    return np.clip(signal + added, 0, 1.5).astype(np.float32), np.round(255 * np.clip(tissues, 0, 1)).astype(np.uint8)


def _step(distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return 0 below, 1 above, with a slope of 2 mm: a border may run through several voxels."""
    slope: NDArray[np.float32] = np.clip(0.5 * distance + 0.5, 0, 1)
    return slope


def _enlarge(values: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Interpolate linearly on a finer grid of the same extent."""
    factors = np.array(shape) / np.array(values.shape)
    result: NDArray[np.float32] = ndimage.zoom(values, factors, order=1, output=np.float32)
    pads = [(0, max(0, wanted - size)) for wanted, size in zip(shape, result.shape, strict=True)]
    padded: NDArray[np.float32] = np.pad(result, pads, mode="edge")
    return padded[tuple(slice(0, size) for size in shape)]
