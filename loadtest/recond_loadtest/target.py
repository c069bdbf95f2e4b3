"""A target that is ready: its connections, and its process if the run started it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from recond_loadtest.processes import TargetProcess
from recond_loadtest.target_settings import TargetSettings
from recond_loadtest.wires import HttpWire, KserveWire, MrdWire, RecondWire, Wire, WireError

_LOOK_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Target:
    """What a run drives.

    Parameters
    ----------
    settings
        As in the scenario.
    wire
        The open connections.
    address
        ``HOST:PORT`` or URL.
    metrics
        URL of Prometheus metrics, or empty.
    process
        The processes, if they were started for it.
    start_to_ready
        Seconds, None if the target ran before.
    """

    settings: TargetSettings
    wire: Wire[Any]
    address: str
    metrics: str = ""
    process: TargetProcess | None = None
    start_to_ready: float | None = None

    def describe(self) -> dict[str, Any]:
        """Return plain values for the report."""
        return {"kind": self.settings.kind, "address": self.address, "command": self.settings.command or ""}


@contextmanager
def open_target(settings: TargetSettings, clients: Sequence[str]) -> Iterator[Target]:
    """Start a target if it has a command, connect to it, wait until it is ready; end what was started afterwards.

    Parameters
    ----------
    settings
        What to drive.
    clients
        Names of the clients, each of which gets a connection.

    Raises
    ------
    WireError
        The target does not become ready in time.
    """
    process = TargetProcess(settings) if settings.command is not None else None
    try:
        address = process.address if process else settings.address
        wire = _wire(settings)
        try:
            since = process.started_at if process else time.monotonic()
            wire.connect(address, clients)
            _wait_ready(wire, settings, address, process)
            ready_after = time.monotonic() - since
            metrics = process.metrics if process else settings.metrics
            yield Target(settings, wire, address, metrics, process, ready_after if process else None)
        finally:
            wire.close()
    finally:
        if process is not None:
            process.close()


def _wire(settings: TargetSettings) -> Wire[Any]:
    match settings.kind:
        case "recond":
            return RecondWire()
        case "kserve":
            return KserveWire(settings.model, settings.pad_coils, in_shared_memory=settings.shared_memory)
        case "http":
            return HttpWire(settings.encoding, settings.pad_coils)
        case "mrd":
            return MrdWire(settings.rate)


def _wait_ready(wire: Wire[Any], settings: TargetSettings, address: str, process: TargetProcess | None) -> None:
    end = time.monotonic() + settings.ready_seconds
    while not wire.ready():
        if process is not None and not process.running:
            raise WireError(f"the target ended before it was ready:\n{process.log_tail()}")
        if time.monotonic() > end:
            said = f":\n{process.log_tail()}" if process is not None else ""
            raise WireError(f"{address} was not ready within {settings.ready_seconds:g} s{said}")
        time.sleep(_LOOK_SECONDS)
