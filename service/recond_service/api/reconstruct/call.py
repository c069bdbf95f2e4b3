"""One `Reconstruct` call: its messages to the pipeline, the events of the pipeline to its answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

from recond.v1 import reconstruction_pb2 as pb
from recond_service.api.heads import map_messages, result_message
from recond_service.api.reconstruct import wire
from recond_service.api.reconstruct.inbox import Inbox
from recond_service.api.reconstruct.sources import UploadedParts, UploadedStream
from recond_service.pipeline import (
    Admitted,
    Event,
    FileReady,
    Finished,
    HeadReady,
    ImageReady,
    Planned,
    RequestContext,
    ScanPipeline,
    Services,
    Source,
    named_heads,
)
from recond_service.types import DeadlineExceededError, InvalidInputError

PIECE_BYTES = 1 << 20  # images and files leave in pieces of this size


class ReconstructCall:
    """One call.

    Parameters
    ----------
    services
        What the service has.
    context
        Who calls.
    inbox
        What the client sends.
    write
        Sends a message to the client; waits while the client does not read.
    """

    def __init__(
        self,
        services: Services,
        context: RequestContext,
        inbox: Inbox[pb.ReconstructRequest],
        write: Callable[[pb.ReconstructResponse], Awaitable[None]],
    ) -> None:
        self._services = services
        self._context = context
        self._inbox = inbox
        self._write_unlocked = write
        self._writing = asyncio.Lock()
        self._omit_images = False

    async def run(self) -> None:
        """Serve the call.

        Raises
        ------
        RecondError
            What keeps it from its images.
        """
        message = await self._inbox.next_of("spec", "the first message of a call")
        if message is None:
            raise InvalidInputError("the call ended before its spec", reason="NO_SPEC", field="spec")
        settings = self._services.settings
        limits = settings.request_limits()
        spec = wire.read_spec(message.spec, limits)
        heads = named_heads(spec.heads, "spec.heads")
        request = replace(spec.request, scan=replace(spec.request.scan, heads=heads))
        self._omit_images = spec.omit_images
        source: Source
        if spec.streamed:
            source = UploadedStream(self._inbox, limits, settings.limits.stream_idle_seconds)
        else:
            source = UploadedParts(self._inbox, spec.request.scan.parts, settings.limits.upload_idle_seconds)
        await ScanPipeline(self._services, request, self._context).run(source, self._tell)

    async def _tell(self, event: Event) -> None:
        """Send the messages of an event, one event after another."""
        async with self._writing:
            match event:
                case Admitted():
                    accepted = pb.Accepted(request_id=self._context.request_id)
                    await self._write(pb.ReconstructResponse(accepted=accepted))
                case Planned():
                    await self._write(pb.ReconstructResponse(plan=wire.plan_message(event)))
                case ImageReady():
                    for image in () if self._omit_images else _image_messages(event):
                        await self._write(pb.ReconstructResponse(image=image))
                case HeadReady():
                    await self._write(pb.ReconstructResponse(head=result_message(event.result)))
                    for part in map_messages(event.maps):
                        await self._write(pb.ReconstructResponse(head_map=part))
                case FileReady():
                    for piece in file_messages(event):
                        await self._write(pb.ReconstructResponse(file_chunk=piece))
                case Finished():
                    await self._write(pb.ReconstructResponse(summary=wire.summary_message(event)))

    async def _write(self, response: pb.ReconstructResponse) -> None:
        """Send a message, unless the client has stopped reading: it would keep its place from others for ever."""
        await written_within(self._write_unlocked(response), self._services.settings.limits.upload_idle_seconds)


async def written_within(writing: Awaitable[None], seconds: float) -> None:
    """Wait until a message is sent.

    Raises
    ------
    DeadlineExceededError
        The client has not read for so many seconds.
    """
    try:
        async with asyncio.timeout(seconds):
            await writing
    except TimeoutError:
        raise DeadlineExceededError(
            f"the client has not read for {seconds:g} s; read the answers while they come",
            reason="CLIENT_NOT_READING",
        ) from None


def _image_messages(event: ImageReady) -> Iterator[pb.Image]:
    rows, columns = event.shape
    row_bytes = columns * (8 if event.is_complex else 4)
    deviation_bytes = columns * 4 * event.uncertainty
    step = max(PIECE_BYTES // (row_bytes + deviation_bytes), 1)
    for first in range(0, rows, step):
        yield pb.Image(
            index=wire.index_message(event.place),
            rows=rows,
            columns=columns,
            first_row=first,
            pixels=event.pixels.read(first * row_bytes, min(step, rows - first) * row_bytes),
            uncertainty=event.pixels.read(
                rows * row_bytes + first * deviation_bytes, min(step, rows - first) * deviation_bytes
            )
            if event.uncertainty
            else b"",
            geometry=None if event.place.geometry is None else wire.geometry_message(event.place.geometry),
            pixel_type=pb.PIXEL_TYPE_COMPLEX64 if event.is_complex else pb.PIXEL_TYPE_FLOAT32,
            data_consistency_residual=None if first else event.residual,
            findings=() if first else [wire.note_message(note) for note in event.notes],
        )


def file_messages(event: FileReady) -> Iterator[pb.FileChunk]:
    """Yield an output file in pieces."""
    size = event.content.size
    for offset in range(0, size, PIECE_BYTES):
        yield pb.FileChunk(
            format=pb.OutputFormat.Name(event.format),
            offset=offset,
            size_bytes=size,
            stack=event.stack,
            part=event.part,
            data=event.content.read(offset, min(PIECE_BYTES, size - offset)),
        )
