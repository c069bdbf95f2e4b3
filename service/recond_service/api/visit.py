"""What surrounds every call of a client: its id, deadline and spans, the status it ends with, logs and metrics."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

import grpc
import structlog

from recond_service.api.errors import status_code, status_details
from recond_service.api.rooms import Caller, Rooms, Visit
from recond_service.api.upload import first_error
from recond_service.telemetry import bind_request
from recond_service.types import (
    DeadlineExceededError,
    DefectError,
    LimitExceededError,
    OverloadedError,
    RecondError,
    UnavailableError,
)

_log = structlog.get_logger(__name__)

_TOO_LATE = frozenset({"DEADLINE_UNREACHABLE", "DEADLINE_IN_QUEUE"})

Answer_co = TypeVar("Answer_co", covariant=True)
Answer = TypeVar("Answer")


class Work(Protocol[Answer_co]):
    """What a call does."""

    stages: dict[str, float]

    @property
    def model(self) -> str:
        """Name of the model that runs; empty while that is not decided."""

    def run(self) -> Coroutine[Any, Any, Answer_co]:
        """Serve the call.

        Raises
        ------
        RecondError
            What keeps it from its answer.
        """


async def serve(
    rooms: Rooms, context: grpc.aio.ServicerContext[Any, Any], begin: Callable[[Visit], Work[Answer]]
) -> Answer:
    """Serve a call; it ends with an answer, or with a status that has details.

    Parameters
    ----------
    rooms
        The service.
    context
        Of the call.
    begin
        Makes the work.
    """
    request_id = uuid.uuid4().hex[:16]
    remaining = context.time_remaining()
    deadline = None if remaining is None else asyncio.get_running_loop().time() + remaining
    trace = rooms.tracing.request(request_id, _text_metadata(context))
    work = begin(Visit(request_id, Caller(caller_name(context), deadline, context.peer()), trace))
    started = time.perf_counter()
    rooms.metrics.requests_in_flight.inc()
    status = "CANCELLED"
    error: RecondError | None = None
    with bind_request(request_id), rooms.calls:
        task = asyncio.create_task(work.run())
        try:
            await asyncio.wait({task})
            error = _error_of(task, deadline)
            status = "OK" if error is None else error.status
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
                _error_of(task, deadline)  # looked at, so that asyncio does not report it as forgotten
            seconds = time.perf_counter() - started
            trace.end(status, work.model, work.stages)
            _count(rooms, status, seconds, work, error)
    if error is not None:
        await context.abort(status_code(error), error.message, status_details(error, request_id))
    return task.result()


def _count(rooms: Rooms, status: str, seconds: float, work: Work[Any], error: RecondError | None) -> None:
    metrics = rooms.metrics
    metrics.requests_in_flight.dec()
    metrics.request_ended(status, seconds, {"total": seconds} | work.stages if status == "OK" else None)
    if error is not None:
        metrics.request_failed(error.status, error.reason)
        full = isinstance(error, (OverloadedError, LimitExceededError, UnavailableError))
        if full or error.reason in _TOO_LATE:
            metrics.request_rejected(error.reason)
    _log.info(
        "request-ended",
        status=status,
        seconds=round(seconds, 4),
        model=work.model,
        stages={name: round(value, 4) for name, value in work.stages.items()},
        **({} if error is None else {"reason": error.reason, "field": error.field}),
    )


def _error_of(task: asyncio.Task[Any], deadline: float | None) -> RecondError | None:
    """Return why a call failed, or None if it did not."""
    if task.cancelled():
        return UnavailableError("this service is shutting down; try another one", reason="DRAINING", retry_after=5.0)
    problem = task.exception()
    if isinstance(problem, BaseExceptionGroup):
        problem = first_error(problem)
    if problem is None or isinstance(problem, RecondError):
        return problem
    if deadline is not None and asyncio.get_running_loop().time() >= deadline:
        return DeadlineExceededError("the deadline passed", reason="DEADLINE")
    _log.error("defect", exc_info=problem)
    return DefectError(
        f"a defect in recond ({type(problem).__name__}); report the request id to the administrator", reason="DEFECT"
    )


def _text_metadata(context: grpc.aio.ServicerContext[Any, Any]) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


def caller_name(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """Return who calls: the name in a client certificate, else the address, else (on this machine) the connection."""
    for name in context.auth_context().get("x509_common_name", ()):
        return name.decode(errors="replace")
    peer = context.peer()
    kind, _, address = peer.partition(":")
    host = address.rpartition(":")[0]
    local = kind not in {"ipv4", "ipv6"} or host.startswith(("127.", "[::1]", "%5B::1%5D"))
    return peer if local else host
