"""Acquisitions out of the receive buffer, many at once."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recond_gateway.mrd.layouts import ACQUISITION_HEADER
from recond_gateway.mrd.messages import Acquisitions

HEADER_BYTES: Final = 2 + ACQUISITION_HEADER.itemsize
"""The id of the message and the header."""

#: `packing` is the byte of the flags whose upper half is flags 53 to 56.
_FIELDS: Final = {"id": 0, "version": 2, "packing": 10, "samples": 36, "channels": 40, "dimensions": 178}
_SHAPE: Final = struct.Struct("<HH6xB25xH2xH136xH")
_SHAPES: Final = np.dtype(
    {
        "names": list(_FIELDS),
        "formats": ["u1" if name == "packing" else "<u2" for name in _FIELDS],
        "offsets": list(_FIELDS.values()),
        "itemsize": HEADER_BYTES,
    }
)
_COMPRESSED: Final = 0xF0
_PACKED_HEADER: Final = np.dtype(f"V{ACQUISITION_HEADER.itemsize}")


class Shape(NamedTuple):
    """What of an acquisition decides how many bytes it has."""

    id: int
    version: int
    packing: int
    samples: int
    channels: int
    dimensions: int

    @property
    def compressed(self) -> bool:
        """Whether a flag says that the samples are compressed: then nothing tells how many bytes they have."""
        return bool(self.packing & _COMPRESSED)

    @property
    def trajectory_bytes(self) -> int:
        """Bytes of the trajectory."""
        return 4 * self.samples * self.dimensions

    @property
    def sample_bytes(self) -> int:
        """Bytes of the samples of all channels."""
        return 8 * self.samples * self.channels

    @property
    def size(self) -> int:
        """Bytes of the acquisition without the id of the message."""
        return ACQUISITION_HEADER.itemsize + self.trajectory_bytes + self.sample_bytes


SHAPE_BYTES: Final = _SHAPE.size
"""Bytes of a message that must be there before `shape_at` can be asked."""


def shape_at(view: memoryview, start: int) -> Shape:
    """Return the shape of the acquisition whose message begins at `start`."""
    return Shape._make(_SHAPE.unpack_from(view, start))


def run_length(array: NDArray[np.uint8], start: int, shape: Shape, most: int) -> int:
    """Count how many acquisitions of the shape follow one another.

    Parameters
    ----------
    array
        The receive buffer.
    start
        Where the first message, which has this shape, begins.
    shape
        Its shape.
    most
        How many whole messages of that size lie in the buffer, and are wanted.
    """
    if most < 2:
        return most
    if shape_at(array.data, start + shape.size + 2) != shape:
        return 1
    table = np.ndarray((most,), _SHAPES, array.data, start, (shape.size + 2,))
    same = table["id"] == shape.id
    for name in ("version", "packing", "samples", "channels", "dimensions"):
        same &= table[name] == getattr(shape, name)
    return most if same.all() else int(same.argmin())


class Gathering:
    """Gathers runs of acquisitions into one message."""

    def __init__(self) -> None:
        self.size = 0
        self._headers: list[NDArray[np.void]] = []
        self._samples: list[bytes] = []
        self._trajectories: list[bytes] = []

    def add(self, array: NDArray[np.uint8], start: int, shape: Shape, count: int) -> None:
        """Copy `count` acquisitions of one shape, the first of which begins at `start`."""
        stride = shape.size + 2
        packed: NDArray[np.void] = np.ndarray((count,), _PACKED_HEADER, array.data, start + 2, (stride,))
        self._headers.append(packed.copy())
        start += HEADER_BYTES
        if shape.trajectory_bytes:
            self._trajectories.append(_strided(array, start, shape.trajectory_bytes, stride, count))
        if shape.sample_bytes:
            self._samples.append(_strided(array, start + shape.trajectory_bytes, shape.sample_bytes, stride, count))
        self.size += count * shape.size

    def message(self) -> Acquisitions:
        """Return what was gathered, at least one acquisition."""
        headers = self._headers[0] if len(self._headers) == 1 else np.concatenate(self._headers)
        return Acquisitions(headers.view(ACQUISITION_HEADER), b"".join(self._samples), b"".join(self._trajectories))


def _strided(array: NDArray[np.uint8], start: int, size: int, stride: int, count: int) -> bytes:
    """Return `count` pieces of `size` bytes, `stride` bytes apart, one behind the other."""
    if count == 1:
        return array[start : start + size].tobytes()
    pieces: NDArray[np.uint8] = np.ndarray((count, size), np.uint8, array.data, start, (stride, 1))
    return pieces.tobytes()
