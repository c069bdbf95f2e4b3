"""What is known of a request beside what it asks for."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Self

from recond_service.telemetry import RequestTrace


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls.

    Parameters
    ----------
    name
        For fairness between clients.
    deadline
        When nobody waits any more, on the clock of the event loop; None for never.
    connection
        The connection of the call.
    """

    name: str
    deadline: float | None = None
    connection: str = ""


@dataclass(slots=True)
class Record:
    """What a request came to, for logs and metrics, also when it fails.

    Attributes
    ----------
    model
        Name of the model that runs; empty while that is not decided.
    stages
        Seconds by stage.
    """

    model: str = ""
    stages: dict[str, float] = field(default_factory=dict)

    def add(self, stage: str, seconds: float) -> None:
        """Add seconds to a stage."""
        self.stages[stage] = self.stages.get(stage, 0.0) + seconds


@dataclass(frozen=True, slots=True)
class RequestContext:
    """What is known of a request beside what it asks for.

    Parameters
    ----------
    request_id
        Names it in logs and errors.
    caller
        Who calls, and until when.
    trace
        Its spans.
    record
        What it came to.
    """

    request_id: str
    caller: Caller
    trace: RequestTrace
    record: Record = field(default_factory=Record)


class Elapsed:
    """Seconds since it was made, until it is stopped."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._end: float | None = None

    def stop(self) -> None:
        """Hold the clock."""
        self._end = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return (time.perf_counter() if self._end is None else self._end) - self._start


class BusyTime:
    """Seconds during which at least one of several pieces of work was going on. Each piece is a ``with`` block."""

    def __init__(self) -> None:
        self._pieces = 0
        self._since = 0.0
        self._sum = 0.0

    def __enter__(self) -> Self:
        if self._pieces == 0:
            self._since = time.perf_counter()
        self._pieces += 1
        return self

    def __exit__(self, *exception: object) -> None:
        self._pieces -= 1
        if self._pieces == 0:
            self._sum += time.perf_counter() - self._since

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return self._sum + (time.perf_counter() - self._since if self._pieces else 0.0)
