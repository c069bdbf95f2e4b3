"""Readouts on their way to the service while the scan runs. No network here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recond.v1 import reconstruction_pb2 as pb
from recond_client.errors import InputError

if TYPE_CHECKING:
    import ismrmrd

HEADER_BYTES: Final = 340
#: gRPC refuses messages over 4 MB; what is left is for the framing.
MAX_BATCH_BYTES: Final = 4_000_000

#: The fields of an ISMRMRD acquisition header that say how much data follow it.
_SIZES: Final = np.dtype(
    {
        "names": ["number_of_samples", "active_channels", "trajectory_dimensions"],
        "formats": ["<u2", "<u2", "<u2"],
        "offsets": [34, 38, 176],
        "itemsize": HEADER_BYTES,
    }
)


class EncodedRequest(NamedTuple):
    """A `ReconstructRequest` as it goes over the wire.

    Parameters
    ----------
    data
        The message, serialised.
    sample_bytes
        Bytes of samples in it.
    """

    data: bytes
    sample_bytes: int


@dataclass(frozen=True, slots=True)
class AcquisitionBatch:
    """Consecutive acquisitions, in the order in which they were measured.

    Parameters
    ----------
    headers
        ISMRMRD acquisition headers, 340 bytes each, packed; or an array with 340 bytes per item.
    samples
        The samples one after another: complex64, (active channels, samples) each; as an array, or as bytes or a view of them.
    trajectories
        The trajectories one after another: float32, (samples, trajectory dimensions) each; likewise.

    Raises
    ------
    InputError
        If the headers are not whole, do not match the data that go with them, or the batch is over 4 MB.
    """

    headers: bytes | memoryview | NDArray[np.void]
    samples: bytes | memoryview | NDArray[np.complex64]
    trajectories: bytes | memoryview | NDArray[np.float32] = b""

    def __post_init__(self) -> None:
        headers = _bytes_of(self.headers, None, "headers")
        samples = _bytes_of(self.samples, "<c8", "samples")
        trajectories = _bytes_of(self.trajectories, "<f4", "trajectories")
        for name, value in (("headers", headers), ("samples", samples), ("trajectories", trajectories)):
            object.__setattr__(self, name, value)
        if not headers or len(headers) % HEADER_BYTES:
            msg = f"headers have {len(headers)} bytes, which is not a whole number of {HEADER_BYTES}-byte headers"
            raise InputError(msg, reason="BAD_ACQUISITIONS", field="headers")
        sizes = np.frombuffer(headers, dtype=_SIZES)
        counts = sizes["number_of_samples"].astype(np.int64)
        for name, value, expected in (
            ("samples", samples, 8 * int(counts @ sizes["active_channels"].astype(np.int64))),
            ("trajectories", trajectories, 4 * int(counts @ sizes["trajectory_dimensions"].astype(np.int64))),
        ):
            if len(value) != expected:
                msg = f"{name} have {len(value)} bytes, but the headers announce {expected}"
                raise InputError(msg, reason="BAD_ACQUISITIONS", field=name)
        if self.size > MAX_BATCH_BYTES:
            msg = f"a batch of {self.size} bytes is over the {MAX_BATCH_BYTES} that a message can hold: send fewer at once"
            raise InputError(msg, reason="BATCH_TOO_LARGE", field="acquisitions")

    @property
    def count(self) -> int:
        """Number of acquisitions."""
        return len(self.headers) // HEADER_BYTES

    @property
    def size(self) -> int:
        """Size in bytes."""
        return len(self.headers) + len(self.samples) + len(self.trajectories)

    def encoded(self) -> EncodedRequest:
        """Return the message that carries the batch as it goes over the wire.

        The samples are copied once, where building the message, serialising it and handing it over copies them four times.
        """
        parts: list[bytes | memoryview] = [b"\x08", _varint(self.count)]
        for tag, value in ((b"\x12", self.headers), (b"\x1a", self.trajectories), (b"\x22", self.samples)):
            if len(value):
                parts += [tag, _varint(len(value)), value]  # type: ignore[list-item] # bytes or views since __post_init__
        size = sum(map(len, parts))
        return EncodedRequest(b"".join((b"\x22", _varint(size), *parts)), len(self.samples))

    def to_wire(self) -> pb.ReconstructRequest:
        """Return the message that carries the batch."""
        return pb.ReconstructRequest(
            acquisitions=pb.AcquisitionBatch(
                count=self.count,
                headers=bytes(self.headers),
                trajectories=bytes(self.trajectories),
                samples=bytes(self.samples),
            )
        )


def _bytes_of(value: bytes | memoryview | NDArray[np.generic], dtype: str | None, name: str) -> bytes | memoryview:
    """Return the bytes of a field; arrays of numbers must have the type of the wire already."""
    if isinstance(value, np.ndarray):
        if dtype is None and value.dtype.itemsize != HEADER_BYTES and value.dtype != np.uint8:
            msg = (
                f"headers have items of {value.dtype.itemsize} bytes; an ISMRMRD acquisition header has {HEADER_BYTES}"
            )
            raise InputError(msg, reason="BAD_ACQUISITIONS", field=name)
        if dtype is not None and value.dtype != np.dtype(dtype):
            msg = f"{name} have type {value.dtype}; give {np.dtype(dtype)}"
            raise InputError(msg, reason="WRONG_TYPE", field=name)
        return value.tobytes()
    if isinstance(value, memoryview) and value.contiguous:
        return value.cast("B")
    return bytes(value)


def _varint(value: int) -> bytes:
    """Return a number as protobuf writes it: seven bits in a byte, the lowest first."""
    pieces = bytearray()
    while value > 0x7F:
        pieces.append(value & 0x7F | 0x80)
        value >>= 7
    pieces.append(value)
    return bytes(pieces)


def batches_of(
    acquisitions: Iterable[ismrmrd.Acquisition], *, count: int = 32, max_bytes: int = 1 << 20
) -> Iterator[AcquisitionBatch]:
    """Gather acquisitions into batches.

    A batch is yielded when it is full, so an iterable that waits for the scanner holds back at most ``count - 1``
    acquisitions; ``count=1`` holds back none.

    Parameters
    ----------
    acquisitions
        `ismrmrd.Acquisition` objects in the order in which they were measured.
    count
        Most acquisitions in a batch.
    max_bytes
        Size in bytes above which a batch is not filled further.

    Raises
    ------
    InputError
        If an acquisition alone is over 4 MB.
    """
    headers: list[bytes] = []
    samples: list[bytes] = []
    trajectories: list[bytes] = []
    size = 0
    for acquisition in acquisitions:
        data = np.ascontiguousarray(acquisition.data, dtype="<c8").tobytes()
        trajectory = np.ascontiguousarray(acquisition.traj, dtype="<f4").tobytes()
        added = HEADER_BYTES + len(data) + len(trajectory)
        if headers and size + added > min(max_bytes, MAX_BATCH_BYTES):
            yield AcquisitionBatch(b"".join(headers), b"".join(samples), b"".join(trajectories))
            headers, samples, trajectories, size = [], [], [], 0
        headers.append(bytes(acquisition.getHead()))
        samples.append(data)
        trajectories.append(trajectory)
        size += added
        if len(headers) >= count or size >= max_bytes:
            yield AcquisitionBatch(b"".join(headers), b"".join(samples), b"".join(trajectories))
            headers, samples, trajectories, size = [], [], [], 0
    if headers:
        yield AcquisitionBatch(b"".join(headers), b"".join(samples), b"".join(trajectories))
