"""What a call needs: the rooms of the service, and what is known of the call itself."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from recond_service.config import Settings
from recond_service.scanprocess import ScanProcessHost
from recond_service.scheduling import Admission, Outlook, Scheduler
from recond_service.telemetry import Metrics, RequestTrace, Tracing


class CallCount:
    """Calls that are being served, entered one by one with ``with``."""

    def __init__(self) -> None:
        self._count = 0
        self._left = asyncio.Event()
        self._came = asyncio.Event()

    def __enter__(self) -> None:
        self._count += 1
        self._came.set()

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        self._left.set()

    async def wait_for_pause(self, pause_seconds: float, seconds: float) -> bool:
        """Wait until there has been no call for a while, or until the time is up; tell which.

        Parameters
        ----------
        pause_seconds
            How long.
        seconds
            Longest wait.
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


@dataclass(frozen=True, slots=True)
class Rooms:
    """What a call needs of the service."""

    calls: CallCount
    settings: Settings
    admission: Admission
    scheduler: Scheduler
    outlook: Outlook
    scan_processes: ScanProcessHost
    metrics: Metrics
    tracing: Tracing


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls.

    Parameters
    ----------
    name
        For fairness between clients.
    deadline
        On the clock of the event loop, or None.
    connection
        The connection of the call.
    """

    name: str
    deadline: float | None
    connection: str = ""


@dataclass(frozen=True, slots=True)
class Visit:
    """What a call knows of itself.

    Parameters
    ----------
    request_id
        Names it in logs and errors.
    caller
        Who calls, and until when.
    trace
        Its spans.
    """

    request_id: str
    caller: Caller
    trace: RequestTrace
