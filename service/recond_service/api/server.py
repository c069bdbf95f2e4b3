"""Puts the rooms together behind one gRPC server, and takes them apart in order."""

from __future__ import annotations

import asyncio
import errno
import socket
from pathlib import Path

import grpc
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection
from tritonclient.grpc import service_pb2_grpc as kserve_pb2_grpc

from recond.v1 import analysis_pb2, model_pb2, model_pb2_grpc, reconstruction_pb2
from recond_models import registry
from recond_service.api.analyze import AnalysisServicer
from recond_service.api.analyze import add_to as add_analysis
from recond_service.api.calls import Calls
from recond_service.api.kserve.servicer import KServeServicer
from recond_service.api.models import ModelServicer
from recond_service.api.observation import SchedulerObserver
from recond_service.api.reconstruct.servicer import ReconstructionServicer
from recond_service.api.reconstruct.servicer import add_to as add_reconstruction
from recond_service.backends import ALL_WORK, Backend, EmbeddedBackend, JoinedBackend, ModelServer, Work
from recond_service.config import Settings, SettingsError, read_weights, split_address
from recond_service.pipeline import Services
from recond_service.processes import FreedMemory
from recond_service.scan import scan_sandboxes
from recond_service.scheduling import Admission, Scheduler, UploadCosts
from recond_service.telemetry import Metrics, MetricsServer, Tracing, TracingUnavailableError
from recond_service.types import UnavailableError

_log = structlog.get_logger(__name__)

_LOOK_SECONDS = 1.0
_PAUSE_SECONDS, _LONGEST_WAIT_FOR_PAUSE = 0.02, 3.0
_STOP_SECONDS = 0.5
_ANALYSIS = analysis_pb2.DESCRIPTOR.services_by_name["AnalysisService"].full_name
_RECONSTRUCTION = reconstruction_pb2.DESCRIPTOR.services_by_name["ReconstructionService"].full_name
_KSERVE = "inference.GRPCInferenceService"
_MODELS = model_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name


class Server:
    """A whole service: front end, zygote, worker.

    Parameters
    ----------
    settings
        How to run it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.metrics = Metrics()
        self.tracing = _tracing(settings)
        loop = asyncio.get_running_loop()
        self.backend = self._make_backend()
        self.scheduler = Scheduler(
            self.backend.servers,
            loop.time,
            observer=SchedulerObserver(self.metrics, self.tracing),
            weights=read_weights(settings.admission.client_weights),
            ageing_seconds=settings.admission.ageing_seconds,
        )
        self.admission = Admission(
            settings.admission.max_requests,
            int(settings.admission.max_bytes_in_flight),
            settings.admission.max_backlog_seconds,
            lambda: self.scheduler.capacity,
            loop.time,
            # Where no server runs heads, those that there are say so.
            head_capacity=lambda: self.scheduler.capacity_for(
                "heads" if self.scheduler.does("heads") else "reconstruction"
            ),
        )
        self.upload_costs = UploadCosts()
        self.sandboxes = scan_sandboxes(lambda: self.admission.requests < 2, settings.scans.scan_process_requests)
        self._health = health_aio.HealthServicer()
        self._health_changes: set[asyncio.Task[None]] = set()
        self._serving: frozenset[Work] = frozenset()
        self._models_published: frozenset[str] = frozenset()
        self._calls = Calls(self.tracing, self.metrics)
        self._servers_up: set[str] = set()
        self._no_worker: dict[Work, asyncio.TimerHandle] = {}
        self._idling: asyncio.Task[None] | None = None
        self._metrics_server: MetricsServer | None = None
        self.metrics.bytes_in_flight.set_function(lambda: self.admission.bytes_held)
        self.metrics.queue_frames.set_function(lambda: self.scheduler.waiting)
        self.metrics.backlog.set_function(self.scheduler.backlog_seconds)
        for server in self.backend.servers:
            self.metrics.server_up.labels(server.name).set(0)
            self.metrics.server_lost.labels(server.name)
        self._grpc = self._build()
        self.port = 0

    def _make_backend(self) -> Backend:
        settings = self._settings
        if settings.models.backend == "triton":
            # Only who uses Triton pays for loading its client.
            from recond_service.backends.triton.backend import TritonBackend  # noqa: PLC0415

            fleet = TritonBackend(
                settings.triton.addresses,
                batch_seconds=settings.models.batch_seconds,
                shared_memory=settings.triton.triton_shared_memory,
                ca=settings.triton.triton_ca,
                on_change=self._on_server,
            )
            heads = settings.triton.head_workers
            return JoinedBackend(fleet, self._make_workers(heads, heads_only=True)) if heads else fleet
        return self._make_workers(settings.models.workers)

    def _make_workers(self, workers: int, *, heads_only: bool = False) -> EmbeddedBackend:
        settings = self._settings
        return EmbeddedBackend(
            settings.models.compute_threads,
            settings.models.worker_start_seconds,
            settings.models.worker_heartbeat_seconds,
            settings.telemetry.log_level,
            settings.telemetry.log_format,
            self._on_server,
            workers=workers,
            batch_seconds=settings.models.batch_seconds,
            warm_up=() if heads_only else settings.models.warm_up_frames,
            heads_only=heads_only,
            preload=settings.models.preloaded,
        )

    def _build(self) -> grpc.aio.Server:
        services = Services(
            self._settings, self.admission, self.scheduler, self.upload_costs, self.sandboxes, self.metrics
        )
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", int(self._settings.limits.max_message_bytes)),
                ("grpc.max_send_message_length", -1),
                # Clients look after us every 30 s, and gRPC itself measures the line with pings: a call that takes minutes to its
                # first image must not be cut off for them.
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
                ("grpc.http2.max_ping_strikes", 0),
                ("grpc.so_reuseport", 0),  # a second service on the same port is a mistake, not a replica
            ]
        )
        add_reconstruction(server, ReconstructionServicer(self._calls, services))
        add_analysis(server, AnalysisServicer(self._calls, services))
        models = ModelServicer(lambda work: self.scheduler.capacity_for(work) > 0, self.metrics)
        model_pb2_grpc.add_ModelServiceServicer_to_server(models, server)
        kserve_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(KServeServicer(self._calls, services), server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = (
            _RECONSTRUCTION,
            _ANALYSIS,
            _MODELS,
            _KSERVE,
            health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
            reflection.SERVICE_NAME,
        )
        reflection.enable_server_reflection(names, server)
        return server

    async def start(self) -> None:
        """Listen, and wait until a worker can compute.

        Raises
        ------
        SettingsError
            If the address cannot be bound or the certificates cannot be used.
        UnavailableError
            If the worker does not come up.
        """
        self._listen()
        self._publish_health(frozenset())
        await self._health.set(_MODELS, health_pb2.HealthCheckResponse.SERVING)
        await self._grpc.start()
        self._idling = asyncio.create_task(self._give_back_memory())
        await self.sandboxes.start()
        await self.backend.start()
        try:
            async with asyncio.timeout(self._settings.models.worker_start_seconds):
                await self.backend.wait_ready()
        except TimeoutError:
            raise UnavailableError(
                f"no worker came up within {self._settings.models.worker_start_seconds:g} s; see the log above",
                reason="NO_WORKER",
            ) from None

    async def _give_back_memory(self) -> None:
        """Give freed memory back whenever there is no request for a while; look after the list of models."""
        memory = FreedMemory()
        seen = 0
        while True:
            memory.look(working=self.admission.requests > 0 or self.admission.admitted != seen)
            seen = self.admission.admitted
            if self._models_published != _model_names():
                self._publish_health(self._serving)  # a model was added or removed meanwhile
            await asyncio.sleep(_LOOK_SECONDS)

    def _listen(self) -> None:
        settings = self._settings
        try:
            if settings.server.metrics_listen:
                self._metrics_server = MetricsServer(self.metrics, *split_address(settings.server.metrics_listen))
        except OSError as error:
            raise SettingsError(f"metrics_listen {settings.server.metrics_listen}: {error.strerror}") from error
        try:
            if settings.tls.tls_certificate is None or settings.tls.tls_key is None:
                self.port = self._grpc.add_insecure_port(settings.server.listen)
            else:
                credentials = _tls(settings.tls.tls_certificate, settings.tls.tls_key, settings.tls.tls_client_ca)
                self.port = self._grpc.add_secure_port(settings.server.listen, credentials)
        except RuntimeError as error:
            raise SettingsError(_why_not_listening(settings.server.listen)) from error

    @property
    def metrics_port(self) -> int | None:
        """Port of the HTTP server for /metrics, None if there is none."""
        return self._metrics_server.port if self._metrics_server else None

    def _on_server(self, server: ModelServer) -> None:
        """Take note that a model server has come up or gone down, or has other models."""
        self.metrics.server_up.labels(server.name).set(int(server.up))
        if server.up:
            self._servers_up.add(server.name)
        elif server.name in self._servers_up:
            self._servers_up.remove(server.name)
            self.metrics.server_lost.labels(server.name).inc()
        up = frozenset(work for work in ALL_WORK if self.scheduler.capacity_for(work) > 0)
        if up != self._serving:
            self._publish_health(frozenset() if self.admission.draining else up)
        if server.up:
            self.scheduler.learn(self.backend.measurements())
        self.scheduler.dispatch()
        for work in filter(self.scheduler.does, ALL_WORK):
            if work in up and work in self._no_worker:
                self._no_worker.pop(work).cancel()
            elif work not in up and work not in self._no_worker:
                self._limit_waiting(work)

    def _limit_waiting(self, work: Work) -> None:
        seconds = self._settings.models.worker_start_seconds
        self._no_worker[work] = asyncio.get_running_loop().call_later(seconds, self._give_up_waiting, work)

    def _give_up_waiting(self, work: Work) -> None:
        self._limit_waiting(work)  # requests that are let in for other work may still name a head
        self.scheduler.refuse_waiting(
            UnavailableError(
                f"no model server for {work} came up for {self._settings.models.worker_start_seconds:g} s; try another service, or "
                "this one later",
                reason="NO_WORKER",
                retry_after=10.0,
            ),
            {work} if self.scheduler.does("heads") else ALL_WORK,
        )

    def _publish_health(self, serving: frozenset[Work]) -> None:
        """Set the health of the service as a whole, of its services and of every model, after the work that can be done."""
        not_serving = health_pb2.HealthCheckResponse.NOT_SERVING
        removed = self._models_published
        self._serving, self._models_published = serving, _model_names()
        status = health_pb2.HealthCheckResponse.SERVING if "reconstruction" in serving else not_serving
        changes = dict.fromkeys(("", _RECONSTRUCTION, *sorted(self._models_published)), status)
        changes[_ANALYSIS] = health_pb2.HealthCheckResponse.SERVING if "heads" in serving else not_serving
        changes |= dict.fromkeys(sorted(removed - self._models_published), not_serving)
        for name, state in changes.items():
            task = asyncio.get_running_loop().create_task(self._health.set(name, state))
            self._health_changes.add(task)
            task.add_done_callback(self._health_changes.discard)

    async def drain(self) -> None:
        """Let accepted requests finish, for at most `drain_seconds`, and refuse new ones; then stop listening."""
        self.admission.draining = True
        await self._health.enter_graceful_shutdown()
        _log.info("draining", requests=self.admission.requests)
        if not await self.admission.wait_for_empty(self._settings.server.drain_seconds):
            _log.warning("drain-incomplete", requests=self.admission.requests)
            return
        # What has come and not yet reached the event loop when gRPC stops is cancelled, not refused: stop in a pause.
        await self._calls.wait_for_pause(_PAUSE_SECONDS, _LONGEST_WAIT_FOR_PAUSE)
        await self._grpc.stop(_STOP_SECONDS)

    async def stop(self) -> None:
        """Stop at once. Whoever is still in gets UNAVAILABLE."""
        self.admission.draining = True
        await self._grpc.stop(_STOP_SECONDS)
        await self.scheduler.close()
        await self.backend.close()
        await self.sandboxes.close()
        for timer in self._no_worker.values():
            timer.cancel()
        if self._idling is not None:
            self._idling.cancel()
        if self._metrics_server is not None:
            self._metrics_server.close()
        self.tracing.close()


def _tracing(settings: Settings) -> Tracing:
    try:
        return Tracing(settings.telemetry.otlp_endpoint)
    except TracingUnavailableError as error:
        raise SettingsError(f"otlp_endpoint: {error}") from error


def _model_names() -> frozenset[str]:
    return frozenset(info.name for info in registry.available())


def _why_not_listening(address: str) -> str:
    """Return why gRPC, which does not say, could not listen on an address, and what to do."""
    host, port = split_address(address)
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            probe.listen()
    except socket.gaierror:
        return (
            f"cannot listen on {address}: {host!r} is not an address of this machine: choose another host with listen"
        )
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return f"cannot listen on {address}: the port is taken: end what uses it, or choose another with listen"
        return f"cannot listen on {address}: {error.strerror}: choose another address with listen"
    return f"cannot listen on {address}: it could not be bound: try again, or choose another address with listen"


def _tls(certificate: Path, key: Path, client_ca: Path | None) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(key.read_bytes(), certificate.read_bytes())],
        root_certificates=None if client_ca is None else client_ca.read_bytes(),
        require_client_auth=client_ca is not None,
    )
