"""Samples for the head `tissue`: heads painted from label maps in any contrast, as any scanner measured them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from recond_models.training.fields import smooth_field
from recond_models.training.heads import painting
from recond_models.training.heads.acquisition import acquire, scaled
from recond_models.training.heads.samples import IGNORED, Sample
from recond_models.training.heads.slabs import Slab, draw_slab
from recond_models.training.heads.stack import Stack
from recond_models.training.labels import STRUCTURES
from recond_models.training.prepare import normalise
from recond_models.training.volumes import SOURCES, Volume, VolumesNotFoundError, is_saved

CLASSES = (
    "background",
    "cerebrospinal fluid",
    "grey matter",
    "white matter",
    "deep grey nuclei",
    "cerebellar grey matter",
    "cerebellar white matter",
    "brain stem",
)
"""Classes of the network."""

OUTPUT = (
    "background",
    "cerebrospinal fluid",
    "grey matter",
    "white matter",
    "deep grey nuclei",
    "cerebellum",
    "brain stem",
)
"""Classes of the head."""

MERGED = (0, 1, 2, 3, 4, 5, 5, 6)
"""For each of `CLASSES` its place in `OUTPUT`."""

HELD_OUT = ("heads_training_seg_09", "heads_training_seg_16", "heads_training_seg_17")
"""Label maps that nothing is trained on."""

_MEMBERS = (
    (),
    (*painting.FLUID, 30, 31, 62, 63, 136, 137, 163, 164),
    painting.CORTEX,
    (2, 25, 41, 57, 77, 85, 251, 252, 253, 254, 255),
    (28, 60, 80, *painting.NUCLEI),
    painting.CEREBELLAR_GREY,
    painting.CEREBELLAR_WHITE,
    painting.STEM,
)
"""FreeSurfer's labels of each class. Deep grey nuclei include the hippocampus, the amygdala and the ventral diencephalon."""

_REAL_SHARE = 0.06
_BANK_SHARE = 0.15
_SEVERITY = 2.0
_EDGE_SHARE = 0.08
_SURFACE_FLUID_VOXELS = 6


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

    weightings: tuple[float, ...] = (0.2, 0.12, 0.12, 0.1, 0.06)
    severity: float = 1.0
    lesions: float = 0.15


EASY = Variety(weightings=(1.0, 0.0, 0.0, 0.0, 0.0), severity=0.3, lesions=0.0)
"""Good T1-weighted scans."""


@dataclass(frozen=True, slots=True)
class LabelMap:
    """The structures of a head.

    Parameters
    ----------
    structures
        uint8 (x, y, z), running to the right, front and top: places in `STRUCTURES`, or classes where `signal` is given.
    centre
        Voxel in the middle of the brain.
    spacing
        Edges of a voxel, mm.
    signal
        float32 (x, y, z), 0 to 1.5: a measured image of the same head; None if there is none.
    """

    structures: NDArray[np.uint8]
    centre: tuple[float, float, float]
    spacing: tuple[float, float, float]
    signal: NDArray[np.float32] | None = None

    def at(self, points: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the structures nearest to points (3, ...) in mm from the middle of the brain; 0 outside."""
        flat: NDArray[np.int32] | None = None
        inside: NDArray[np.bool_] | None = None
        for coordinate, size in enumerate(self.structures.shape):
            place = points[coordinate] * np.float32(1 / self.spacing[coordinate])
            place += np.float32(self.centre[coordinate] + 0.5)
            within = (place >= 0) & (place < size)
            number = place.astype(np.int32)
            if flat is None or inside is None:
                flat, inside = number, within
            else:
                flat *= size
                flat += number
                inside &= within
        assert flat is not None  # noqa: S101  (there are three coordinates)
        assert inside is not None  # noqa: S101
        flat *= inside
        found: NDArray[np.uint8] = self.structures.reshape(-1)[flat]
        found *= inside
        return found

    def signal_at(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the measured image at points in mm from the middle of the brain, linearly interpolated."""
        assert self.signal is not None  # noqa: S101
        places = [
            points[coordinate] / np.float32(self.spacing[coordinate]) + np.float32(self.centre[coordinate])
            for coordinate in range(3)
        ]
        found: NDArray[np.float32] = ndimage.map_coordinates(self.signal, places, order=1, output=np.float32)
        return found


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


def class_of_structures() -> NDArray[np.uint8]:
    """Return the class of each of `STRUCTURES`, uint8."""
    table = np.zeros(len(STRUCTURES), dtype=np.uint8)
    for number, members in enumerate(_MEMBERS):
        for member in members:
            if member in STRUCTURES:
                table[STRUCTURES.index(member)] = number
    return table


def load_maps(folder: Path, *, held_out: bool) -> list[LabelMap]:
    """Return the label maps in a folder of training volumes.

    Parameters
    ----------
    folder
        Where `make training-data` put them.
    held_out
        Those of `HELD_OUT`, or all others.

    Raises
    ------
    VolumesNotFoundError
        There is none.
    """
    wanted = [source for source in SOURCES if source.layout == "labels" and (source.name in HELD_OUT) == held_out]
    volumes = [Volume.load(folder, source) for source in wanted if is_saved(folder, source)]
    if not volumes:
        raise VolumesNotFoundError(
            f"no label maps ({wanted[0].name} ...) in {folder}: `make training-data` with a collection that holds them makes them"
        )
    return [LabelMap(np.ascontiguousarray(volume.voxels), volume.centre, volume.spacing) for volume in volumes]


def load_measured(collection: Path) -> list[LabelMap]:
    """Return the measured head with FreeSurfer's labels of a folder of collected images and labels, if it is there.

    Outside the brain nothing is labelled in it, not even the fluid around the brain: pixels near the brain do not count.
    """
    image, labels = collection / "images" / "fs001_orig.nii.gz", collection / "labels" / "fs001_aparc+aseg.nii.gz"
    if not (image.exists() and labels.exists()):
        return []
    grids = [
        nibabel.funcs.as_closest_canonical(nibabel.nifti1.Nifti1Image.from_filename(path))  # type: ignore[no-untyped-call]
        for path in (image, labels)
    ]
    numbers = np.asarray(grids[1].dataobj).astype(np.int64)
    numbers[numbers >= 2000] = 42
    numbers[numbers >= 1000] = 3
    table = np.zeros(int(numbers.max()) + 1, dtype=np.uint8)
    for number, members in enumerate(_MEMBERS):
        table[[member for member in members if member < len(table)]] = number
    classes = table[numbers]
    near = ndimage.binary_dilation(classes > 0, iterations=_SURFACE_FLUID_VOXELS)
    classes[near & (classes == 0)] = IGNORED
    signal = normalise(np.asarray(grids[0].dataobj, dtype=np.float32))
    (box,) = ndimage.find_objects((signal > 0.05).astype(np.uint8))
    centre = np.array(ndimage.center_of_mass(np.isin(numbers, (2, 41)))) - [side.start for side in box]
    spacing = np.linalg.norm(grids[0].affine[:3, :3], axis=0)
    x, y, z = (float(value) for value in centre)
    dx, dy, dz = (float(value) for value in spacing)
    return [LabelMap(np.ascontiguousarray(classes[box]), (x, y, z), (dx, dy, dz), np.ascontiguousarray(signal[box]))]


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
        return classes[0].copy()
    best = classes[len(classes) // 2].copy()
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
    return np.interp(signal, points, values).astype(np.float32)


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
