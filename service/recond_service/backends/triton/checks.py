"""Tells whether the models of a Triton server work: only an image proves it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import grpc.aio
import numpy as np
import structlog
from numpy.typing import NDArray

from recond_models.model import ModelInfo
from recond_service.backends.backend import BatchOutcome, Measurement, ServerLostError
from recond_service.backends.triton import faults
from recond_service.backends.triton.connection import Connection, Deployed
from recond_service.backends.triton.exchange import Exchange
from recond_service.backends.triton.probe import probe_frame
from recond_service.backends.triton.region_pool import RegionPool
from recond_service.types import DefectError, RecondError, UnsupportedDataError

_SMALL_REGION = 1 << 20

_log = structlog.get_logger(__name__)


class Checks:
    """Has models of a server reconstruct a small frame.

    Parameters
    ----------
    server
        Its name, for the log.
    connection
        The gRPC connection to the server.
    exchange
        Sends frames to the server and takes images back.
    regions
        Shared memory with it.
    probe_seconds
        How long one small frame may take.

    Attributes
    ----------
    proved
        When a model last made an image, by its name; on the clock of the event loop.
    measured
        What the small frame took, by the name of the model.
    """

    def __init__(
        self, server: str, connection: Connection, exchange: Exchange, regions: RegionPool, probe_seconds: float
    ) -> None:
        self._server = server
        self._connection = connection
        self._exchange = exchange
        self._regions = regions
        self._probe_seconds = probe_seconds
        self.proved: dict[str, float] = {}
        self.measured: dict[str, Measurement] = {}

    async def all_instances(self, info: ModelInfo, instances: int) -> None:
        """Have a model make as many images at once as it has instances, so that each of them makes one.

        Raises
        ------
        grpc.aio.AioRpcError
            The server, or a process in it, is out of order.
        TimeoutError
            It took too long.
        DefectError
            The process works, and the model in it fails.
        """
        probes = [self._image(info, by_region=False) for _ in range(instances)]
        for result in await asyncio.gather(*probes, return_exceptions=True):
            if isinstance(result, BaseException):
                raise result

    async def start_over(self, models: Iterable[ModelInfo], deployed: dict[str, Deployed]) -> None:
        """Have every instance of all models make an image; have a model loaded anew if one of its processes died.

        A model that fails in a process that works is its own matter, as long as another one makes an image.

        Raises
        ------
        grpc.aio.AioRpcError, TimeoutError, ServerLostError
            The server is out of order.
        DefectError
            All models fail.
        """
        self.measured.clear()
        failures: list[DefectError] = []
        count = 0
        for count, info in enumerate(models, 1):  # noqa: B007 - how many there were
            try:
                await self._heal(info, deployed[info.name].instances)
            except DefectError as error:
                _log.warning("triton-model-fails", server=self._server, model=info.name, problem=str(error))
                failures.append(error)
        if len(failures) == count and failures:
            raise failures[0]

    async def _heal(self, info: ModelInfo, instances: int) -> None:
        try:
            await self.all_instances(info, instances)
        except grpc.aio.AioRpcError as error:
            if not faults.process_died(error):
                raise
            try:
                await self._connection.load_anew(info.name)
            except grpc.aio.AioRpcError as refusal:
                raise ServerLostError(
                    f"{error.details()} Restart this server. With --model-control-mode=explicit it could be told to load the model "
                    f"anew (now: {refusal.details()})"
                ) from error
            _log.info("triton-model-loaded-anew", server=self._server, model=info.name)
            await self.all_instances(info, instances)

    async def region_works(self, info: ModelInfo) -> bool:
        """Tell whether an image that went through shared memory is that which travelled."""
        try:
            region = await self._regions.acquire(_SMALL_REGION)
            if region is None:
                return False
            self._regions.release(region)  # where the next image goes through
            travelled = await self._image(info, by_region=False)
            shared = await self._image(info, by_region=True)
            await self._regions.tidy()
        except (grpc.aio.AioRpcError, DefectError) as error:
            _log.info("shared-memory-not-used", server=self._server, problem=faults.text_of(error))
            return False
        return travelled is not None and shared is not None and np.array_equal(_pixels(travelled), _pixels(shared))

    async def _image(self, info: ModelInfo, *, by_region: bool) -> BatchOutcome | None:
        """Have a model reconstruct a small frame; return None if it refused the frame, which proves that it works, too."""
        frame = await self._exchange.beside(lambda: probe_frame(info))
        outcome = None
        try:
            async with asyncio.timeout(self._probe_seconds):
                outcome = await self._exchange.send(info, [frame], by_region=by_region)
        except grpc.aio.AioRpcError as error:
            meaning = faults.meaning(error, self._server, begun=True)
            if not isinstance(meaning, RecondError):
                raise
            if not isinstance(meaning, UnsupportedDataError):
                raise meaning from error
        finally:
            frame.block.close()
        self.proved[info.name] = asyncio.get_running_loop().time()
        if outcome is not None:
            layout = frame.layout
            self.measured[info.name] = Measurement(
                *(info.name, info.version, info.weights_sha256, layout.rows, layout.columns, (layout.coils,)),
                *(outcome.seconds, outcome.peak_bytes),
            )
        return outcome


def _pixels(outcome: BatchOutcome) -> NDArray[np.float32]:
    frame = outcome.frames[0]
    return (
        np.empty(0, np.float32) if frame is None else np.frombuffer(frame.image.read(0, frame.image.size), np.float32)
    )
