"""What a client sends, in order and in bounds, as sources of the pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from recond.v1 import reconstruction_pb2 as pb
from recond_service.api.reconstruct.inbox import Inbox
from recond_service.api.reconstruct.received import ReceivedChunk
from recond_service.pipeline import AcquisitionBatch
from recond_service.processes import SharedBlock
from recond_service.types import InvalidInputError, LimitExceededError, Limits, Part

ACQUISITION_HEADER_BYTES = 340
_SLOWEST_UPLOAD = 64 << 10  # bytes/s


class UploadedParts:
    """The parts of a scan as they come in; see `PartSource`.

    Parameters
    ----------
    inbox
        What the client sends.
    parts
        What the spec announced.
    idle_seconds
        Longest silence; the whole upload may take that, and a second for each 64 KiB.
    """

    def __init__(self, inbox: Inbox[Any], parts: Sequence[Part], idle_seconds: float) -> None:
        self._inbox = inbox
        self._parts = parts
        self._idle_seconds = idle_seconds

    async def parts(self) -> Sequence[SharedBlock]:
        """Receive all parts. An upload that trickles in would keep its place from others for hours.

        Raises
        ------
        InvalidInputError
            A chunk is out of order or too long, or the client stops early or sends too slowly.
        """
        size = sum(part.size_bytes for part in self._parts)
        allowed = self._idle_seconds + size / _SLOWEST_UPLOAD
        blocks: list[SharedBlock] = []
        try:
            async with asyncio.timeout(allowed):
                await self._receive(blocks)
        except TimeoutError:
            _close(blocks)
            raise InvalidInputError(
                f"the upload of {size} bytes has taken {allowed:.0f} s, less than {_SLOWEST_UPLOAD >> 10} KiB/s; send it over a "
                "faster line, or in smaller requests",
                reason="UPLOAD_TOO_SLOW",
            ) from None
        except BaseException:
            _close(blocks)
            raise
        return blocks

    async def _receive(self, blocks: list[SharedBlock]) -> None:
        for place, part in enumerate(self._parts):
            block = SharedBlock.create("recond-upload", part.size_bytes)
            blocks.append(block)
            received = 0
            while received < part.size_bytes:
                chunk = await self._inbox.next_chunk(f"part {place} has {received} of {part.size_bytes} bytes")
                if chunk is None:
                    raise InvalidInputError(
                        f"the client half-closed the call after {received} of {part.size_bytes} bytes of part {place}; send "
                        "all of it",
                        reason="INPUT_INCOMPLETE",
                        field=f"spec.parts.parts[{place}].size_bytes",
                    )
                self._check(chunk, place, received, part.size_bytes)
                block.write(chunk.data, received)
                received += len(chunk.data)
        if await self._inbox.next() is not None:
            raise InvalidInputError(
                "the client sent more than it announced; half-close the stream after the last chunk",
                reason="TOO_MUCH_DATA",
                field="message",
            )

    @staticmethod
    def _check(chunk: ReceivedChunk, place: int, received: int, size: int) -> None:
        if chunk.part != place:
            raise InvalidInputError(
                f"chunk of part {chunk.part} while part {place} has {received} of {size} bytes; send the parts one after another",
                reason="CHUNK_ORDER",
                field="chunk.part",
            )
        if chunk.offset != received:
            raise InvalidInputError(
                f"chunk at offset {chunk.offset} of part {place}, expected {received}; send chunks in order and without gaps",
                reason="CHUNK_ORDER",
                field="chunk.offset",
            )
        if not chunk.data:
            raise InvalidInputError(f"empty chunk of part {place}", reason="CHUNK_SIZE", field="chunk.data")
        if received + len(chunk.data) > size:
            raise InvalidInputError(
                f"chunk of {len(chunk.data)} bytes at offset {received} goes over the {size} bytes of part {place}",
                reason="CHUNK_SIZE",
                field="chunk.data",
            )


class UploadedStream:
    """Readouts as a client sends them; see `AcquisitionSource`.

    Parameters
    ----------
    inbox
        What the client sends.
    limits
        What the scan may have.
    idle_seconds
        Longest silence once readouts come: scanners wait for patients.
    """

    def __init__(self, inbox: Inbox[pb.ReconstructRequest], limits: Limits, idle_seconds: float) -> None:
        self._inbox = inbox
        self._limits = limits
        self._idle_seconds = idle_seconds
        self._received = 0

    async def header(self) -> bytes:
        """Return the ISMRMRD XML header.

        Raises
        ------
        InvalidInputError
            Something else comes, or nothing.
        """
        message = await self._inbox.next_of("mrd_header", "the first message after the spec of a stream")
        if message is None:
            raise InvalidInputError(
                "the stream ended before the MRD header", reason="INPUT_INCOMPLETE", field="mrd_header"
            )
        return message.mrd_header.xml

    async def batches(self) -> AsyncIterator[AcquisitionBatch]:
        """Give the readouts as they come. The first have to come as promptly as an upload; then pauses may be longer.

        Raises
        ------
        InvalidInputError, LimitExceededError
            Something else comes, sizes do not fit each other, or the stream grows too large.
        """
        while (message := await self._inbox.next_of("acquisitions", "the readouts of the stream")) is not None:
            self._inbox.allow_silence(self._idle_seconds)
            received = message.acquisitions
            # Once each: protobuf makes a copy of bytes whenever they are asked for.
            batch = AcquisitionBatch(received.count, received.headers, received.trajectories, received.samples)
            self._check(batch)
            yield batch

    def _check(self, batch: AcquisitionBatch) -> None:
        """Count a batch."""
        if batch.count == 0 or len(batch.headers) != batch.count * ACQUISITION_HEADER_BYTES:
            raise InvalidInputError(
                f"{len(batch.headers)} bytes of headers for {batch.count} acquisitions; expected "
                f"{ACQUISITION_HEADER_BYTES} each and at least one",
                reason="BATCH_SIZE",
                field="acquisitions.headers",
            )
        self._received += len(batch.headers) + len(batch.trajectories) + len(batch.samples)
        if self._received > self._limits.max_scan_bytes:
            raise LimitExceededError(
                f"the stream has grown to {self._received} bytes; this service takes {self._limits.max_scan_bytes}",
                reason="SCAN_TOO_LARGE",
                field="acquisitions",
            )


def _close(blocks: Sequence[SharedBlock]) -> None:
    for block in blocks:
        block.close()
