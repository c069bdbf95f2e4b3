"""3-D scans: from images of planes that cross the readout to slices along the partition."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from recond_service.types import FinishedImage, Frame, FrameIndex, Geometry


@dataclass(slots=True)
class _Volume:
    """A 3-D scan of which planes are still to come.

    Parameters
    ----------
    first_number
        Number of its first slice among the images of the request.
    pixels
        float32 (partitions, readout, phase encode).
    missing
        Readout positions that have not come.
    """

    first_number: int
    pixels: NDArray[np.float32]
    missing: set[int] = field(default_factory=set)


class Assembly:
    """Numbers images in the order of their frames, and puts the planes of 3-D scans together.

    The frames of a 3-D scan are transformed along the readout already: each image shows one readout position, rows = phase encode,
    columns = partition. The finished images are the other way round: slices along the partition, rows = readout, columns = phase
    encode, as in every other scan.
    """

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._volumes: dict[FrameIndex, _Volume] = {}
        self._next = 0

    def announce(self, number: int, frame: Frame) -> None:
        """Give the images of a frame their numbers.

        Parameters
        ----------
        number
            Number of the frame; frames are announced in their order.
        frame
            Its k-space is not looked at.
        """
        if frame.crossing is None:
            self._numbers[number] = self._next
            self._next += 1
        elif frame.index not in self._volumes:
            rows, partitions = frame.image_shape
            pixels = np.zeros((partitions, frame.crossing.count, rows), np.float32)
            self._volumes[frame.index] = _Volume(self._next, pixels, set(range(frame.crossing.count)))
            self._next += partitions

    def add(self, number: int, frame: Frame, pixels: NDArray[np.float32]) -> list[FinishedImage]:
        """Take the finished image of a frame; return the images that are complete with it.

        Parameters
        ----------
        number
            Number of the frame; it was announced, and is added once.
        frame
            Where the image came from.
        pixels
            float32 of its `image_shape`.
        """
        if frame.crossing is None:
            return [FinishedImage(self._numbers.pop(number), frame.index, pixels, frame.geometry)]
        volume = self._volumes[frame.index]
        volume.pixels[:, frame.crossing.number] = pixels.T
        volume.missing.discard(frame.crossing.number)
        return [] if volume.missing else self._slices(self._volumes.pop(frame.index), frame)

    @staticmethod
    def _slices(volume: _Volume, frame: Frame) -> list[FinishedImage]:
        count = len(volume.pixels)
        return [
            FinishedImage(
                volume.first_number + number,
                replace(frame.index, slice=frame.index.slice * count + number),
                volume.pixels[number],
                None if frame.geometry is None else slice_geometry(frame.geometry, number, count),
            )
            for number in range(count)
        ]


def slice_geometry(volume: Geometry, number: int, count: int) -> Geometry:
    """Return the geometry of slice `number` of the `count` slices of a volume, whose position lies on slice ``count // 2``."""
    offset = (number - count // 2) * volume.spacing[2]
    x, y, z = (float(value) for value in np.array(volume.position) + offset * np.array(volume.slice_direction))
    return replace(volume, position=(x, y, z))
