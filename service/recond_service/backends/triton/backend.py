"""A fleet of Triton Inference Servers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import structlog

from recond_service.backends.backend import Measurement, ModelServer
from recond_service.backends.triton.connection import Connection
from recond_service.backends.triton.regions import remove_left_behind
from recond_service.backends.triton.server import Patience, SharedMemory, TritonModelServer

_THREADS = 2  # at least, that copy frames into messages and images out of them

_log = structlog.get_logger(__name__)


class TritonBackend:
    """Triton servers that serve what ``recond triton export`` wrote.

    Parameters
    ----------
    addresses
        ``HOST:PORT`` of the gRPC service of each.
    batch_seconds
        Least time after which a batch is taken for lost.
    shared_memory
        ``"auto"``: by shared memory where a server is on this host. ``"off"``: never.
    ca
        PEM file with the authorities that may vouch for the servers; None for connections without TLS.
    on_change
        Called with a server that went up or down, or has other models.
    patience
        How long small inferences may take, and when they are due; `batch_seconds` counts in place of that in it.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        batch_seconds: float,
        shared_memory: SharedMemory = "auto",
        ca: Path | None = None,
        on_change: Callable[[ModelServer], None],
        patience: Patience | None = None,
    ) -> None:
        self._executor = ThreadPoolExecutor(max(_THREADS, len(addresses)), "triton-pack")
        self._on_change = on_change
        self._some_up = asyncio.Event()
        self._shared_memory = shared_memory
        patience = replace(patience or Patience(), batch_seconds=batch_seconds)
        self._servers = [
            TritonModelServer(
                address, Connection(address, ca), patience, shared_memory, self._executor, self._server_changed
            )
            for address in addresses
        ]

    @property
    def servers(self) -> Sequence[TritonModelServer]:
        """All servers, whether up or not; fixed."""
        return self._servers

    def measurements(self) -> Sequence[Measurement]:
        """Return what small inferences took on the servers that are up."""
        return [measurement for server in self._servers if server.up for measurement in server.measurements]

    def _server_changed(self, server: ModelServer) -> None:
        if any(each.up for each in self._servers):
            self._some_up.set()
        else:
            self._some_up.clear()
        self._on_change(server)

    async def start(self) -> None:
        """Start looking after the servers; `wait_ready` tells when one can compute."""
        if self._shared_memory == "auto":
            removed = await asyncio.to_thread(remove_left_behind)
            if removed:
                _log.info("shared-memory-left-behind", removed=len(removed))
        for server in self._servers:
            server.start()

    async def wait_ready(self) -> None:
        """Wait until one server can compute."""
        await self._some_up.wait()

    async def close(self) -> None:
        """Leave the servers, and nothing behind."""
        await asyncio.gather(*(server.close() for server in self._servers))
        self._executor.shutdown(wait=False)
