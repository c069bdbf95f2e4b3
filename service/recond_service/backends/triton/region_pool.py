"""Regions that one Triton server has mapped, kept for the next batch."""

from __future__ import annotations

import asyncio
import contextlib

import grpc
import grpc.aio
import structlog

from recond_service.backends.triton.connection import Connection
from recond_service.backends.triton.regions import Region, left_behind

_UNREGISTER_SECONDS = 0.5  # between two tries to unregister a region that the server still uses
_UNREGISTER_TRIES = 1200
_GONE = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}

_log = structlog.get_logger(__name__)


class RegionPool:
    """Shared memory between this process and one server.

    Parameters
    ----------
    server
        Name of the server, for the log.
    connection
        The gRPC connection to the server, which has to know every region.

    Attributes
    ----------
    most_free
        Regions that are kept while no batch uses them.
    """

    def __init__(self, server: str, connection: Connection) -> None:
        self._server = server
        self._connection = connection
        self._registered: set[Region] = set()
        self._free: list[Region] = []
        self._leaving: set[asyncio.Task[None]] = set()
        self._problem = ""
        self.most_free = 4

    async def acquire(self, size: int) -> Region | None:
        """Return a registered region of at least `size` bytes, None if there can be none: then tensors have to travel.

        Raises
        ------
        grpc.aio.AioRpcError
            The server is gone.
        """
        fitting = [region for region in self._free if size <= region.size <= 4 * size + (1 << 20)]
        if fitting:
            region = min(fitting, key=lambda region: region.size)
            self._free.remove(region)
            return region
        try:
            region = await asyncio.to_thread(Region, size)
        except OSError as error:
            self._note(f"{size} bytes: {error.strerror}")
            return None
        try:
            await self._connection.register(region)
        except grpc.aio.AioRpcError as error:
            region.close()
            if error.code() in _GONE:
                raise
            self._note(error.details() or error.code().name)
            return None
        except asyncio.CancelledError:
            self.abandon(region)  # the server may have it by now
            raise
        self._registered.add(region)
        return region

    def _note(self, problem: str) -> None:
        """Say in the log why there is no region; once, not for every batch."""
        if problem != self._problem:
            self._problem = problem
            _log.info("shared-memory-not-used", server=self._server, problem=problem)

    def release(self, region: Region) -> None:
        """Take back a region that the server is done with."""
        if region not in self._registered:
            self.abandon(region)
            return
        self._free.append(region)
        if len(self._free) > self.most_free:
            self.abandon(self._free.pop(0))

    def abandon(self, region: Region) -> None:
        """Give up a region that the server may still be using; it is unregistered as soon as the server lets it go."""
        region.close()
        self._registered.discard(region)
        task = asyncio.get_running_loop().create_task(self._unregister(region.name))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _unregister(self, name: str) -> None:
        for _ in range(_UNREGISTER_TRIES):
            try:
                await self._connection.unregister(name)
            except grpc.aio.AioRpcError as error:
                if "in use" not in (error.details() or ""):
                    return  # the server is gone; should it come back, `tidy` looks after what it still has
            else:
                return
            await asyncio.sleep(_UNREGISTER_SECONDS)

    async def tidy(self) -> None:
        """Have the server forget regions that no process has any more."""
        for name in await self._connection.registered():
            if await asyncio.to_thread(left_behind, name):
                with contextlib.suppress(grpc.aio.AioRpcError):  # still in use: next time
                    await self._connection.unregister(name)

    def forget(self) -> None:
        """Take note that the server is down: it may come back without the regions that it had."""
        self._registered.clear()
        for region in self._free:
            region.close()
        self._free.clear()

    async def close(self) -> None:
        """Unregister and remove all regions."""
        for region in list(self._registered):
            self.abandon(region)
        self._free.clear()
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=1.0)
        for task in list(self._leaving):
            task.cancel()
