"""Stacks: images that share orientation, slab, encoding and size, so that one affine holds for all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recond_service.types import FindingList, FinishedImage, Frame, FrameIndex, Geometry

_SAME_DIRECTION = 0.02  # of a unit vector, about 1 degree: scans that follow the motion of a head turn by less
_EXACT = 1e-3
_GAP = 1.5  # times the usual distance of neighbours, from which a gap parts two stacks
_PLANES = ("sagittal", "coronal", "axial")  # by the axis of patient coordinates that the normal is nearest to


@dataclass(frozen=True, slots=True)
class Stack:
    """Images of one orientation, slab, encoding and size.

    Parameters
    ----------
    number
        Its place among the stacks of the series.
    name
        ``"axial"``, ``"sagittal"``, ``"coronal"``, with a number where there are several; ``"slab1"``, ... for those that differ in
        their position alone; ``"stack1"``, ... without geometry.
    images
        In the order of the output: slices by position within contrast, phase, repetition and set.
    slices
        Number of slices of each volume, if all volumes have the same slices; else 0.
    repetition_time
        TR in ms, None where it is not known.
    """

    number: int
    name: str
    images: tuple[FinishedImage, ...]
    slices: int
    repetition_time: float | None = None

    @property
    def volumes(self) -> int:
        """Number of volumes; 1 where the images do not make equal volumes."""
        return len(self.images) // self.slices if self.slices else 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """(images, rows, columns)."""
        rows, columns = self.images[0].pixels.shape
        return len(self.images), rows, columns

    def pixels(self) -> NDArray[np.float32]:
        """Return the pixels as one new array, float32 (images, rows, columns)."""
        return np.stack([image.pixels for image in self.images])

    @property
    def time_step(self) -> float:
        """Seconds between the volumes: TR where they are repetitions; 0 where that is not known."""
        repetitions = [image.index.repetition for image in self.images[:: self.slices or 1]]
        others = {replace(image.index, slice=0, repetition=0) for image in self.images}
        if self.repetition_time is None or len(repetitions) < 2 or len(others) > 1:
            return 0.0
        steps = set(np.diff(repetitions).tolist())
        return self.repetition_time / 1000 * steps.pop() if len(steps) == 1 else 0.0


@dataclass(frozen=True, slots=True)
class Series:
    """All images of a request in their place.

    Parameters
    ----------
    stacks
        In the order in which they were begun.
    """

    stacks: tuple[Stack, ...]

    @property
    def images(self) -> tuple[FinishedImage, ...]:
        """All images, stack after stack."""
        return tuple(image for stack in self.stacks for image in stack.images)

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """(images, rows, columns) of all images; None where they have several sizes."""
        sizes = {stack.shape[1:] for stack in self.stacks}
        if len(sizes) > 1:
            return None
        rows, columns = next(iter(sizes))
        return sum(len(stack.images) for stack in self.stacks), rows, columns

    def named(self, name: str) -> Series | None:
        """Return the series of one stack, or None if there is none of that name."""
        chosen = tuple(stack for stack in self.stacks if stack.name == name)
        return Series(chosen) if chosen else None


@dataclass(frozen=True, slots=True)
class _Kind:
    """What the images of a stack share.

    Parameters
    ----------
    directions
        (3, 3) unit vectors of rows, columns and normal; None where the images have no geometry.
    slab
        Which slab of a 3-D scan, as (slice, place) of its frames; None for 2-D slices.
    encoding, shape, spacing
        Number of the encoding; (rows, columns); pixel sizes and thickness, mm.
    """

    directions: NDArray[np.float64] | None
    slab: tuple[int, int] | None
    encoding: int
    shape: tuple[int, ...]
    spacing: tuple[float, ...]

    def matches(self, other: _Kind) -> bool:
        """Tell whether images of both kinds belong to one stack."""
        if (self.slab, self.encoding, self.shape) != (other.slab, other.encoding, other.shape):
            return False
        if self.directions is None or other.directions is None:
            return self.directions is other.directions
        return (
            bool(np.abs(self.directions - other.directions).max() <= _SAME_DIRECTION) and self.spacing == other.spacing
        )


class StackNumbers:
    """Numbers stacks in the order in which they are begun, as long as not all images are there."""

    def __init__(self) -> None:
        self._kinds: list[_Kind] = []

    def of(self, index: FrameIndex, geometry: Geometry | None, shape: tuple[int, ...], frame: Frame | None) -> int:
        """Return the number of the stack of an image.

        Parameters
        ----------
        index, geometry, shape
            Counters, geometry, rows and columns of the image.
        frame
            Where it came from, or the last frame that it was put together from; None for an image of a file.
        """
        directions = (
            None
            if geometry is None
            else np.array([geometry.row_direction, geometry.column_direction, geometry.slice_direction])
        )
        slab = None if frame is None or frame.crossing is None else (frame.index.slice, frame.index.place)
        kind = _Kind(directions, slab, index.encoding, tuple(shape), () if geometry is None else geometry.spacing)
        for number, known in enumerate(self._kinds):
            if known.matches(kind):
                return number
        self._kinds.append(kind)
        return len(self._kinds) - 1

    def is_slab(self, number: int) -> bool:
        """Tell whether a stack is a slab of a 3-D scan."""
        return self._kinds[number].slab is not None


def make_series(
    images: Sequence[FinishedImage],
    numbers: StackNumbers,
    repetition_time: float | None,
    findings: FindingList,
) -> Series:
    """Put all images of a request in their place.

    Stacks follow one another in the order of their first image. 2-D slices with a gap in between become two stacks, which no single
    affine could describe.

    Parameters
    ----------
    images
        At least one, with the numbers of their stacks.
    numbers
        What numbered them.
    repetition_time
        TR in ms, None where it is not known.
    findings
        Gets ``"several-stacks"``.
    """
    groups: dict[int, list[FinishedImage]] = {}
    for image in sorted(images, key=lambda image: image.number):
        groups.setdefault(image.stack, []).append(image)
    parts: list[list[FinishedImage]] = []
    for number in sorted(groups):
        parts += [groups[number]] if numbers.is_slab(number) else _parted(groups[number])
    names = _names(parts)
    if any(_turns(part) for part in parts):
        findings.warn(
            "orientation-varies",
            "The orientation of the images of a stack varies by up to a degree: files claim that of its first image for all.",
        )
    stacks = []
    for number, (part, name) in enumerate(zip(parts, names, strict=True)):
        ordered, slices = _sorted(part)
        placed = tuple(replace(image, stack=number) for image in ordered)
        stacks.append(Stack(number, name, placed, slices, repetition_time))
    if len(stacks) > 1:
        findings.info(
            "several-stacks",
            f"The images make {len(stacks)} stacks of one orientation, slab and size each: {', '.join(names[:20])}.",
        )
    return Series(tuple(stacks))


def _turns(images: Sequence[FinishedImage]) -> bool:
    """Tell whether the directions of the images of a stack differ by more than rounding."""
    directions = [
        (image.geometry.row_direction, image.geometry.column_direction, image.geometry.slice_direction)
        for image in images
        if image.geometry is not None
    ]
    return bool(directions) and bool(np.ptp(np.array(directions), axis=0).max() > _EXACT)


def _sorted(images: Sequence[FinishedImage]) -> tuple[list[FinishedImage], int]:
    """Return the images of a stack in order, and the number of slices of each volume, 0 if volumes differ.

    Slices of an interleaved scan are numbered in the order of their excitation, so that the position along the slice normal
    decides; the slice counter does where an image has no geometry, or positions are equal.
    """

    def place(image: FinishedImage) -> tuple[float, int, int]:
        # Rounded to a micrometre: positions are float32, and slices at one place are told apart by their number.
        return round(_along(image, images[0]), 3), image.index.slice, image.number

    ordered = sorted(images, key=lambda image: (volume_key(image.index), place(image)))
    groups: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for image in ordered:
        groups.setdefault(volume_key(image.index), []).append((image.index.slice, image.index.place))
    same = len({tuple(slices) for slices in groups.values()}) == 1
    return ordered, len(next(iter(groups.values()))) if same else 0


def volume_key(index: FrameIndex) -> tuple[int, int, int, int, int]:
    """Return what tells the volumes of a stack apart."""
    return index.encoding, index.contrast, index.phase, index.repetition, index.set


def _along(image: FinishedImage, first: FinishedImage) -> float:
    """Return where an image lies along the normal of the first one, mm; 0 without geometry."""
    if image.geometry is None or first.geometry is None:
        return 0.0
    return float(np.dot(image.geometry.position, first.geometry.slice_direction))


def _parted(images: list[FinishedImage]) -> list[list[FinishedImage]]:
    """Return the images of a stack of 2-D slices in parts, cut where a gap is clearly wider than the distance of neighbours."""
    where = np.array([round(_along(image, images[0]), 2) for image in images])
    places = np.unique(where)
    distances = np.diff(places)
    if len(places) < 4:
        return [images]
    usual = float(np.median(distances))
    cuts = places[:-1][distances > _GAP * usual] + usual / 2
    parts = np.searchsorted(cuts, where)
    counts = [len(np.unique(where[parts == part])) for part in range(len(cuts) + 1)]
    if min(counts) < 2:  # a slice on its own is one that is missing next to it, not a slab
        return [images]
    first = sorted(range(len(cuts) + 1), key=lambda part: int(np.argmax(parts == part)))
    return [[image for image, part in zip(images, parts, strict=True) if part == wanted] for wanted in first]


def _names(parts: Sequence[Sequence[FinishedImage]]) -> list[str]:
    """Return the names of stacks: by their plane, numbered where there are several; slabs where all have one orientation."""
    planes = [_plane(part[0]) for part in parts]
    if len(parts) > 1 and len(set(planes)) == 1 and planes[0] != "stack" and _parallel(parts):
        planes = ["slab"] * len(parts)
    total, seen = Counter(planes), Counter[str]()
    names = []
    for plane in planes:
        seen[plane] += 1
        alone = total[plane] == 1 and plane not in {"slab", "stack"}
        names.append(plane if alone else f"{plane}{seen[plane]}")
    return names


def _plane(image: FinishedImage) -> str:
    return "stack" if image.geometry is None else plane_of(image.geometry)


def plane_of(geometry: Geometry) -> str:
    """Return ``"axial"``, ``"coronal"`` or ``"sagittal"``, whichever an image is nearest to."""
    return _PLANES[int(np.argmax(np.abs(geometry.slice_direction)))]


def _parallel(parts: Sequence[Sequence[FinishedImage]]) -> bool:
    """Tell whether stacks have one orientation, size and pixel size: then only their position differs."""
    kinds = []
    for part in parts:
        geometry = part[0].geometry
        if geometry is None:
            return False
        kinds.append((np.array(geometry.slice_direction), part[0].pixels.shape, geometry.spacing))
    normal, shape, spacing = kinds[0]
    return all(
        bool(np.abs(other - normal).max() <= _SAME_DIRECTION) and (size, pixel) == (shape, spacing)
        for other, size, pixel in kinds
    )
