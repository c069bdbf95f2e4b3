"""The embedded model servers: a worker process for each GPU, or some on the processor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from recond_service.backends.backend import Measurement
from recond_service.backends.embedded.devices import cores, visible_gpus
from recond_service.backends.embedded.options import WorkerOptions
from recond_service.backends.embedded.server import EmbeddedServer
from recond_service.processes import Zygote

_BEATS_PER_LIMIT = 5  # signs of life within the time after which silence counts as death


class EmbeddedBackend:
    """Worker processes of this service: started, watched, and started again if they die.

    Parameters
    ----------
    threads
        Threads that each worker computes with; 0 to share the cores that this process may use between the workers.
    start_seconds
        A worker that is not ready after this long is started again.
    heartbeat_seconds
        A worker that is silent and does nothing this long is killed and started again; a busy one after ten times as long.
    log_level, log_format
        Of the workers' logs, as for `recond_service.telemetry.configure_logging`.
    on_change
        Called with a server that has come up or gone down.
    workers
        How many workers there are on the processor; 0 for one for each GPU, or one on the processor where there is no GPU.
    batch_seconds
        A batch that takes longer than this, and 20 times longer than predicted, is taken to hang; its worker is replaced.
    warm_up
        Frames that workers are made ready for and that are measured at their first start: ``MODEL:COILSxROWSxCOLUMNS``.
    heads_only
        They run heads beside other model servers, and no model that reconstructs.
    preload
        Names of the models that they load at the start; None for all that ship.
    """

    def __init__(
        self,
        threads: int = 0,
        start_seconds: float = 120.0,
        heartbeat_seconds: float = 1.5,
        log_level: str = "info",
        log_format: str = "json",
        on_change: Callable[[EmbeddedServer], None] = lambda server: None,  # noqa: ARG005 - documents the call
        *,
        workers: int = 0,
        batch_seconds: float = 120.0,
        warm_up: Sequence[str] = (),
        heads_only: bool = False,
        preload: tuple[str, ...] | None = None,
    ) -> None:
        devices = (visible_gpus() if workers == 0 else ()) or ("cpu",) * max(workers, 1)
        each = threads or max(1, cores() // len(devices))
        self._zygote = _zygote(each, log_level, log_format)
        self._on_change = on_change
        self._ready = asyncio.Event()
        self._servers = tuple(
            EmbeddedServer(
                self._zygote,
                WorkerOptions(
                    name=f"heads-{number}" if heads_only else f"worker-{number}",
                    device=device,
                    threads=each,
                    beat_seconds=heartbeat_seconds / _BEATS_PER_LIMIT,
                    workers=devices.count(device),
                    warm_up=tuple(warm_up),
                    heads_only=heads_only,
                    preload=preload,
                ),
                start_seconds,
                heartbeat_seconds,
                batch_seconds,
                self._changed,
            )
            for number, device in enumerate(devices)
        )

    @property
    def servers(self) -> Sequence[EmbeddedServer]:
        """All servers, whether up or not."""
        return self._servers

    @property
    def zygote_pid(self) -> int | None:
        """Process id of the process that workers are forked from, None if there is none."""
        return self._zygote.pid

    def measurements(self) -> Sequence[Measurement]:
        """Return what was measured at the first start of the servers that are up."""
        return [measurement for server in self._servers if server.up for measurement in server.measurements]

    async def start(self) -> None:
        """Start the workers; `wait_ready` tells when one can compute."""
        self._zygote.start()
        for server in self._servers:
            server.start()

    async def wait_ready(self) -> None:
        """Wait until a worker can compute."""
        await self._ready.wait()

    def _changed(self, server: EmbeddedServer) -> None:
        (self._ready.set if any(other.up for other in self._servers) else self._ready.clear)()
        self._on_change(server)

    async def close(self) -> None:
        """End the workers and the process that they are forked from."""
        await asyncio.gather(*(server.close() for server in self._servers))
        await self._zygote.close()


def _zygote(threads: int, log_level: str, log_format: str) -> Zygote:
    environment = {
        "OMP_WAIT_POLICY": "PASSIVE",
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        # NumPy's BLAS starts its threads when it is imported, and is not what models compute with.
        "OPENBLAS_NUM_THREADS": "1",
    }
    return Zygote("worker zygote", "recond_service.backends.embedded.zygote", (log_level, log_format), environment)
