"""Samples for the head `tissue`: heads painted from label maps in any contrast, as any scanner measured them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recond_models.training.fields import smooth_field
from recond_models.training.heads import painting
from recond_models.training.heads.acquisition import acquire, scaled
from recond_models.training.heads.label_maps import CLASSES, LabelMap, class_of_structures
from recond_models.training.heads.samples import IGNORED, Sample
from recond_models.training.heads.slabs import Slab, draw_slab
from recond_models.training.heads.stack import Stack

_REAL_SHARE = 0.06
_BANK_SHARE = 0.15
_SEVERITY = 2.0
_EDGE_SHARE = 0.08


@dataclass(frozen=True, slots=True)
class Variety:
    """What samples are like.

    Parameters
    ----------
    weightings
        How often painted samples have each of `recond_models.training.contrast.WEIGHTINGS`; the others have any contrast.
    severity
        How bad the worst scans are, 0 to 1.
    lesions
        Share of samples with lesions.
    """

    weightings: tuple[float, ...] = (0.28, 0.15, 0.15, 0.1, 0.07)
    severity: float = 1.0
    lesions: float = 0.15


EASY = Variety(weightings=(1.0, 0.0, 0.0, 0.0, 0.0), severity=0.3, lesions=0.0)
"""Good T1-weighted scans."""


class TissueSamples:
    """Samples for the head `tissue`.

    Parameters
    ----------
    maps
        Heads to cut slices from, those with a measured image included.
    size
        Rows and columns of a sample.
    variety
        What the samples are like.
    bank
        Stacks that recond has reconstructed, at least as large as a sample; part of the samples are cut from these.
    """

    classes = len(CLASSES)

    def __init__(
        self,
        maps: list[LabelMap],
        size: tuple[int, int],
        variety: Variety | None = None,
        bank: Sequence[Stack] = (),
    ) -> None:
        self._painted = [head for head in maps if head.signal is None]
        self._measured = [head for head in maps if head.signal is not None]
        if not self._painted:
            raise ValueError("there must be a label map without a measured image to paint from")
        self._size = size
        self._variety = variety or Variety()
        self._bank = bank
        self._classes = class_of_structures()

    def draw(self, generator: np.random.Generator) -> Sample:
        """Return a sample."""
        if self._bank and generator.random() < _BANK_SHARE:
            return _turned(generator, self._reconstructed(generator))
        variety = self._variety
        severity = variety.severity * float(generator.random()) ** _SEVERITY
        slab = draw_slab(generator, self._size)
        if self._measured and generator.random() < _REAL_SHARE:
            head = self._measured[int(generator.integers(len(self._measured)))]
            labels = head.at(slab.points)
            slices = slab.averaged(_curved(generator, head.signal_at(slab.points)))
            classes = slab.middle(labels)
        else:
            head = self._painted[int(generator.integers(len(self._painted)))]
            labels = head.at(slab.points)
            palette = painting.draw_palette(generator, painting.draw_weighting(generator, variety.weightings), severity)
            slices = painting.paint(generator, palette, slab, labels)
            classes = self._classes[slab.middle(labels)]
        target = _majority(classes)
        if generator.random() < variety.lesions:
            slices = add_blobs(generator, slices, target, slab)
        if generator.random() < _EDGE_SHARE:
            slices = _at_an_end(generator, slices)
        return _turned(generator, Sample(acquire(generator, slices, severity), target))

    def _reconstructed(self, generator: np.random.Generator) -> Sample:
        """Cut a sample out of a stack of the bank."""
        stack = self._bank[int(generator.integers(len(self._bank)))]
        row, column = (
            int(generator.integers(whole - side + 1))
            for whole, side in zip(stack.target.shape, self._size, strict=True)
        )
        place = (slice(row, row + self._size[0]), slice(column, column + self._size[1]))
        return Sample(scaled(generator, stack.slices[:, *place]), stack.target[place])


def add_blobs(
    generator: np.random.Generator, slices: NDArray[np.float32], target: NDArray[np.uint8], slab: Slab
) -> NDArray[np.float32]:
    """Put ellipsoids of another brightness into a brain, as lesions are; tissue stays what it was."""
    inside = np.argwhere((target > 0) & (target < IGNORED))
    if not len(inside):
        return slices
    slices = slices.copy()
    rows, columns = slab.size
    top = float(slices.max())
    heights = (np.arange(len(slices)) - len(slices) // 2) * slab.step
    for _ in range(int(generator.integers(1, 6))):
        radii = np.exp(generator.uniform(np.log(1.5), np.log(16), 1)) * np.exp(generator.normal(0, 0.25, 3))
        row, column = inside[int(generator.integers(len(inside)))]
        height = generator.uniform(-1, 1) * (radii[0] + slab.step)
        wobble = smooth_field(generator, slab.size, 12)[0] * np.float32(0.25)
        distance = ((np.arange(rows)[:, None] - row) / radii[1]) ** 2 + ((np.arange(columns) - column) / radii[2]) ** 2
        value = np.float32(top * generator.uniform(0, 1.1))
        strength = np.float32(generator.uniform(0.3, 1))
        for number, above in enumerate(heights):
            depth = 1 - np.sqrt(distance + ((above - height) / radii[0]) ** 2) + wobble
            share = strength * np.clip(depth * np.float32(radii.min()) + 0.5, 0, 1).astype(np.float32)
            slices[number] += share * (value - slices[number])
    return slices


def _majority(classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the class that most of the thin slices (thin, rows, columns) show."""
    if len(classes) == 1:
        only: NDArray[np.uint8] = classes[0].copy()
        return only
    best: NDArray[np.uint8] = classes[len(classes) // 2].copy()
    most = (classes == best).sum(axis=0, dtype=np.uint8)
    for other in classes:
        count = (classes == other).sum(axis=0, dtype=np.uint8)
        better = count > most
        best[better], most[better] = other[better], count[better]
    return best


def _curved(generator: np.random.Generator, signal: NDArray[np.float32]) -> NDArray[np.float32]:
    """Send a measured image through a rising curve, or seldom through a falling one."""
    kind = generator.random()
    if kind < 0.5:
        return signal
    points = np.linspace(0, 1.5, 8)
    values = np.sort(generator.uniform(0, 1, 8))
    values[0] = 0
    if kind > 0.8:
        values[1:] = values[:0:-1]
    curved: NDArray[np.float32] = np.interp(signal, points, values).astype(np.float32)
    return curved


def _at_an_end(generator: np.random.Generator, slices: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return slices at an end of a volume, where the last one repeats."""
    middle = len(slices) // 2
    last = middle + int(generator.integers(middle))
    repeated = slices[np.minimum(np.arange(len(slices)), last)]
    return repeated[::-1] if generator.random() < 0.5 else repeated


def _turned(generator: np.random.Generator, sample: Sample) -> Sample:
    """Turn and flip a sample: any direction of slices, rows and columns is as good as another."""
    image, target = sample.image, sample.target
    square = image.shape[1] == image.shape[2]
    turns = int(generator.integers(4)) if square else 2 * int(generator.integers(2))
    image, target = np.rot90(image, turns, axes=(1, 2)), np.rot90(target, turns)
    if generator.random() < 0.5:
        image, target = image[:, ::-1], target[::-1]
    if generator.random() < 0.5:
        image = image[::-1]
    return Sample(np.ascontiguousarray(image), np.ascontiguousarray(target))
