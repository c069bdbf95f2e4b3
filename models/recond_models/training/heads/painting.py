"""How bright every structure of a label map is, in any contrast there is and in others.

After Billot et al. 2023 (SynthSeg, doi:10.1016/j.media.2023.102789): a random mixture of Gaussians for each structure. Half of the
time the order of the tissues is that of a known weighting.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recond_models.training.contrast import WEIGHTINGS
from recond_models.training.fields import smooth_field
from recond_models.training.heads.slabs import Slab
from recond_models.training.labels import STRUCTURES

FLUID = (4, 5, 14, 15, 24, 43, 44, 72)
PLEXUS = (30, 31, 62, 63, 136, 137, 163, 164)
WHITE = (2, 25, 28, 41, 57, 60, 77, 85)
CEREBELLAR_WHITE = (7, 46)
STEM = (16,)
CORTEX = (3, 42)
CEREBELLAR_GREY = (8, 47)
NUCLEI = (10, 11, 12, 13, 17, 18, 26, 49, 50, 51, 52, 53, 54, 58)
_PAIRS = ((2, 41), (3, 42), (4, 43), (5, 44), (7, 46), (8, 47), (10, 49), (11, 50), (12, 51), (13, 52), (17, 53), (18, 54),
          (25, 57), (26, 58), (28, 60), (30, 62), (31, 63), (136, 163), (137, 164))  # fmt: skip
HEAD = 500
"""Structures from here on are outside the brain."""

RANDOM = "random"
"""Brightness in no order."""
_STRIPPED_SHARE = 0.18
_FLUID_STAYS_SHARE = 0.6
_PLACES = {structure: number for number, structure in enumerate(STRUCTURES)}


@dataclass(frozen=True, slots=True)
class Palette:
    """Brightness of every structure, in the order of `STRUCTURES`.

    Parameters
    ----------
    means
        float32 (structures,).
    clusters
        float32 (structures,): difference between the two kinds of tissue in it, halved.
    textures
        float32 (structures,): standard deviation from pixel to pixel.
    name
        Of the contrast.
    """

    means: NDArray[np.float32]
    clusters: NDArray[np.float32]
    textures: NDArray[np.float32]
    name: str


def draw_weighting(generator: np.random.Generator, shares: tuple[float, ...]) -> str:
    """Return one of `WEIGHTINGS`, each with its probability, or else `RANDOM`."""
    return str(generator.choice([*WEIGHTINGS, RANDOM], p=[*shares, max(0.0, 1 - sum(shares))]))


def draw_palette(
    generator: np.random.Generator, weighting: str, severity: float = 0.5, *, stripped: bool | None = None
) -> Palette:
    """Draw a contrast.

    Parameters
    ----------
    generator
        Source of randomness.
    weighting
        One of `WEIGHTINGS`, or `RANDOM`.
    severity
        0 for tissues that are even to 1 for such as are not.
    stripped
        Everything outside the brain is dark; None to draw that too.
    """
    means = _weighted(generator, weighting) if weighting in WEIGHTINGS else _random(generator)
    if generator.random() < 0.25:
        means[_PLACES[HEAD] :] *= generator.uniform(0.05, 0.6)  # fat suppression, or a coil that sees the brain
    for left, right in _PAIRS:
        means[_PLACES[right]] = means[_PLACES[left]]
    means = np.maximum(means, 0.01)
    means[0] = 0
    clusters = means * np.abs(generator.normal(0, generator.uniform(0.01, 0.02 + 0.2 * severity), len(means)))
    textures = means * generator.uniform(0, generator.uniform(0.01, 0.02 + 0.12 * severity), len(means))
    for left, right in _PAIRS:
        clusters[_PLACES[right]], textures[_PLACES[right]] = clusters[_PLACES[left]], textures[_PLACES[left]]
    if generator.random() < _STRIPPED_SHARE if stripped is None else stripped:
        gone = np.arange(len(STRUCTURES)) >= _PLACES[HEAD]
        if generator.random() > _FLUID_STAYS_SHARE:
            gone[_PLACES[24]] = True
        for table in (means, clusters, textures):
            table[gone] = 0
    return Palette(means.astype(np.float32), clusters.astype(np.float32), textures.astype(np.float32), weighting)


def paint(
    generator: np.random.Generator, palette: Palette, slab: Slab, structures: NDArray[np.uint8]
) -> NDArray[np.float32]:
    """Give the structures of a slab their brightness.

    Parameters
    ----------
    generator
        Source of randomness.
    palette
        The contrast.
    slab
        Where the slices lie.
    structures
        uint8 (5 x thin, rows, columns): places in `STRUCTURES`.

    Returns
    -------
    ndarray
        float32 (5, rows, columns): thick slices, without noise.
    """
    sharpness = np.float32(generator.uniform(0.7, 4))
    fields = smooth_field(generator, slab.size, int(generator.integers(6, 20)), 2)
    fields += smooth_field(generator, slab.size, int(generator.integers(20, 50)), 2)
    first, last = np.tanh(sharpness * fields)
    across = np.linspace(0, 1, len(structures), dtype=np.float32)[:, None, None]
    image = palette.clusters[structures]
    image *= first + across * (last - first)
    image += palette.means[structures]
    thick = slab.averaged(image)
    middle = slab.thin // 2
    textures = palette.textures[structures[middle :: slab.thin]]
    return thick + textures * generator.standard_normal(thick.shape, dtype=np.float32)


def _weighted(generator: np.random.Generator, weighting: str) -> NDArray[np.float64]:
    """Return means (structures,) in the order of a weighting."""
    means = generator.uniform(0.02, 1, len(STRUCTURES))
    grey, white, fluid, bone, muscle, fat = WEIGHTINGS[weighting]
    _set(means, FLUID, fluid, generator, 0.12)
    _set(means, WHITE, white, generator, 0.08)
    _set(means, CEREBELLAR_WHITE, white, generator, 0.1)
    _set(means, CORTEX, grey, generator, 0.1)
    _set(means, CEREBELLAR_GREY, grey, generator, 0.12)
    _set(means, STEM, white + generator.uniform(0, 0.5) * (grey - white), generator, 0.08)
    for nucleus in NUCLEI:
        between = generator.uniform(-0.15, 0.8)
        _set(means, (nucleus,), grey + between * (white - grey), generator, 0.05)
    head = np.arange(len(STRUCTURES)) >= _PLACES[HEAD]
    low, high = sorted((bone, max(fat, muscle)))
    means[head] = generator.uniform(low, high, int(head.sum()))
    means *= np.exp(generator.normal(0, 0.04, len(means)))
    return means


def _random(generator: np.random.Generator) -> NDArray[np.float64]:
    """Return means (structures,) in no order."""
    means = generator.uniform(0.02, 1, len(STRUCTURES))
    # Structures of one tissue are alike in every contrast, only not the same.
    for group in (FLUID, WHITE, CEREBELLAR_WHITE, CORTEX, CEREBELLAR_GREY, STEM):
        value = generator.uniform(0.02, 1)
        for member in group:
            means[_PLACES[member]] = value + generator.normal(0, 0.04)
    if generator.random() < 0.7:
        for first, second in ((CORTEX, CEREBELLAR_GREY), (WHITE, CEREBELLAR_WHITE), (CEREBELLAR_WHITE, STEM)):
            means[_PLACES[second[0]]] = means[_PLACES[first[0]]] * np.exp(generator.normal(0, 0.12))
    return means


def _set(
    means: NDArray[np.float64],
    members: tuple[int, ...],
    value: float,
    generator: np.random.Generator,
    spread: float,
) -> None:
    """Give structures of one tissue about the same brightness."""
    means[[_PLACES[member] for member in members]] = value * np.exp(generator.normal(0, spread))
