"""What a call needs: the rooms of the service, and what is known of the call itself."""

from __future__ import annotations

from dataclasses import dataclass

from recond_service.config import Settings
from recond_service.scanprocess import ScanProcessHost
from recond_service.scheduling import Admission, Outlook, Scheduler
from recond_service.telemetry import Metrics, RequestTrace, Tracing


@dataclass(frozen=True, slots=True)
class Rooms:
    """What a call needs of the service."""

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
