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
        float32 or complex64 (partitions, readout, phase encode).
    uncertainty
        float32 of the same shape; None where it is not wanted.
    missing
        Readout positions that have not come.
    """

    first_number: int
    pixels: NDArray[np.float32] | NDArray[np.complex64]
    uncertainty: NDArray[np.float32] | None = None
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

    def announce(self, number: int, frame: Frame) -> int | None:
        """Give the images of a frame their numbers.

        Parameters
        ----------
        number
            Number of the frame; frames are announced in their order.
        frame
            Its k-space is not looked at.

        Returns
        -------
        int or None
            Number of the image that the frame becomes; None for a plane of a 3-D scan.
        """
        if frame.crossing is None:
            self._numbers[number] = self._next
            self._next += 1
            return self._numbers[number]
        if frame.index not in self._volumes:
            rows, partitions = frame.image_shape
            pixels = np.zeros((partitions, frame.crossing.count, rows), np.float32)
            self._volumes[frame.index] = _Volume(self._next, pixels, missing=set(range(frame.crossing.count)))
            self._next += partitions
        return None

    def add(
        self,
        number: int,
        frame: Frame,
        pixels: NDArray[np.float32] | NDArray[np.complex64],
        uncertainty: NDArray[np.float32] | None = None,
    ) -> list[FinishedImage]:
        """Take the finished image of a frame; return the images that are complete with it.

        Parameters
        ----------
        number
            Number of the frame; it was announced, and is added once.
        frame
            Where the image came from.
        pixels
            float32 magnitudes or complex64, of its `image_shape`.
        uncertainty
            float32 of the same shape, standard deviations of the magnitudes; for all frames of a scan or for none.
        """
        if frame.crossing is None:
            return [_finished(self._numbers.pop(number), frame.index, pixels, uncertainty, frame.geometry)]
        volume = self._volumes[frame.index]
        if np.iscomplexobj(pixels) and not np.iscomplexobj(volume.pixels):
            volume.pixels = volume.pixels.astype(np.complex64)
        volume.pixels[:, frame.crossing.number] = pixels.T
        if uncertainty is not None:
            if volume.uncertainty is None:
                volume.uncertainty = np.zeros(volume.pixels.shape, np.float32)
            volume.uncertainty[:, frame.crossing.number] = uncertainty.T
        volume.missing.discard(frame.crossing.number)
        return [] if volume.missing else self._slices(self._volumes.pop(frame.index), frame)

    @staticmethod
    def _slices(volume: _Volume, frame: Frame) -> list[FinishedImage]:
        count = len(volume.pixels)
        return [
            _finished(
                volume.first_number + number,
                replace(frame.index, slice=frame.index.slice * count + number),
                volume.pixels[number],
                None if volume.uncertainty is None else volume.uncertainty[number],
                None if frame.geometry is None else slice_geometry(frame.geometry, number, count),
            )
            for number in range(count)
        ]


def _finished(
    number: int,
    index: FrameIndex,
    pixels: NDArray[np.float32] | NDArray[np.complex64],
    uncertainty: NDArray[np.float32] | None,
    geometry: Geometry | None,
) -> FinishedImage:
    if not np.iscomplexobj(pixels):
        return FinishedImage(number, index, pixels.astype(np.float32, copy=False), geometry, uncertainty=uncertainty)
    whole = np.ascontiguousarray(pixels, np.complex64)
    return FinishedImage(number, index, np.abs(whole), geometry, complex_pixels=whole, uncertainty=uncertainty)


def slice_geometry(volume: Geometry, number: int, count: int) -> Geometry:
    """Return the geometry of slice `number` of the `count` slices of a volume, whose position lies on slice ``count // 2``."""
    offset = (number - count // 2) * volume.spacing[2]
    x, y, z = (float(value) for value in np.array(volume.position) + offset * np.array(volume.slice_direction))
    return replace(volume, position=(x, y, z))
