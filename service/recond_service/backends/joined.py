"""Two fleets as one: servers that reconstruct, and workers that run heads beside them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from recond_service.backends.backend import Backend, Measurement, ModelServer


class JoinedBackend:
    """Fleets with different work, such as Triton servers for reconstructions and embedded workers for heads.

    Parameters
    ----------
    first
        The fleet that has to be up before the service begins.
    others
        The fleets whose work waits in the queue until they are up.
    """

    def __init__(self, first: Backend, *others: Backend) -> None:
        self._first = first
        self._fleets = (first, *others)

    @property
    def servers(self) -> Sequence[ModelServer]:
        """All servers, whether up or not; fixed."""
        return [server for fleet in self._fleets for server in fleet.servers]

    def measurements(self) -> Sequence[Measurement]:
        """Return what was measured on the servers that are up."""
        return [measurement for fleet in self._fleets for measurement in fleet.measurements()]

    async def start(self) -> None:
        """Start looking after the servers; `wait_ready` tells when the first fleet can compute."""
        for fleet in self._fleets:
            await fleet.start()

    async def wait_ready(self) -> None:
        """Wait until a server of the first fleet can compute."""
        await self._first.wait_ready()

    async def close(self) -> None:
        """End what was started."""
        await asyncio.gather(*(fleet.close() for fleet in self._fleets))
