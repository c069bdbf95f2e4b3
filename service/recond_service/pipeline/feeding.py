"""Takes a scan from its source to its sandbox."""

from __future__ import annotations

import asyncio
from typing import Any

from recond_service.config import Settings
from recond_service.pipeline.context import Elapsed
from recond_service.pipeline.request import ReconstructionRequest
from recond_service.pipeline.sources import AcquisitionSource, PartSource, Source
from recond_service.processes import MOST_DESCRIPTORS, SharedBlock
from recond_service.sandbox import Sandbox
from recond_service.scan.messages import Acquisitions, Credit, EndOfStream, MoreParts, OpenScan, StreamHeader
from recond_service.scheduling import Ticket
from recond_service.telemetry import RequestTrace
from recond_service.types import Priority, ScanRequest

STREAM_BYTES = 64 << 20
"""What a stream of unknown size is taken to hold at a time."""

_BATCHES_AHEAD = 4  # acquisition batches that the sandbox has not taken yet
_NICE = {Priority.STAT: 0, Priority.CLINICAL: 4, Priority.RESEARCH: 10}


class Feeding:
    """Takes a scan from its source to its sandbox.

    Parameters
    ----------
    sandbox
        Where the scan is read.
    request
        What is asked for.
    settings
        What the sandbox may use.
    trace
        Told when everything is there.
    ticket
        Told while the client is silent.

    Attributes
    ----------
    seconds
        How long the source took.
    """

    def __init__(
        self,
        sandbox: Sandbox[Any],
        request: ReconstructionRequest,
        settings: Settings,
        trace: RequestTrace,
        ticket: Ticket,
    ) -> None:
        self._sandbox = sandbox
        self._request = request
        self._settings = settings
        self._trace = trace
        self._ticket = ticket
        self._room = asyncio.Semaphore(_BATCHES_AHEAD)
        self.seconds = Elapsed()

    def consumed(self) -> None:
        """Take note that the sandbox has taken a batch of acquisitions."""
        self._room.release()

    async def run(self, source: Source, frames_ahead: int) -> None:
        """Send everything.

        Parameters
        ----------
        source
            Where it comes from.
        frames_ahead
            How many frames the sandbox may send before images come back.

        Raises
        ------
        RecondError
            The source failed.
        """
        if isinstance(source, PartSource):
            await self._send_parts(source, frames_ahead)
        else:
            await self._send_stream(source, frames_ahead)

    async def _send_parts(self, source: PartSource, frames_ahead: int) -> None:
        blocks = await source.parts()
        try:
            self._arrived()
            descriptors = [block.fd for block in blocks]
            while len(descriptors) > MOST_DESCRIPTORS:
                await self._sandbox.send(MoreParts(), descriptors[:MOST_DESCRIPTORS])
                del descriptors[:MOST_DESCRIPTORS]
            await self._sandbox.send(self._opening(), descriptors)
        finally:
            for block in blocks:
                block.close()
        await self._sandbox.send(Credit(frames_ahead))

    async def _send_stream(self, source: AcquisitionSource, frames_ahead: int) -> None:
        await self._sandbox.send(self._opening())
        await self._sandbox.send(Credit(frames_ahead))
        with self._ticket.waiting_for_client():
            header = await source.header()
        with SharedBlock.holding("recond-header", header) as block:
            await self._sandbox.send(StreamHeader(block.size), [block.fd])
        batches = source.batches()
        while True:
            with self._ticket.waiting_for_client():
                batch = await anext(batches, None)
            if batch is None:
                break
            await self._room.acquire()
            parts = (batch.headers, batch.trajectories, batch.samples)
            with SharedBlock.holding("recond-batch", *parts) as block:
                await self._sandbox.send(Acquisitions(batch.count, *map(len, parts)), [block.fd])
        self._arrived()
        await self._sandbox.send(EndOfStream())

    def _arrived(self) -> None:
        self.seconds.stop()
        self._trace.uploaded()

    def _opening(self) -> OpenScan:
        scan: ScanRequest = self._request.scan
        base = int(self._settings.scans.scan_memory_bytes)
        return OpenScan(
            request=scan,
            nice=_NICE[self._request.priority],
            memory_bytes=base + 2 * (self._request.size_bytes or STREAM_BYTES),
            most_memory_bytes=base + 2 * max(scan.limits.max_scan_bytes, STREAM_BYTES),
            cpu_seconds=self._settings.scans.scan_cpu_seconds * max(len(scan.visits), 1),
            file_bytes=max(scan.limits.max_scan_bytes, 2 * scan.limits.max_frame_bytes),
        )
