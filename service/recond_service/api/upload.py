"""Receives what a client sends, in order and in bounds, into shared memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import Self

from recond.v1 import reconstruction_pb2 as pb
from recond_service.transport import SharedBlock
from recond_service.types import InvalidInputError, LimitExceededError, Limits, Part, RecondError

ACQUISITION_HEADER_BYTES = 340


class Inbox:
    """The client's side of a call.

    Parameters
    ----------
    requests
        Messages of the client.
    idle_seconds
        Longest silence.
    """

    def __init__(self, requests: AsyncIterator[pb.ReconstructRequest], idle_seconds: float) -> None:
        self._requests = requests
        self._idle_seconds = idle_seconds

    def allow_silence(self, seconds: float) -> None:
        """Change the longest silence from now on."""
        self._idle_seconds = seconds

    async def next(self) -> pb.ReconstructRequest | None:
        """Return the next message, or None when the client has half-closed.

        Raises
        ------
        InvalidInputError
            If the client is silent for too long.
        """
        try:
            async with asyncio.timeout(self._idle_seconds):
                return await anext(self._requests, None)
        except TimeoutError:
            raise InvalidInputError(
                f"no message for {self._idle_seconds:g} s; send without pauses that long, or half-close the stream when done",
                reason="CLIENT_SILENT",
            ) from None

    async def next_of(self, kind: str, what_for: str) -> pb.ReconstructRequest | None:
        """Return the next message, which has to be of one kind.

        Raises
        ------
        InvalidInputError
            If it is of another.
        """
        message = await self.next()
        if message is not None and message.WhichOneof("message") != kind:
            raise InvalidInputError(
                f"expected {kind} ({what_for}) but got {message.WhichOneof('message') or 'an empty message'}",
                reason="WRONG_ORDER",
                field="message",
            )
        return message


class Upload:
    """The parts of a scan as they come in. A context manager: leaving it gives the memory back.

    Parameters
    ----------
    parts
        As announced.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self.blocks: list[SharedBlock] = []

    async def receive(self, inbox: Inbox) -> None:
        """Receive all parts.

        Raises
        ------
        InvalidInputError
            If a chunk is out of order or too long, or the client stops early.
        """
        for place, part in enumerate(self._parts):
            block = SharedBlock.create("recond-upload", part.size_bytes)
            self.blocks.append(block)
            received = 0
            while received < part.size_bytes:
                message = await inbox.next_of("chunk", f"part {place} has {received} of {part.size_bytes} bytes")
                if message is None:
                    raise InvalidInputError(
                        f"the client half-closed the call after {received} of {part.size_bytes} bytes of part {place}; send "
                        "all of it",
                        reason="INPUT_INCOMPLETE",
                        field=f"spec.parts.parts[{place}].size_bytes",
                    )
                chunk = message.chunk
                self._check(chunk, place, received, part.size_bytes)
                block.write(chunk.data, received)
                received += len(chunk.data)
        if await inbox.next() is not None:
            raise InvalidInputError(
                "the client sent more than it announced; half-close the stream after the last chunk",
                reason="TOO_MUCH_DATA",
                field="message",
            )

    @staticmethod
    def _check(chunk: pb.Chunk, place: int, received: int, size: int) -> None:
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

    def close(self) -> None:
        """Give the memory back."""
        for block in self.blocks:
            block.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class AcquisitionCounter:
    """Checks batches of an acquisition stream against the limits.

    Parameters
    ----------
    limits
        What the scan may have.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._received = 0

    def check(self, batch: pb.AcquisitionBatch) -> None:
        """Count a batch.

        Raises
        ------
        InvalidInputError, LimitExceededError
            If its sizes do not fit each other, or the stream has grown too large.
        """
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


class Elapsed:
    """Seconds since it was made, until it is stopped."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._end: float | None = None

    def stop(self) -> None:
        """Hold the clock."""
        self._end = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return (time.perf_counter() if self._end is None else self._end) - self._start


class BusyTime:
    """Seconds during which at least one of several pieces of work was going on. Each piece is a ``with`` block."""

    def __init__(self) -> None:
        self._pieces = 0
        self._since = 0.0
        self._sum = 0.0

    def __enter__(self) -> Self:
        if self._pieces == 0:
            self._since = time.perf_counter()
        self._pieces += 1
        return self

    def __exit__(self, *exception: object) -> None:
        self._pieces -= 1
        if self._pieces == 0:
            self._sum += time.perf_counter() - self._since

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return self._sum + (time.perf_counter() - self._since if self._pieces else 0.0)


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error of a task group that tells most: the service's own before any other."""
    own, other = group.split(RecondError)
    found: BaseException = own if own is not None else other if other is not None else group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
