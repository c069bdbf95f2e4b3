"""Acquisitions from the wire: packed ISMRMRD headers and samples, taken over without a copy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from recond_service.types import (
    ACQUISITION_HEADER,
    AcquisitionBlock,
    InvalidInputError,
    LimitExceededError,
    Limits,
    MrdHeader,
)


def decode_acquisitions(
    count: int,
    headers: bytes,
    trajectories: bytes,
    samples: bytes,
    header: MrdHeader,
    limits: Limits,
) -> AcquisitionBlock:
    """Take over one batch of acquisitions.

    Parameters
    ----------
    count
        Number of acquisitions.
    headers
        `count` packed ISMRMRD headers of 340 bytes.
    trajectories
        float32, (samples, trajectory dimensions) for each; only their size is checked, a Cartesian scan does not need them.
    samples
        complex64, (active channels, samples) for each.
    header
        Header of the stream: tells which encodings there are.
    limits
        `max_scan_bytes` bounds the samples.

    Returns
    -------
    AcquisitionBlock
        Views of `headers` and `samples`.

    Raises
    ------
    InvalidInputError
        If the sizes do not fit each other, or a readout refers to an encoding that the header does not have.
    LimitExceededError
        If the batch claims more than `max_scan_bytes`.
    """
    if len(headers) != count * ACQUISITION_HEADER.itemsize:
        raise InvalidInputError(
            f"acquisitions.headers has {len(headers)} bytes; {count} headers have {count * ACQUISITION_HEADER.itemsize}.",
            reason="ACQUISITION_SIZE",
            field="acquisitions.headers",
        )
    table: NDArray[np.void] = np.frombuffer(headers, ACQUISITION_HEADER)
    lengths = readout_lengths(table)
    points = table["number_of_samples"].astype(np.int64) * table["trajectory_dimensions"].astype(np.int64)
    claimed = 8 * int(lengths.sum())
    if claimed > limits.max_scan_bytes:
        raise LimitExceededError(
            f"The headers claim {claimed} bytes of samples; this service takes {limits.max_scan_bytes}.",
            reason="SCAN_TOO_LARGE",
            field="acquisitions.samples",
        )
    for name, size, expected in (
        ("samples", len(samples), claimed),
        ("trajectories", len(trajectories), 4 * int(points.sum())),
    ):
        if size != expected:
            raise InvalidInputError(
                f"acquisitions.{name} has {size} bytes; by the headers of the batch it must have {expected}.",
                reason="ACQUISITION_SIZE",
                field=f"acquisitions.{name}",
            )
    check_encodings(table, header, "acquisitions")
    return AcquisitionBlock(table, np.frombuffer(samples, "<c8"), offsets_of(lengths))


def readout_lengths(headers: NDArray[np.void]) -> NDArray[np.int64]:
    """Return how many complex samples each readout has over all channels, int64 (count,)."""
    channels: NDArray[np.int64] = headers["active_channels"].astype(np.int64)
    lengths: NDArray[np.int64] = channels * headers["number_of_samples"]
    return lengths


def offsets_of(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each readout begins when they follow each other, int64 (count + 1,)."""
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def check_encodings(headers: NDArray[np.void], header: MrdHeader, place: str, first: int = 0) -> None:
    """Refuse readouts of encodings that the header does not have.

    Raises
    ------
    InvalidInputError
        Naming the first of them, `first` being the number of ``headers[0]`` in `place`.
    """
    wrong = headers["encoding_space_ref"] >= len(header.encodings)
    if wrong.any():
        number = int(np.argmax(wrong))
        field = f"{place}[{first + number}].encoding_space_ref"
        raise InvalidInputError(
            f"{field} is {int(headers['encoding_space_ref'][number])}, but the <encoding> elements of the header are numbered 0 to "
            f"{len(header.encodings) - 1}: correct the readouts, or add the missing <encoding> to the header.",
            reason="ENCODING_UNKNOWN",
            field=field,
        )
