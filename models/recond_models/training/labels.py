"""Slices painted from maps of structures: a random signal for each, texture within it, mixed pixels where structures meet.

After Billot et al. 2023 (SynthSeg, doi:10.1016/j.media.2023.102789), who train segmentation on such images.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from recond_models.training.contrast import WEIGHTINGS
from recond_models.training.fields import smooth_field
from recond_models.training.planes import corners
from recond_models.training.volumes import Volume

_FLUID = (4, 5, 14, 15, 24, 43, 44, 72)
_WHITE = (2, 7, 16, 28, 41, 46, 60, 85)
_GREY = (3, 8, 10, 11, 12, 13, 17, 18, 26, 42, 47, 49, 50, 51, 52, 53, 54, 58)
_SIDES = ((2, 41), (3, 42), (4, 43), (5, 44), (7, 46), (8, 47), (10, 49), (11, 50), (12, 51), (13, 52), (17, 53), (18, 54),
          (25, 57), (26, 58), (28, 60), (30, 62), (136, 163), (137, 164))  # fmt: skip
_HEAD = 500
STRUCTURES = (*range(100), 136, 137, 163, 164, *range(_HEAD, 531))
"""What the numbers in the voxels stand for: FreeSurfer's labels, and from 500 on classes of the rest of the head."""

_GROUPS = ("grey", "white", "fluid", "bone", "soft", "fat")


def numbers_of(structures: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Return uint8 numbers: places in `STRUCTURES`.

    Raises
    ------
    ValueError
        A structure is unknown.
    """
    table = np.full(max(STRUCTURES) + 1, 255, dtype=np.uint8)
    table[list(STRUCTURES)] = np.arange(len(STRUCTURES))
    if structures.min() < 0 or structures.max() > max(STRUCTURES):
        raise ValueError(f"labels go from 0 to {max(STRUCTURES)}, got {structures.min()} to {structures.max()}")
    numbers: NDArray[np.uint8] = table[structures]
    if (numbers == 255).any():
        raise ValueError(f"unknown labels {sorted(set(structures[numbers == 255].tolist()))}")
    return numbers


def paint(
    generator: np.random.Generator, volume: Volume, points: NDArray[np.float32]
) -> tuple[NDArray[np.float32], str]:
    """Cut a slice and give every structure a signal.

    Parameters
    ----------
    generator
        Source of randomness.
    volume
        A map of structures.
    points
        float32 (3, rows, columns), mm from the middle of the brain, RAS.

    Returns
    -------
    image
        float32 (rows, columns), not negative, largest value about 1.
    name
        Of the contrast.
    """
    shape = points.shape[1:]
    means, name = _means(generator)
    # Two kinds of tissue in each structure, and how far it fluctuates.
    spread = np.abs(generator.normal(0, generator.uniform(0.02, 0.25), len(means))).astype(np.float32) * means
    rough = generator.uniform(0, generator.uniform(0.01, 0.15), len(means)).astype(np.float32) * means
    tables = np.stack([means, spread, rough])
    flat = volume.voxels.reshape(-1)
    total = np.zeros((3, shape[0] * shape[1]), dtype=np.float32)
    for places, share in corners(volume, points):
        total += tables[:, flat[places]] * share
    mean, difference, roughness = total.reshape(3, *shape)
    clusters = smooth_field(generator, shape, int(generator.integers(6, 24)))[0]
    clusters += smooth_field(generator, shape, int(generator.integers(24, 60)))[0]
    sharpness = np.float32(generator.uniform(0.7, 4))
    image = mean + difference * np.tanh(sharpness * clusters) + roughness * _grain(generator, shape)
    if generator.random() < 0.5:
        image = ndimage.gaussian_filter(image, generator.uniform(0.25, 0.7), truncate=3)
    top = float(np.partition(image, -50, axis=None)[-50])
    scaled = np.maximum(image / np.float32(max(top, 1e-3)), 0)
    return np.minimum(scaled, np.float32(1.5)), f"painted {name}"


def _means(generator: np.random.Generator) -> tuple[NDArray[np.float32], str]:
    """Return the mean signal of every structure, float32 (structures,), and what was drawn."""
    name = str(generator.choice([*WEIGHTINGS, "random", "random", "random"]))
    places = {structure: number for number, structure in enumerate(STRUCTURES)}
    means = generator.uniform(0.03, 1, len(STRUCTURES))
    if name != "random":
        usual = dict(zip(_GROUPS, WEIGHTINGS[name], strict=True))
        for group, members in (("fluid", _FLUID), ("white", _WHITE), ("grey", _GREY)):
            means[[places[member] for member in members]] = usual[group] * np.exp(generator.normal(0, 0.1))
        low, high = sorted((usual["bone"], usual["fat"]))
        head = np.arange(len(STRUCTURES)) >= places[_HEAD]
        means[head] = generator.uniform(low, high, int(head.sum()))
        means *= np.exp(generator.normal(0, 0.06, len(means)))
    for left, right in _SIDES:
        means[places[right]] = means[places[left]]
    means[0] = 0
    return means.astype(np.float32), name


def _grain(generator: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return fluctuations of standard deviation 1, over one to three pixels."""
    white = generator.standard_normal(shape, dtype=np.float32)
    smooth = ndimage.gaussian_filter(white, generator.uniform(0.4, 1.4), truncate=3)
    grain: NDArray[np.float32] = smooth / np.float32(max(float(smooth.std()), 1e-6))
    return grain
