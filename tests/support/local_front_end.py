"""A front end within the process of a test, with a `LocalServer` behind it: its state can be awaited, and its clock set forward."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc
from local_server import LocalServer
from tritonclient.grpc import service_pb2_grpc as kserve_grpc
from waiting import eventually_async

from recond.v1 import reconstruction_pb2_grpc as pb_grpc
from recond_service.api.calls import Calls
from recond_service.api.kserve.servicer import KServeServicer
from recond_service.api.reconstruct.servicer import ReconstructionServicer
from recond_service.config import Settings
from recond_service.pipeline import Services
from recond_service.scan import scan_sandboxes
from recond_service.scheduling import Admission, Scheduler, UploadCosts
from recond_service.telemetry import Metrics, Tracing


@dataclass
class LocalFrontEnd:
    """What a test may look at; `ahead` is by how many seconds the clock of the admission has been set forward."""

    address: str
    backend: LocalServer
    services: Services
    channel: grpc.aio.Channel
    ahead: float = 0.0

    async def idle(self) -> None:
        """Wait until nothing is in flight any more, and check that nothing was left behind."""
        admission, scheduler = self.services.admission, self.services.scheduler
        await eventually_async(lambda: not (admission.requests or scheduler.running or scheduler.waiting))
        assert admission.bytes_held == 0


@contextlib.asynccontextmanager
async def local_front_end(settings: Settings, *, sandboxes: bool = True) -> AsyncIterator[LocalFrontEnd]:
    """Serve both protocols; without sandboxes, KServe alone."""
    loop = asyncio.get_running_loop()
    backend = LocalServer()
    scheduler = Scheduler(backend.servers, loop.time)
    admission = Admission(
        settings.admission.max_requests, 1 << 28, 60.0, lambda: scheduler.capacity, lambda: loop.time() + found.ahead
    )
    metrics = Metrics()
    pool = scan_sandboxes(most_requests=settings.scans.scan_process_requests)
    services = Services(settings, admission, scheduler, UploadCosts(), pool, metrics)
    calls = Calls(Tracing(), metrics)
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 4 << 20)])
    pb_grpc.add_ReconstructionServiceServicer_to_server(ReconstructionServicer(calls, services), server)
    kserve_grpc.add_GRPCInferenceServiceServicer_to_server(KServeServicer(calls, services), server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    async with grpc.aio.insecure_channel(address) as channel:
        found = LocalFrontEnd(address, backend, services, channel)
        if sandboxes:
            await pool.start()
        await server.start()
        yield found
        backend.gate.set()
        await found.idle()
    await server.stop(None)
    await scheduler.close()
    if sandboxes:
        await pool.close()
