"""What ingest gives to conditioning: a scan whose samples are read when they are wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recond_service.types.frame import FrameIndex
from recond_service.types.header import MrdHeader

_COUNTERS = np.dtype(
    [
        ("kspace_encode_step_1", "<u2"),
        ("kspace_encode_step_2", "<u2"),
        ("average", "<u2"),
        ("slice", "<u2"),
        ("contrast", "<u2"),
        ("phase", "<u2"),
        ("repetition", "<u2"),
        ("set", "<u2"),
        ("segment", "<u2"),
        ("user", "<u2", (8,)),
    ]
)

ACQUISITION_HEADER = np.dtype(
    [
        ("version", "<u2"),
        ("flags", "<u8"),
        ("measurement_uid", "<u4"),
        ("scan_counter", "<u4"),
        ("acquisition_time_stamp", "<u4"),
        ("physiology_time_stamp", "<u4", (3,)),
        ("number_of_samples", "<u2"),
        ("available_channels", "<u2"),
        ("active_channels", "<u2"),
        ("channel_mask", "<u8", (16,)),
        ("discard_pre", "<u2"),
        ("discard_post", "<u2"),
        ("center_sample", "<u2"),
        ("encoding_space_ref", "<u2"),
        ("trajectory_dimensions", "<u2"),
        ("sample_time_us", "<f4"),
        ("position", "<f4", (3,)),
        ("read_dir", "<f4", (3,)),
        ("phase_dir", "<f4", (3,)),
        ("slice_dir", "<f4", (3,)),
        ("patient_table_position", "<f4", (3,)),
        ("idx", _COUNTERS),
        ("user_int", "<i4", (8,)),
        ("user_float", "<f4", (8,)),
    ]
)
"""The packed ISMRMRD acquisition header, 340 bytes, as on the wire."""


@dataclass(frozen=True, slots=True)
class AcquisitionBlock:
    """Consecutive readouts.

    Parameters
    ----------
    headers
        (count,) of `ACQUISITION_HEADER`.
    samples
        complex64 (sum of channels x samples,): the readouts one after another, each (channels, samples) in C order.
    offsets
        int64 (count + 1,): where each readout begins in `samples`.
    place
        How messages name the list that these readouts are part of, such as ``"dataset/data"``.
    """

    headers: NDArray[np.void]
    samples: NDArray[np.complex64]
    offsets: NDArray[np.int64]
    place: str = "acquisitions"

    def __len__(self) -> int:
        return len(self.headers)

    def readout(self, number: int) -> NDArray[np.complex64]:
        """Return readout `number` of this block, a view of (channels, samples)."""
        flat = self.samples[self.offsets[number] : self.offsets[number + 1]]
        header = self.headers[number]
        return flat.reshape(int(header["active_channels"]), int(header["number_of_samples"]))


@dataclass(frozen=True, slots=True)
class AcquisitionSource:
    """A header and its readouts, read again with every call of `blocks`.

    Parameters
    ----------
    header
        The ISMRMRD header.
    count
        Number of readouts.
    blocks
        Opens the source and gives its readouts in blocks of bounded size; closes it at the end, or when the iterator is closed.
    place
        How messages name it, such as ``"dataset"``.
    heads
        Gives all headers in order, in arrays of `ACQUISITION_HEADER`, without the samples; None where headers cannot be had
        without them.
    """

    header: MrdHeader
    count: int
    blocks: Callable[[], Iterator[AcquisitionBlock]]
    place: str = ""
    heads: Callable[[], Iterator[NDArray[np.void]]] | None = None


@dataclass(frozen=True, slots=True)
class RawScan:
    """Readouts as they were measured.

    Parameters
    ----------
    source
        The imaging scan; noise and calibration readouts may be among its readouts.
    noise
        A noise scan that was measured before, or None.
    name
        Name of the file, for messages and for masks that are seeded by it.
    """

    source: AcquisitionSource
    noise: AcquisitionSource | None = None
    name: str = ""


@dataclass(frozen=True, slots=True)
class ReferenceVolume:
    """Reference images.

    Parameters
    ----------
    shape
        (images, rows, columns).
    images
        Gives the images one after another, float32 (rows, columns).
    source
        ``"file"`` where they came with the k-space, ``"reference file"`` where they were sent along.
    place
        How messages name them.
    """

    shape: tuple[int, int, int]
    images: Callable[[], Iterator[NDArray[np.float32]]]
    source: str
    place: str


@dataclass(frozen=True, slots=True)
class KspaceScan:
    """k-space that is already sorted into planes.

    Parameters
    ----------
    indices
        Counters of the planes in the order in which `planes` gives them.
    shape
        (coils, rows, columns) of every plane.
    planes
        Opens the source and gives its planes, complex64 arrays of `shape` that the taker may change in place.
    place
        How messages name the array, such as ``"kspace"``.
    name
        Name of the file, for messages and for masks that are seeded by it.
    mask
        bool (rows, columns), or None where the data have to tell.
    padding
        [first, last + 1) column that was encoded; the others are zero padding.
    recon_matrix
        (rows, columns) that the header wants, or None.
    reference
        Reference images that came with the k-space, one for each plane, or None.
    """

    indices: tuple[FrameIndex, ...]
    shape: tuple[int, int, int]
    planes: Callable[[], Iterator[NDArray[np.complex64]]]
    place: str
    name: str = ""
    mask: NDArray[np.bool_] | None = None
    padding: tuple[int, int] | None = None
    recon_matrix: tuple[int, int] | None = None
    reference: ReferenceVolume | None = None
