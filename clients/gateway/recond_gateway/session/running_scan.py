"""A scan whose images are on their way, with or without its console."""

from __future__ import annotations

import threading
import time

import structlog

from recond_client.errors import ServiceError
from recond_gateway.scan.delivery import Delivery, Outcome
from recond_gateway.scan.scan import Scan
from recond_gateway.scan.summary import error_line, incomplete_line, summary_line
from recond_gateway.services import Services
from recond_gateway.session.console import Way
from recond_gateway.session.delivered import Deliverer
from recond_gateway.spool import SpoolError

_GLANCE = 0.02

_log = structlog.get_logger(__name__)


class RunningScan:
    """Delivers a scan in a thread of its own, which goes on when the console is gone.

    Parameters
    ----------
    services
        Shared by all sessions.
    scan
        What is delivered; its readouts may still be coming.
    console
        None for a scan without one.
    """

    def __init__(self, services: Services, scan: Scan, console: Way | None) -> None:
        self.scan = scan
        self._services = services
        self._began = time.monotonic()
        self._deliverer = Deliverer(scan, services.spool, services.metrics, console)
        self._delivery = Delivery(
            services.client, scan.sent_header, scan.feed, scan.groups, scan.pipeline, self._deliverer
        )
        self._outcome: Outcome | None = None
        self._settled = threading.Lock()
        self._attended = console is not None
        self._kept = False
        services.running.add(scan.scan_id, self._delivery)
        self._thread = threading.Thread(target=self._run, name=f"recond-scan-{scan.scan_id}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def notice(self, message: str) -> None:
        """Tell the operator something, now or when the console comes back."""
        self._deliverer.notice(message)

    def attend(self, console: Way) -> Outcome | None:
        """Wait for what comes of the scan, whose last readout is in; None if its console is gone or has waited long enough.

        That is as long as the settings say for a service that is away; for one that brings nothing, so long and twice the deadline
        of an image. None also where the gateway is stopped before: then `held_up` says why.
        """
        ended = time.monotonic()
        patience = self._services.settings.service.wait
        while (outcome := self.wait(_GLANCE)) is None:
            waited = time.monotonic() - ended
            stuck = min(waited, self.idle_seconds) > patience + 2 * self.scan.pipeline.slice_deadline
            if console.gone or stuck or (self.away and waited > patience):
                return None
        return None if outcome.stopped else outcome

    @property
    def held_up(self) -> str:
        """Why there are not all images yet, as a sentence without its end."""
        if self._services.running.stopped:
            return "the gateway is being stopped"
        if self.away:
            return "the service is away"
        return f"the service has brought nothing for {self.idle_seconds:.0f} s"

    def wait(self, seconds: float) -> Outcome | None:
        """Wait for the end; None if it takes longer."""
        self._thread.join(seconds)
        return None if self._thread.is_alive() else self._outcome

    @property
    def away(self) -> bool:
        """Whether the service cannot be reached, as far as is known."""
        return self._delivery.outcome.away

    @property
    def idle_seconds(self) -> float:
        """Seconds since anything came of the scan."""
        return time.monotonic() - self._deliverer.progress_at

    def line(self, outcome: Outcome) -> str:
        """Return the line that ends it well."""
        return summary_line(self.scan, outcome, time.monotonic() - self._began)

    def leave(self) -> None:
        """Go on without the console: images go to the spool alone, and stay there."""
        self.scan.finish(complete=False)  # where it has not ended: nothing more is going to come
        self._deliverer.detach()
        with self._settled:
            self._attended = False
            if self._outcome is not None:
                self._settle(self._outcome)

    def discard(self) -> None:
        """Keep nothing: the console has everything."""
        try:
            self._services.spool.remove(self.scan.scan_id)
        except SpoolError as error:
            _log.warning("scan-not-removed", scan=self.scan.scan_id, reason=error.reason)

    def _run(self) -> None:
        outcome = self._delivery.outcome
        try:
            outcome = self._delivery.run()
        except Exception as error:  # noqa: BLE001 - the last resort of a thread: told, logged, counted
            _log.exception("delivery-failed", scan=self.scan.scan_id)
            outcome.error = ServiceError(
                f"the gateway is at fault ({type(error).__name__}): tell its administrator",
                status="INTERNAL",
                reason="GATEWAY_FAILED",
            )
        finally:
            self._services.running.remove(self.scan.scan_id)
            with self._settled:
                self._outcome = outcome
                if not self._attended:
                    self._settle(outcome)

    def _settle(self, outcome: Outcome) -> None:
        """Keep what came of a scan whose console is gone; the scan itself stays too where that is not all."""
        scan_id = self.scan.scan_id
        if self._kept or outcome.stopped:
            return  # where the gateway ends, the next process begins again
        self._kept = True
        if outcome.error is None or outcome.images:
            incomplete = incomplete_line(self.scan)
            if incomplete:
                self._deliverer.notice(incomplete)
            held = self._deliverer.finish(self.line(outcome))
        else:
            held = self._deliverer.finish(error_line(outcome.error, scan_id), level="ERROR")
        if not held:
            _log.warning("scan-lost" if self.scan.feed.overflowed else "scan-kept", scan=scan_id, images=outcome.images)
            return
        try:
            self._services.spool.remove(scan_id, "scan")
        except SpoolError as error:
            _log.warning("scan-not-removed", scan=scan_id, reason=error.reason)
        _log.info("images-held", scan=scan_id, images=outcome.images)
