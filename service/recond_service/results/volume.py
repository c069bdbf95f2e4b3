"""Finished images in the order of the output volume: slices by position within contrast, phase, repetition and set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recond_service.types import FinishedImage, FrameIndex


@dataclass(frozen=True, slots=True)
class Volumes:
    """All images of a request, sorted.

    Parameters
    ----------
    images
        In the order of the output.
    slices
        Number of slices of each volume, if all volumes have the same slices; else 0.
    """

    images: tuple[FinishedImage, ...]
    slices: int

    @property
    def count(self) -> int:
        """Number of volumes; 1 where the images do not make equal volumes."""
        return len(self.images) // self.slices if self.slices else 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """(images, rows, columns)."""
        rows, columns = self.images[0].pixels.shape
        return len(self.images), rows, columns

    def stack(self) -> NDArray[np.float32]:
        """Return the pixels as one new array, float32 (images, rows, columns)."""
        return np.stack([image.pixels for image in self.images])


def sort_images(images: Sequence[FinishedImage]) -> Volumes:
    """Sort images by (encoding, contrast, phase, repetition, set), and within these by slice position.

    Slices of an interleaved scan are numbered in the order of their excitation, so that the position along the slice normal
    decides; the slice counter does where an image has no geometry, or positions are equal.

    Parameters
    ----------
    images
        At least one, all of one shape.
    """
    located = all(image.geometry is not None for image in images)

    def place(image: FinishedImage) -> tuple[float, int, int]:
        if not located or image.geometry is None:
            return 0.0, image.index.slice, image.number
        normal = images[0].geometry.slice_direction if images[0].geometry else (0.0, 0.0, 1.0)
        along = float(np.dot(image.geometry.position, normal))
        # Rounded to a micrometre: positions are float32, and slices at one place are told apart by their number.
        return round(along, 3), image.index.slice, image.number

    ordered = sorted(images, key=lambda image: (volume_key(image.index), place(image)))
    groups: dict[tuple[int, ...], list[int]] = {}
    for image in ordered:
        groups.setdefault(volume_key(image.index), []).append(image.index.slice)
    same = len({tuple(slices) for slices in groups.values()}) == 1
    return Volumes(tuple(ordered), len(next(iter(groups.values()))) if same else 0)


def volume_key(index: FrameIndex) -> tuple[int, int, int, int, int]:
    """Return what tells volumes apart."""
    return index.encoding, index.contrast, index.phase, index.repetition, index.set
