"""A stream that loses its place to another request."""

from __future__ import annotations

from recond_service.scheduling import Ticket
from recond_service.types import OverloadedError


async def end_when_evicted(ticket: Ticket) -> None:
    """Raise OverloadedError when the place of a request goes to another."""
    await ticket.evicted.wait()
    raise OverloadedError(
        "this stream was silent while all places of the service were taken, and another request got its place; send without long "
        "pauses, or come back later",
        reason="STREAM_EVICTED",
        retry_after=1.0,
    )
