"""Where a scan comes from: parts of known size, or acquisitions while they are measured."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from recond_service.processes import SharedBlock


@runtime_checkable
class PartSource(Protocol):
    """The parts of a scan."""

    async def parts(self) -> Sequence[SharedBlock]:
        """Return all parts, in the order of the request, as soon as they are there. The receiver owns them.

        Raises
        ------
        RecondError
            They do not come, or are not what was announced. Nothing is left open then.
        """


@dataclass(frozen=True, slots=True)
class AcquisitionBatch:
    """Consecutive readouts.

    Parameters
    ----------
    count
        How many.
    headers
        `count` ISMRMRD acquisition headers of 340 bytes.
    trajectories
        float32, one after another.
    samples
        complex64, one after another, each (channels, samples).
    """

    count: int
    headers: bytes
    trajectories: bytes
    samples: bytes


class AcquisitionSource(Protocol):
    """Readouts while they are measured."""

    async def header(self) -> bytes:
        """Return the ISMRMRD XML header.

        Raises
        ------
        RecondError
            It does not come.
        """

    def batches(self) -> AsyncIterator[AcquisitionBatch]:
        """Give the readouts as they come; raises RecondError where they are not what they should be."""


Source = PartSource | AcquisitionSource
