"""What surrounds every call: its id, spans, metrics and log, and the status it ends with."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import time
import uuid
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import grpc
import structlog

from recond_service.api.errors import shortened, status_code, status_details
from recond_service.pipeline import Caller, Record, RequestContext
from recond_service.telemetry import Metrics, Tracing, bind_request
from recond_service.types import (
    DeadlineExceededError,
    DefectError,
    LimitExceededError,
    OverloadedError,
    RecondError,
    UnavailableError,
)

_log = structlog.get_logger(__name__)

_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})
_TOO_LATE = frozenset({"DEADLINE_UNREACHABLE", "DEADLINE_IN_QUEUE"})

Answer = TypeVar("Answer")
Context = grpc.aio.ServicerContext[Any, Any]
Begin = Callable[[RequestContext], Coroutine[Any, Any, Answer]]
"""Returns the work of a call."""


class Calls:
    """Serves calls, and counts them: each ends with an answer, or with a status that has details.

    Parameters
    ----------
    tracing
        Makes the spans of a call.
    metrics
        Counts requests and how they end.
    """

    def __init__(self, tracing: Tracing, metrics: Metrics) -> None:
        self._tracing = tracing
        self._metrics = metrics
        self._count = 0
        self._left = asyncio.Event()
        self._came = asyncio.Event()

    async def serve(self, context: Context, begin: Begin[Answer]) -> Answer:
        """Serve a call.

        Parameters
        ----------
        context
            What gRPC knows of the call.
        begin
            Returns its work, which may raise RecondError.
        """
        request_id = uuid.uuid4().hex[:16]
        remaining = context.time_remaining()
        deadline = None if remaining is None else asyncio.get_running_loop().time() + remaining
        trace = self._tracing.request(request_id, _text_metadata(context))
        request = RequestContext(request_id, Caller(caller_name(context), deadline, context.peer()), trace)
        started = time.perf_counter()
        self._metrics.requests_in_flight.inc()
        status = "CANCELLED"
        error: RecondError | None = None
        with bind_request(request_id), self._counted():
            task = asyncio.create_task(begin(request))
            try:
                await asyncio.wait({task})
                error = _error_of(task, deadline)
                status = "OK" if error is None else error.status
            finally:
                if not task.done():
                    task.cancel()
                    await asyncio.wait({task})
                    _error_of(task, deadline)  # looked at, so that asyncio does not report it as forgotten
                trace.end(status, request.record.model, request.record.stages)
                self._note_end(status, time.perf_counter() - started, request.record, error)
        if error is not None:
            await context.abort(status_code(error), shortened(error.message), status_details(error, request_id))
        return task.result()

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        self._count += 1
        self._came.set()
        try:
            yield
        finally:
            self._count -= 1
            self._left.set()

    async def wait_for_pause(self, pause_seconds: float, seconds: float) -> bool:
        """Wait until there has been no call for a while, or until the time is up; tell which.

        Parameters
        ----------
        pause_seconds
            How long no call may have come.
        seconds
            How long to wait for such a pause.
        """
        try:
            async with asyncio.timeout(seconds):
                while True:
                    while self._count:
                        self._left.clear()
                        await self._left.wait()
                    self._came.clear()
                    await asyncio.sleep(pause_seconds)
                    if not self._came.is_set():
                        return True
        except TimeoutError:
            return False

    def _note_end(self, status: str, seconds: float, record: Record, error: RecondError | None) -> None:
        metrics = self._metrics
        metrics.requests_in_flight.dec()
        metrics.request_ended(status, seconds, {"total": seconds} | record.stages if status == "OK" else None)
        if error is not None:
            metrics.request_failed(error.status, error.reason)
            full = isinstance(error, (OverloadedError, LimitExceededError, UnavailableError))
            if full or error.reason in _TOO_LATE:
                metrics.request_rejected(error.reason)
        _log.info(
            "request-ended",
            status=status,
            seconds=round(seconds, 4),
            model=record.model,
            stages={name: round(value, 4) for name, value in record.stages.items()},
            **({} if error is None else {"reason": error.reason, "field": error.field}),
        )


def _error_of(task: asyncio.Task[Any], deadline: float | None) -> RecondError | None:
    """Return why a call failed, or None if it did not."""
    if task.cancelled():
        return UnavailableError("this service is shutting down; try another one", reason="DRAINING", retry_after=5.0)
    problem = task.exception()
    if isinstance(problem, BaseExceptionGroup):
        problem = _first_error(problem)
    if problem is None or isinstance(problem, RecondError):
        return problem
    if isinstance(problem, (grpc.aio.InternalError, grpc.aio.UsageError)):
        # What gRPC raises where a call is read or written to that its client has ended, before it cancels the work.
        return UnavailableError("the client ended the call", reason="CLIENT_GONE")
    if isinstance(problem, OSError) and problem.errno in _NO_DESCRIPTORS:
        return OverloadedError(
            "this service has as many files open as it may; come back later, and have its limit of open files raised",
            reason="NO_DESCRIPTORS",
            retry_after=1.0,
        )
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


def _first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error of a task group that tells most: the service's own before any other."""
    own, other = group.split(RecondError)
    found: BaseException = own if own is not None else other if other is not None else group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
