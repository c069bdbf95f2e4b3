"""How bright tissues are: one head in many weightings."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recond_models.training.volumes import TISSUES

WEIGHTINGS = {
    "t1": (0.55, 0.80, 0.18, 0.05, 0.50, 0.95),
    "t2": (0.55, 0.38, 1.00, 0.04, 0.25, 0.55),
    "flair": (0.72, 0.55, 0.08, 0.04, 0.35, 0.60),
    "pd": (0.88, 0.72, 0.95, 0.08, 0.60, 0.75),
    "t2*": (0.65, 0.52, 0.90, 0.02, 0.30, 0.40),
}
"""Mean signal of grey matter, white matter, fluid, bone, muscle and fat, for spin and gradient echoes at 1.5 to 3 T."""
_SYNTHETIC = ("t1", "t2", "t2", "flair", "pd", "t2*", "random", "random")
# In T1-weighted heads fat is brighter than this and muscle darker.
_FAT_FROM, _FAT_TO = 0.55, 0.85
_BACKGROUND = 0.08


def weight(
    generator: np.random.Generator, signal: NDArray[np.float32], tissues: NDArray[np.float32] | None
) -> tuple[NDArray[np.float32], str]:
    """Give a slice a contrast.

    Either the T1-weighted signal as it is, or through a random curve, or a new signal for every tissue (with the detail that the
    T1-weighted signal has within it), or a mixture.

    Parameters
    ----------
    generator
        Source of randomness.
    signal
        float32 (rows, columns), T1-weighted.
    tissues
        float32 (tissues, rows, columns), shares; None if unknown.

    Returns
    -------
    image
        float32 (rows, columns), not negative, largest value about 1.
    name
        What was done.
    """
    choice = generator.random()
    # Volumes without tissues have their own contrast, which is a real one.
    if choice < (0.28 if tissues is not None else 0.75):
        image, name = signal, "native"
    elif choice < 0.45 or tissues is None:
        image, name = _curve(generator, signal), "curve"
    else:
        name = str(generator.choice(_SYNTHETIC))
        image = _synthesise(generator, signal, tissues, name)
        if generator.random() < 0.3:
            share = np.float32(generator.uniform(0.1, 0.6))
            image, name = (1 - share) * image + share * signal, f"{name}+native"
    top = float(image.max())
    if top <= 0:
        return np.zeros_like(signal), name
    scaled = np.maximum(image / np.float32(top), 0)
    return scaled ** np.float32(np.exp(generator.normal(0, 0.18))), name


def _curve(generator: np.random.Generator, signal: NDArray[np.float32]) -> NDArray[np.float32]:
    """Send the signal through a random smooth curve, rising in half of the cases; air stays dark."""
    values = generator.uniform(0, 1, 7)
    if generator.random() < 0.5:
        values = np.sort(values)
    points = np.linspace(0, 1.2, values.size)
    # Rounded corners: a moving average of the piecewise linear curve.
    fine = np.linspace(0, 1.2, 121)
    curve = np.convolve(np.pad(np.interp(fine, points, values), 8, mode="edge"), np.ones(17) / 17, mode="valid")
    changed = np.interp(signal, fine, curve).astype(np.float32)
    faded: NDArray[np.float32] = changed * np.clip(signal / np.float32(_BACKGROUND), 0, 1)
    return faded


def _synthesise(
    generator: np.random.Generator, signal: NDArray[np.float32], tissues: NDArray[np.float32], name: str
) -> NDArray[np.float32]:
    """Give every tissue a mean signal and a share of its T1-weighted detail."""
    fat = np.clip((signal - _FAT_FROM) / (_FAT_TO - _FAT_FROM), 0, 1) * tissues[TISSUES.index("soft")]
    shares = np.concatenate([tissues, fat[None]])
    shares[TISSUES.index("soft")] -= fat
    if name == "random":
        means = generator.uniform(0.05, 1, len(shares))
        means[TISSUES.index("bone")] *= 0.2
    else:
        means = np.asarray(WEIGHTINGS[name]) * np.exp(generator.normal(0, 0.13, len(shares)))
    if generator.random() < 0.35:
        means[-1] *= generator.uniform(0.05, 0.4)  # fat suppression
    detail = generator.normal(0, 0.8, len(shares))
    image = np.zeros_like(signal)
    for share, mean, gain in zip(shares, means, detail, strict=True):
        total = float(share.sum())
        if total <= 0:
            continue
        usual = float((share * signal).sum()) / total
        # mean + gain * (signal - usual), written with one product less
        image += share * (np.float32(mean - gain * mean * usual) + np.float32(gain * mean) * signal)
    return np.maximum(image, 0)
