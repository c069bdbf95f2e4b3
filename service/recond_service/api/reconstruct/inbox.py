"""The messages of a client, in order, each within a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

from recond.v1 import analysis_pb2
from recond.v1 import reconstruction_pb2 as pb
from recond_service.api.reconstruct.received import ReceivedChunk, kind_of
from recond_service.types import InvalidInputError

Message = TypeVar("Message", pb.ReconstructRequest, analysis_pb2.AnalyzeRequest, analysis_pb2.CompareRequest)


class Inbox(Generic[Message]):
    """The client's side of a call.

    Parameters
    ----------
    requests
        Messages of the client.
    idle_seconds
        How long the client may send nothing.
    """

    def __init__(self, requests: AsyncIterator[ReceivedChunk | Message], idle_seconds: float) -> None:
        self._requests: AsyncIterator[ReceivedChunk | Message] = requests
        self._idle_seconds = idle_seconds

    def allow_silence(self, seconds: float) -> None:
        """Change the longest silence from now on."""
        self._idle_seconds = seconds

    async def next(self) -> ReceivedChunk | Message | None:
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

    async def next_of(self, kind: str, what_for: str) -> Message | None:
        """Return the next message, which has to be of one kind and no chunk.

        Raises
        ------
        InvalidInputError
            If it is of another.
        """
        message = await self._next_of(kind, what_for)
        return None if isinstance(message, ReceivedChunk) else message

    async def next_chunk(self, what_for: str) -> ReceivedChunk | None:
        """Return the next message, which has to be a chunk.

        Raises
        ------
        InvalidInputError
            If it is of another kind.
        """
        message = await self._next_of("chunk", what_for)
        if message is None or isinstance(message, ReceivedChunk):
            return message
        chunk = message.chunk  # written in a way that only protobuf can read
        return ReceivedChunk(chunk.part, chunk.offset, memoryview(chunk.data))

    async def _next_of(self, kind: str, what_for: str) -> ReceivedChunk | Message | None:
        message = await self.next()
        if message is not None and (found := kind_of(message)) != kind:
            raise InvalidInputError(
                f"expected {kind} ({what_for}) but got {found or 'an empty message'}",
                reason="WRONG_ORDER",
                field="message",
            )
        return message
