"""Slices of a volume with outlines of what was found and of the truth."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

mpl.use("Agg")

from matplotlib import pyplot as plt

_COLUMNS = 6


def picture(
    path: Path, image: NDArray[np.floating], found: NDArray[np.integer], truth: NDArray[np.integer] | None = None
) -> None:
    """Draw six slices: those with most of what was found or is true, and others evenly.

    Parameters
    ----------
    path
        PNG to write.
    image, found, truth
        (slices, rows, columns): found is red, the truth green.
    """
    marked = found > 0 if truth is None else (found > 0) | (truth > 0)
    counts = marked.sum(axis=(1, 2))
    chosen = [int(number) for number in np.argsort(-counts)[:_COLUMNS:2] if counts[number]]
    even = np.linspace(0.2, 0.85, _COLUMNS) * (len(image) - 1)
    chosen = sorted({*chosen, *(int(number) for number in even[: _COLUMNS - len(chosen)])})
    figure, axes = plt.subplots(1, len(chosen), figsize=(3 * len(chosen), 3.4), squeeze=False)
    top = float(np.percentile(image[image > 0], 99.5)) if (image > 0).any() else 1.0
    for axis, number in zip(axes[0], chosen, strict=True):
        axis.imshow(image[number], cmap="gray", vmin=0, vmax=top)
        for mask, colour in ((truth, "lime"), (found, "red")):
            if mask is not None and (mask[number] > 0).any():
                axis.contour(mask[number] > 0, [0.5], colors=colour, linewidths=0.7)
        axis.set_title(f"slice {number}", fontsize=8)
        axis.axis("off")
    figure.tight_layout(pad=0.2)
    figure.savefig(path, dpi=70)
    plt.close(figure)
