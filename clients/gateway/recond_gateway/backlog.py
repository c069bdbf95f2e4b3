"""Scans that an earlier process left in the spool, and images that wait for their console."""

from __future__ import annotations

import threading
from typing import Final

import structlog

from recond_client.errors import RecondError
from recond_gateway.scan.scan import resumed
from recond_gateway.services import Services
from recond_gateway.session.running_scan import RunningScan
from recond_gateway.spool import StoredScan

_EVERY: Final = 10.0
_GLANCE: Final = 0.1

_log = structlog.get_logger(__name__)


class Backlog:
    """Goes through the spool: has reconstructed what waits there, one scan at a time, and removes what was held long enough.

    Parameters
    ----------
    services
        Shared by all sessions.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._stopped = threading.Event()
        self._left = {stored.scan_id for stored in services.spool.scans() if stored.held}
        self._thread = threading.Thread(target=self._work, name="recond-backlog", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for it."""
        self._stopped.set()
        self._services.running.stop()
        self._thread.join()

    def _work(self) -> None:
        while not self._stopped.is_set():
            for stored in self._services.spool.scans():
                if stored.scan_id in self._left and not self._stopped.is_set():
                    self._left.discard(stored.scan_id)
                    self._deliver(stored)
            self._tidy()
            self._stopped.wait(_EVERY)

    def _deliver(self, stored: StoredScan) -> None:
        """Have one scan reconstructed; waits for the service as long as it takes."""
        try:
            scan = resumed(self._services.spool, stored.scan_id, self._services.outgoing())
        except RecondError as error:
            _log.error("scan-lost", scan=stored.scan_id, reason=error.reason)
            return
        _log.info("scan-resumed", scan=stored.scan_id, device=scan.device, complete=stored.complete)
        running = RunningScan(self._services, scan, None)
        running.start()
        while running.wait(_GLANCE) is None and not self._stopped.is_set():
            pass

    def _tidy(self) -> None:
        spool, metrics = self._services.spool, self._services.metrics
        for scan_id in spool.expire(self._services.settings.spool.hold):
            _log.warning("scan-expired", scan=scan_id)
        stored = spool.scans()
        metrics.spool_bytes.set(spool.used_bytes)
        metrics.waiting_scans.set(sum(each.held for each in stored))
        metrics.held_scans.set(sum(not each.held for each in stored))
