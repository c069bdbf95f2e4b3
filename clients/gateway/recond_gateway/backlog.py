"""Scans that an earlier process left in the spool, and images that wait for their console."""

from __future__ import annotations

import threading
from typing import Final

import structlog

from recond_client.errors import RecondError
from recond_gateway.scan.scan import resumed
from recond_gateway.scan.summary import error_line
from recond_gateway.services import Services
from recond_gateway.session.delivered import LINE
from recond_gateway.session.running_scan import RunningScan
from recond_gateway.spool import SpoolError, StoredScan

_EVERY: Final = 10.0
_GLANCE: Final = 0.1
_CUT_OFF: Final = "The gateway ended while this scan was measured: its images are of what had come until then."
_PATIENCE: Final = 300.0
"""Seconds without anything from the service until other scans are begun beside one."""

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
            try:
                for stored in self._services.spool.scans():
                    if stored.scan_id in self._left and not self._stopped.is_set():
                        self._left.discard(stored.scan_id)
                        self._deliver(stored)
                self._tidy()
            except Exception:  # noqa: BLE001 - a disk that fails must not end what looks after it
                _log.exception("backlog-failed")
            self._stopped.wait(_EVERY)

    def _deliver(self, stored: StoredScan) -> None:
        """Have one scan reconstructed; waits for the service as long as it takes."""
        try:
            scan = resumed(self._services.spool, stored.scan_id, self._services.outgoing())
        except KeyError:
            return  # its images were there already, and its console came for them
        except RecondError as error:
            _log.error("scan-lost", scan=stored.scan_id, reason=error.reason)
            self._tell_lost(stored, error)
            return
        _log.info("scan-resumed", scan=stored.scan_id, device=scan.device, complete=stored.complete)
        running = RunningScan(self._services, scan, None)
        if not stored.complete:
            running.notice(_CUT_OFF)
        running.start()
        while running.wait(_GLANCE) is None and not self._stopped.is_set():
            # One that the service never answers holds up no other one.
            if running.idle_seconds > _PATIENCE and not running.away:
                _log.warning("scan-stuck", scan=stored.scan_id, seconds=round(running.idle_seconds))
                return

    def _tell_lost(self, stored: StoredScan, error: RecondError) -> None:
        """Leave word for the console of a scan that cannot be read."""
        try:
            word = self._services.spool.begin(stored.scan_id, {"device": stored.about.get("device")}, "images")
            word.append(LINE, b"ERROR", error_line(error, stored.scan_id).encode())
            word.finish(complete=True)
        except SpoolError as failed:
            _log.warning("images-not-held", scan=stored.scan_id, reason=failed.reason)

    def _tidy(self) -> None:
        spool, metrics = self._services.spool, self._services.metrics
        waiting = {each.scan_id for each in spool.scans() if each.held and not each.damaged}
        for scan_id in spool.expire(self._services.settings.spool.hold, waiting):
            _log.warning("scan-expired", scan=scan_id)
        stored = spool.scans()
        metrics.spool_bytes.set(spool.used_bytes)
        metrics.waiting_scans.set(sum(each.held for each in stored))
        metrics.held_scans.set(sum(not each.held for each in stored))
