"""What all sessions of a gateway share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from recond_client.client import Client
from recond_gateway.config import Settings
from recond_gateway.scan.delivery import Delivery
from recond_gateway.scan.outgoing import Outgoing
from recond_gateway.spool import Spool
from recond_gateway.telemetry import Metrics


class Running:
    """Deliveries that are running, so that they can be stopped with the gateway."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._deliveries: dict[str, Delivery] = {}
        self._stopped = False

    def add(self, scan_id: str, delivery: Delivery) -> None:
        """Enter a delivery; it is stopped at once if the gateway ends."""
        with self._lock:
            self._deliveries[scan_id] = delivery
            stopped = self._stopped
        if stopped:
            delivery.stop()

    def remove(self, scan_id: str) -> None:
        """Take out a delivery that has ended."""
        with self._lock:
            self._deliveries.pop(scan_id, None)

    def __contains__(self, scan_id: str) -> bool:
        with self._lock:
            return scan_id in self._deliveries

    @property
    def stopped(self) -> bool:
        """Whether the gateway ends."""
        return self._stopped

    def stop(self) -> None:
        """Stop all, and all that come."""
        with self._lock:
            self._stopped = True
            running = list(self._deliveries.values())
        for delivery in running:
            delivery.stop()


class Returns:
    """Scans whose images are on their way to a console that came back, each to one at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._scans: set[str] = set()

    def begin(self, scan_id: str) -> bool:
        """Enter a scan; tell whether it was not there."""
        with self._lock:
            new = scan_id not in self._scans
            self._scans.add(scan_id)
            return new

    def end(self, scan_id: str) -> None:
        """Take out a scan."""
        with self._lock:
            self._scans.discard(scan_id)


@dataclass(slots=True)
class Services:
    """What all sessions of a gateway share.

    Parameters
    ----------
    settings
        Of the gateway.
    client
        A connection to the service.
    spool
        Scans and images on their way.
    metrics
        Of the gateway.
    outgoing
        Makes what takes out of a scan what stays here, one for each scan.
    running
        Deliveries.
    returns
        Scans whose images go to a console that came back.
    """

    settings: Settings
    client: Client
    spool: Spool
    metrics: Metrics
    outgoing: Callable[[], Outgoing]
    running: Running = field(default_factory=Running)
    returns: Returns = field(default_factory=Returns)
