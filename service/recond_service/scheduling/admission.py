"""Decides, before a byte is uploaded, whether a request may come in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from recond_service.types import LimitExceededError, OverloadedError, UnavailableError


class Ticket:
    """Leave to hold some bytes. A context manager: leaving it gives them back.

    Parameters
    ----------
    admission
        Where the bytes are counted.
    """

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.held = 0

    def hold(self, size: int) -> None:
        """Hold `size` bytes more (or fewer, if negative). Never refused: what is in has to be able to finish."""
        self.held += size
        self._admission.bytes_held += size

    def __enter__(self) -> Ticket:
        return self

    def __exit__(self, *exception: object) -> None:
        self.hold(-self.held)
        self._admission.leave(self)


class Admission:
    """Counts requests and bytes in flight, and refuses what would go over.

    Parameters
    ----------
    max_requests
        Most requests at once.
    max_bytes
        Most bytes of uploads and frames, all requests together.
    backlog_seconds
        Returns the predicted time until a slot is free, for the retry hint.

    Attributes
    ----------
    bytes_held
        Bytes in flight.
    admitted
        Requests that were ever let in.
    draining
        No more are let in.
    """

    def __init__(self, max_requests: int, max_bytes: int, backlog_seconds: Callable[[], float]) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._backlog_seconds = backlog_seconds
        self._tickets: set[Ticket] = set()
        self._left = asyncio.Event()
        self.bytes_held = 0
        self.admitted = 0
        self.draining = False

    @property
    def requests(self) -> int:
        """Requests that are in."""
        return len(self._tickets)

    def admit(self, size: int) -> Ticket:
        """Let a request of `size` bytes in.

        Raises
        ------
        UnavailableError
            While draining.
        LimitExceededError
            If it would not fit into an empty service.
        OverloadedError
            If it does not fit now; `retry_after` says when to come back.
        """
        if self.draining:
            raise UnavailableError(
                "this service is shutting down; try another one, or this one again later",
                reason="DRAINING",
                retry_after=5.0,
            )
        if size > self._max_bytes:
            raise LimitExceededError(
                f"the request needs {size} bytes in memory; all requests together may have {self._max_bytes}",
                reason="TOO_LARGE",
                field="spec.parts",
            )
        full = len(self._tickets) >= self._max_requests
        if full or self.bytes_held + size > self._max_bytes:
            wait = min(max(self._backlog_seconds(), 0.5), 60.0)
            what = f"{self._max_requests} requests" if full else f"{self.bytes_held} of {self._max_bytes} bytes"
            raise OverloadedError(
                f"the service is full ({what} in flight); try again in {wait:.1f} s",
                reason="OVERLOADED",
                retry_after=wait,
            )
        ticket = Ticket(self)
        self._tickets.add(ticket)
        self.admitted += 1
        ticket.hold(size)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Forget a ticket."""
        self._tickets.discard(ticket)
        self._left.set()

    async def wait_for_empty(self, seconds: float) -> bool:
        """Wait until no request is in, or the time is up; tell which."""
        try:
            async with asyncio.timeout(seconds):
                while self._tickets:
                    self._left.clear()
                    await self._left.wait()
        except TimeoutError:
            return False
        return True
