"""One batch to a Triton server and back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import TypeVar

import grpc.aio

from recond_models.model import ModelInfo
from recond_service.backends.backend import BatchOutcome, FrameInput
from recond_service.backends.triton import faults, interface
from recond_service.backends.triton.connection import Connection
from recond_service.backends.triton.packing import Packing, outcome_of, request_for
from recond_service.backends.triton.region_pool import RegionPool

Result = TypeVar("Result")


class Exchange:
    """Puts frames into requests, by shared memory or not, and takes images out of answers.

    Parameters
    ----------
    connection
        The gRPC connection to the server.
    regions
        Shared memory with it.
    executor
        Threads that put messages together and take them apart.
    """

    def __init__(self, connection: Connection, regions: RegionPool, executor: Executor) -> None:
        self._connection = connection
        self._regions = regions
        self._executor = executor

    async def send(self, model: ModelInfo, frames: Sequence[FrameInput], *, by_region: bool) -> BatchOutcome:
        """Have a model reconstruct frames. Does not return before nobody reads them any more, even when cancelled.

        Raises
        ------
        grpc.aio.AioRpcError
            What the server, or the model in it, said; see `faults`.
        DefectError
            The answer is none.
        """
        packing = Packing.of(frames)
        region = await self._regions.acquire(packing.size) if by_region else None
        name = interface.PREFIX + model.name
        parameters = {interface.VERSION: model.version, interface.WEIGHTS: model.weights_sha256}
        in_use = False
        try:
            request = await self.beside(lambda: request_for(name, parameters, frames, packing, region))
            in_use = True
            try:
                answer = await self._connection.infer(request)
            except grpc.aio.AioRpcError as error:
                in_use = not faults.answered(error)
                raise
            in_use = False
            return await self.beside(lambda: outcome_of(answer, frames, packing, region))
        finally:
            if region is not None:
                (self._regions.abandon if in_use else self._regions.release)(region)

    async def beside(self, work: Callable[[], Result]) -> Result:
        """Run a function in a thread; does not return before it ends, even when cancelled."""
        future = asyncio.get_running_loop().run_in_executor(self._executor, work)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait({future})
            future.exception()
            raise
