"""A peer that speaks the wire contract as a script tells it, over a real connection."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import numpy as np
from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from recond.v1 import model_pb2, model_pb2_grpc, reconstruction_pb2_grpc
from recond.v1 import reconstruction_pb2 as pb

Script = Callable[["Conversation"], Awaitable[None]]


class Conversation:
    """One call as the peer sees it."""

    def __init__(self, requests: Any, context: grpc.aio.ServicerContext) -> None:
        self._requests = aiter(requests)
        self.context = context
        self.received: list[pb.ReconstructRequest] = []

    async def receive(self) -> pb.ReconstructRequest | None:
        try:
            message = await anext(self._requests)
        except StopAsyncIteration:
            return None
        self.received.append(message)
        return message

    async def receive_all(self) -> None:
        while await self.receive() is not None:
            pass

    async def send(self, **fields: Any) -> None:
        await self.context.write(pb.ReconstructResponse(**fields))

    async def accept(self, request_id: str = "r-1") -> None:
        await self.receive()
        await self.send(accepted=pb.Accepted(request_id=request_id))

    async def plan(self, images: int, model: str = "rss") -> None:
        await self.send(plan=pb.Plan(model=model, version="1", reason="because", images=images))

    async def image(self, number: int, pixels: np.ndarray, **index: int) -> None:
        rows, columns = pixels.shape
        await self.send(
            image=pb.Image(
                index=pb.ImageIndex(image=number, **index),
                rows=rows,
                columns=columns,
                pixels=pixels.astype("<f4").tobytes(),
            )
        )

    async def summary(self, order: list[int], rows: int, columns: int, **fields: Any) -> None:
        await self.send(
            summary=pb.Summary(
                model="rss",
                version="1",
                images=len(order),
                shape=(len(order), rows, columns),
                order=order,
                seconds=pb.Timings(compute=0.25, total=0.5),
                **fields,
            )
        )

    async def abort(self, code: grpc.StatusCode, message: str, *details: Any) -> None:
        await self.context.abort(code, message, trailing(code, message, *details))


def trailing(code: grpc.StatusCode, message: str, *details: Any) -> tuple[tuple[str, bytes], ...]:
    status = status_pb2.Status(code=code_pb2.Code.Value(code.name), message=message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return (("grpc-status-details-bin", status.SerializeToString()),)


def reason(text: str) -> error_details_pb2.ErrorInfo:
    return error_details_pb2.ErrorInfo(reason=text, domain="recond")


def bad_field(text: str) -> error_details_pb2.BadRequest:
    return error_details_pb2.BadRequest(
        field_violations=[error_details_pb2.BadRequest.FieldViolation(field=text, description="wrong")]
    )


def retry_in(seconds: float) -> error_details_pb2.RetryInfo:
    delay = duration_pb2.Duration()
    delay.FromNanoseconds(int(seconds * 1e9))
    return error_details_pb2.RetryInfo(retry_delay=delay)


def request_info(text: str) -> error_details_pb2.RequestInfo:
    return error_details_pb2.RequestInfo(request_id=text)


@dataclass
class Peer(reconstruction_pb2_grpc.ReconstructionServiceServicer):
    """Plays the scripts one after another, the last of them for ever."""

    scripts: list[Script] = field(default_factory=list)
    calls: list[Conversation] = field(default_factory=list)
    called: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    models: list[model_pb2.Model] = field(default_factory=list)
    serving: list[int] = field(default_factory=lambda: [health_pb2.HealthCheckResponse.SERVING])
    port: int = 0
    loop: asyncio.AbstractEventLoop | None = None

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def Reconstruct(self, request_iterator: Any, context: grpc.aio.ServicerContext) -> None:  # noqa: N802
        script = self.scripts[min(len(self.calls), len(self.scripts) - 1)]
        conversation = Conversation(request_iterator, context)
        self.calls.append(conversation)
        self.called.set()
        try:
            await script(conversation)
        finally:
            self.ended.set()


class Models(model_pb2_grpc.ModelServiceServicer):
    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    async def ListModels(self, request: Any, context: Any) -> model_pb2.ListModelsResponse:  # noqa: N802
        return model_pb2.ListModelsResponse(models=self.peer.models)

    async def GetModel(self, request: Any, context: Any) -> model_pb2.GetModelResponse:  # noqa: N802
        for model in self.peer.models:
            if model.name == request.name:
                return model_pb2.GetModelResponse(model=model)
        code = grpc.StatusCode.NOT_FOUND
        await context.abort(code, "no such model", trailing(code, "no such model", reason("MODEL_NOT_FOUND")))
        raise AssertionError


class Health(health_pb2_grpc.HealthServicer):
    def __init__(self, peer: Peer) -> None:
        self.peer = peer

    async def Check(self, request: Any, context: Any) -> health_pb2.HealthCheckResponse:  # noqa: N802
        if request.service:
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        status = self.peer.serving[0] if len(self.peer.serving) == 1 else self.peer.serving.pop(0)
        return health_pb2.HealthCheckResponse(status=status)


class Running:
    """An event loop in a thread, with the peer's server in it."""

    def __init__(self, peer: Peer, credentials: grpc.ServerCredentials | None = None) -> None:
        self.peer = peer
        self.credentials = credentials
        self.loop = asyncio.new_event_loop()
        peer.loop = self.loop
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.server: grpc.aio.Server | None = None
        started: futures.Future[None] = futures.Future()
        self.started = started
        self.thread.start()
        started.result(timeout=10)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self._start())
        self.started.set_result(None)
        self.loop.run_forever()
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def restart(self) -> None:
        """Come back where it was."""
        asyncio.run_coroutine_threadsafe(self._start(self.peer.port), self.loop).result(timeout=10)

    async def _start(self, port: int = 0) -> None:
        self.server = grpc.aio.server()
        reconstruction_pb2_grpc.add_ReconstructionServiceServicer_to_server(self.peer, self.server)
        model_pb2_grpc.add_ModelServiceServicer_to_server(Models(self.peer), self.server)
        health_pb2_grpc.add_HealthServicer_to_server(Health(self.peer), self.server)
        if self.credentials is None:
            self.peer.port = self.server.add_insecure_port(f"127.0.0.1:{port}")
        else:
            self.peer.port = self.server.add_secure_port(f"127.0.0.1:{port}", self.credentials)
        await self.server.start()

    def stop(self) -> None:
        """Go away at once."""
        if self.server is not None:
            asyncio.run_coroutine_threadsafe(self.server.stop(None), self.loop).result(timeout=10)
            self.server = None

    def close(self) -> None:
        self.stop()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(timeout=10)
