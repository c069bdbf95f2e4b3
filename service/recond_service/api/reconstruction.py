"""`ReconstructionService`: ids, deadlines, statuses, logs and metrics around every call."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
import structlog

from recond.v1 import reconstruction_pb2 as pb
from recond.v1 import reconstruction_pb2_grpc as pb_grpc
from recond_service.api.call import Call, Caller, Rooms
from recond_service.api.errors import status_code, status_details
from recond_service.api.upload import Inbox, first_error
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

Context = grpc.aio.ServicerContext[pb.ReconstructRequest, pb.ReconstructResponse]


class ReconstructionServicer(pb_grpc.ReconstructionServiceServicer):
    """Serves `Reconstruct`.

    Parameters
    ----------
    rooms
        The service.
    """

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    async def Reconstruct(  # noqa: N802 - named by the proto
        self, request_iterator: AsyncIterator[pb.ReconstructRequest], context: Context
    ) -> None:
        """Serve one call; see the comments in ``reconstruction.proto``."""
        request_id = uuid.uuid4().hex[:16]
        remaining = context.time_remaining()
        deadline = None if remaining is None else asyncio.get_running_loop().time() + remaining
        inbox = Inbox(request_iterator, self._rooms.settings.upload_idle_seconds)
        trace = self._rooms.tracing.request(request_id, _text_metadata(context))
        call = Call(self._rooms, request_id, Caller(caller_name(context), deadline), inbox, context.write, trace)
        started = time.perf_counter()
        metrics = self._rooms.metrics
        metrics.requests_in_flight.inc()
        status = "CANCELLED"
        error: RecondError | None = None
        with bind_request(request_id):
            work = asyncio.create_task(call.run())
            try:
                await asyncio.wait({work})
                error = _error_of(work, deadline)
                status = "OK" if error is None else error.status
            finally:
                if not work.done():
                    work.cancel()
                    await asyncio.wait({work})
                    _error_of(work, deadline)  # looked at, so that asyncio does not report it as forgotten
                seconds = time.perf_counter() - started
                metrics.requests_in_flight.dec()
                trace.end(status, call.model, call.stages)
                metrics.request_ended(status, seconds, call.stages if status == "OK" else None)
                if error is not None:
                    metrics.request_failed(error.status, error.reason)
                    if (
                        isinstance(error, (OverloadedError, LimitExceededError, UnavailableError))
                        or error.reason in _TOO_LATE
                    ):
                        metrics.request_rejected(error.reason)
                _log.info(
                    "request-ended",
                    status=status,
                    seconds=round(seconds, 4),
                    model=call.model,
                    stages={name: round(value, 4) for name, value in call.stages.items()},
                    **({} if error is None else {"reason": error.reason, "field": error.field}),
                )
        if error is not None:
            await context.abort(status_code(error), error.message, status_details(error, request_id))


def _error_of(work: asyncio.Task[None], deadline: float | None) -> RecondError | None:
    """Return why a call failed, or None if it did not."""
    if work.cancelled():
        return UnavailableError("this service is shutting down; try another one", reason="DRAINING", retry_after=5.0)
    problem = work.exception()
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


def _text_metadata(context: Context) -> dict[str, str]:
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
