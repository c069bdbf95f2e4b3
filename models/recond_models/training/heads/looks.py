"""How bright tissues are in the contrasts that show lesions, relative to white matter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recond_models.training.labels import STRUCTURES

Weighting = Literal["t1post", "flair", "t2", "t1"]

_WHITE, _GREY = (2, 7, 16, 28, 41, 46, 60, 85), (3, 8, 17, 18, 42, 47, 53, 54)
_DEEP = (10, 11, 12, 13, 26, 49, 50, 51, 52, 58)
_IRON = (12, 13, 51, 52)
_FLUID = (4, 5, 14, 15, 24, 43, 44, 72)
_PLEXUS = (136, 137, 163, 164)
_HEAD = 500
_RANGES: dict[Weighting, dict[str, tuple[float, float]]] = {
    "t1post": {
        "grey": (0.62, 0.97),
        "fluid": (0.08, 0.38),
        "bone": (0.03, 0.25),
        "soft": (0.45, 0.95),
        "fat": (0.9, 2.3),
    },
    "t1": {"grey": (0.58, 0.92), "fluid": (0.08, 0.38), "bone": (0.03, 0.25), "soft": (0.4, 0.85), "fat": (0.9, 2.0)},
    "flair": {"grey": (1.05, 1.5), "fluid": (0.08, 0.5), "bone": (0.05, 0.3), "soft": (0.4, 1.1), "fat": (0.4, 2.2)},
    "t2": {"grey": (1.15, 1.75), "fluid": (2.0, 3.8), "bone": (0.05, 0.3), "soft": (0.3, 0.9), "fat": (0.5, 2.2)},
}
# Labels of SynthSeg's maps outside the brain: bone and air cells, and skin, marrow and fat.
_BONE, _FAT = (506, 508, 514, 515), (509, 511, 516)


@dataclass(frozen=True, slots=True)
class Look:
    """Signals of one head in one contrast.

    Parameters
    ----------
    weighting
        The contrast.
    fluid, grey, white
        Mean signals.
    table
        float32 (256,): mean signal of each of `STRUCTURES`; None for a head with a signal of its own.
    spread
        float32 (256,): how far signals differ within each structure; None likewise.
    blood
        Signal of blood after contrast; None to draw it.
    """

    weighting: Weighting
    fluid: float
    grey: float
    white: float
    table: NDArray[np.float32] | None = None
    spread: NDArray[np.float32] | None = None
    blood: float | None = None

    def tissue(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return how much brain, not fluid, there is by the signal, 0 to 1."""
        nearest = min((self.grey, self.white), key=lambda level: abs(level - self.fluid))
        share = (image - np.float32(self.fluid)) / np.float32(nearest - self.fluid)
        solid: NDArray[np.float32] = np.clip(1.4 * share - 0.2, 0, 1)
        return solid

    def whiteness(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return how much of the brain is white matter by the signal, 0 to 1."""
        span = self.white - self.grey
        if abs(span) < 0.03 * max(self.white, 1e-3):
            return self.tissue(image)
        share: NDArray[np.float32] = np.clip((image - np.float32(self.grey)) / np.float32(span) + 0.2, 0, 1)
        return share * self.tissue(image)


def draw_look(
    generator: np.random.Generator,
    weighting: Weighting,
    level: dict[str, float] | None = None,
    *,
    iron: bool = False,
) -> Look:
    """Draw signals for a map of structures; white matter is 1 but for its own variation.

    Parameters
    ----------
    generator
        Source of randomness.
    weighting
        The contrast.
    level
        Signals of grey matter, fluid, bone, soft tissue and fat; drawn if None.
    iron
        Darken the deep nuclei, as iron does in gradient echoes.
    """
    structures = np.asarray(STRUCTURES)
    if level is None:
        level = {kind: float(generator.uniform(*bounds)) for kind, bounds in _RANGES[weighting].items()}
    means = np.zeros(len(structures))
    groups: tuple[tuple[tuple[int, ...], float], ...] = (
        (_WHITE, 1.0), (_GREY, level["grey"]), (_FLUID, level["fluid"]),
    )  # fmt: skip
    for members, mean in groups:
        means[np.isin(structures, members)] = mean
    deep = np.isin(structures, _DEEP)
    share = generator.uniform(0.2, 0.9, int(deep.sum()))
    means[deep] = share * level["grey"] + (1 - share)
    if iron:
        means[np.isin(structures, _IRON)] *= generator.uniform(0.5, 0.9)
    means[np.isin(structures, _PLEXUS)] = generator.uniform(0.7, 1.4) * level["grey"]
    head = structures >= _HEAD
    means[head] = level["soft"] * np.exp(generator.normal(0, 0.25, int(head.sum())))
    outside: tuple[tuple[tuple[int, ...], str], ...] = ((_BONE, "bone"), (_FAT, "fat"))
    for members, kind in outside:
        chosen = np.isin(structures, members)
        means[chosen] = level[kind] * np.exp(generator.normal(0, 0.35, int(chosen.sum())))
    if generator.random() < 0.25:  # what is where outside the brain differs between maps
        means[head] = generator.uniform(0.02, 2.0, int(head.sum()))
    others = (means == 0) & (structures > 0)
    means[others] = generator.uniform(0.5, 1.2, int(others.sum()))
    means *= np.exp(generator.normal(0, 0.03, means.size))
    means[0] = generator.uniform(0, 0.05) if generator.random() < 0.5 else 0
    spread = np.abs(generator.normal(0, generator.uniform(0.01, 0.12), means.size)) * means
    spread[0] = 0
    table, spreads = (np.zeros(256, dtype=np.float32) for _ in range(2))
    table[: means.size], spreads[: means.size] = means, spread
    return Look(weighting, level["fluid"], level["grey"], 1.0, table, spreads)
