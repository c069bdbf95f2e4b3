"""What goes wrong in a scan, simulated where it happens: in k-space."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from recond_models.training.fields import to_images, to_kspace

Grade = Literal[1, 2]
"""Mild, severe."""

Image = NDArray[np.complexfloating]


def bright(image: NDArray[np.inexact]) -> float:
    """Return the magnitude of the bright pixels, the 98th percentile, of (rows, columns)."""
    return float(np.percentile(np.abs(image[::3, ::3]), 98))


def motion(generator: np.random.Generator, image: Image, grade: Grade) -> Image:
    """Let the head move between lines (columns of k-space), by jumps or with each breath; complex64 (rows, columns).

    Jumps turn and shift what later lines see; breath shifts it back and forth, which makes ghosts.
    """
    rows, columns = image.shape
    kspace = to_kspace(image.astype(np.complex64))
    frequency_rows = (np.arange(rows) - rows // 2)[:, None] / rows
    frequency_columns = (np.arange(columns) - columns // 2)[None, :] / columns
    size = {1: generator.uniform(0.008, 0.016), 2: generator.uniform(0.022, 0.06)}[grade] * max(rows, columns)
    if generator.random() < 0.4:
        cycles = generator.uniform(4, 24)
        wave = size * np.sin(2 * np.pi * cycles * np.arange(columns) / columns + generator.uniform(0, 2 * np.pi))
        phase = frequency_columns * wave[None, :] + frequency_rows * (wave * generator.uniform(-1, 1))[None, :]
        return to_images((kspace * np.exp(-2j * np.pi * phase)).astype(np.complex64))
    jumps = np.sort(generator.integers(0, columns, int(generator.integers(1, 4 if grade == 1 else 7))))
    # Away from the middle of k-space there is little to see of a jump.
    jumps[0] = columns // 2 + int(generator.integers(-columns // 12, columns // 12 + 1))
    made = kspace
    for jump in np.sort(jumps):
        angle = float(np.degrees(size / max(rows, columns))) * generator.normal(0, 1.5)
        turned = ndimage.rotate(image.real, angle, reshape=False, order=1) + 1j * ndimage.rotate(
            image.imag, angle, reshape=False, order=1
        )
        shift = generator.normal(0, size, 2)
        later = to_kspace(turned.astype(np.complex64))
        later = later * np.exp(-2j * np.pi * (frequency_rows * shift[0] + frequency_columns * shift[1]))
        made = np.where(np.arange(columns)[None, :] >= jump, later, made)
    return to_images(made.astype(np.complex64))


def wrap(generator: np.random.Generator, image: Image, grade: Grade) -> Image:
    """Make the field of view along the columns too small for the head: what is outside folds in; fewer columns come out."""
    columns = image.shape[1]
    energy = np.abs(image).sum(axis=0)
    inside = np.flatnonzero(energy > 0.05 * energy.max())
    width = int(inside[-1] - inside[0] + 1) if inside.size else columns
    share = {1: generator.uniform(0.85, 0.94), 2: generator.uniform(0.55, 0.8)}[grade]
    kept = max(8, round(width * share))
    start = (
        int(inside[0] if inside.size else 0)
        + (width - kept) // 2
        + int(generator.integers(-width // 12, width // 12 + 1))
    )
    folded = np.zeros((image.shape[0], kept), dtype=np.complex64)
    for column in range(columns):
        folded[:, (column - start) % kept] += image[:, column]
    return folded


def noise(generator: np.random.Generator, image: Image, grade: Grade) -> Image:
    """Add white noise relative to the bright pixels."""
    share = {1: generator.uniform(0.1, 0.16), 2: generator.uniform(0.22, 0.6)}[grade]
    white = np.empty(image.shape, dtype=np.complex64)
    white.real, white.imag = (generator.standard_normal(image.shape, dtype=np.float32) for _ in range(2))
    return (image + np.float32(share * bright(image)) * white).astype(np.complex64)


def spike(generator: np.random.Generator, image: Image, grade: Grade) -> Image:
    """Put far too large samples somewhere in k-space: stripes over the image."""
    kspace = to_kspace(image.astype(np.complex64))
    rows, columns = image.shape
    largest = bright(image) * np.sqrt(image.size)
    for _ in range(1 if grade == 1 else int(generator.integers(1, 4))):
        # Neither so near the middle that it is shading, nor so far out that the picture does not show it.
        radius, angle = generator.uniform(0.05, 0.3), generator.uniform(0, 2 * np.pi)
        row, column = (round(n // 2 + radius * n * f) for n, f in ((rows, np.cos(angle)), (columns, np.sin(angle))))
        share = {1: generator.uniform(0.07, 0.13), 2: generator.uniform(0.2, 0.7)}[grade]
        kspace[row % rows, column % columns] += share * largest * np.exp(1j * generator.uniform(0, 2 * np.pi))
    return to_images(kspace)


def failed_reconstruction(generator: np.random.Generator, image: Image, grade: Grade) -> Image:
    """Reconstruct wrongly: lines left out and filled with zeros, halves swapped, k-space shown as an image, one channel only."""
    kspace = to_kspace(image.astype(np.complex64))
    columns = image.shape[1]
    if grade == 1:
        # Every second line weaker: copies of the head half a field of view away.
        kspace[:, ::2] *= generator.uniform(0.45, 0.75)
        return to_images(kspace)
    kind = int(generator.integers(5))
    if kind <= 1:
        kept = np.zeros(columns, dtype=bool)
        kept[int(generator.integers(3)) :: int(generator.integers(2, 7))] = True
        if kind == 1:
            half = int(generator.integers(1, max(2, columns // 40)))
            kept[columns // 2 - half : columns // 2 + half] = True
        return to_images(np.where(kept[None, :], kspace, 0).astype(np.complex64))
    if kind == 2:
        axes = [(0, 1), (0,), (1,)][int(generator.integers(3))]
        return np.fft.fftshift(image, axes=axes).astype(np.complex64)
    if kind == 3:
        return (np.abs(kspace) ** generator.uniform(0.25, 1)).astype(np.complex64)
    # Transformed along one axis only.
    axis = int(generator.integers(2))
    half_way = np.fft.fftshift(np.fft.fft(image, axis=axis, norm="ortho"), axes=axis)
    return (np.abs(half_way) ** generator.uniform(0.4, 1)).astype(np.complex64)


SIMULATED: dict[str, Callable[[np.random.Generator, Image, Grade], Image]] = {
    "motion": motion,
    "wrap": wrap,
    "noise": noise,
    "spike": spike,
    "failed reconstruction": failed_reconstruction,
}
"""By the names in `recond_models.heads.series_network.ARTEFACTS`."""
