"""Images on their last steps: to the console, and to the spool for a console that comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

import structlog

from recond_client.heads import HeadResult
from recond_client.result import Image
from recond_gateway.scan.images import Origin
from recond_gateway.scan.scan import Scan
from recond_gateway.scan.summary import head_line
from recond_gateway.session.console import Way
from recond_gateway.spool import Recording, Spool, SpoolError
from recond_gateway.telemetry import Metrics

IMAGE: Final = 1
"""Kind of the records that hold the message of an image."""
LINE: Final = 2
"""Kind of the records that hold a line of text: severity, then the line."""

_log = structlog.get_logger(__name__)


class Deliverer:
    """Hands out what came of a scan: to its console as long as that is there, and to the spool, where it waits for its return.

    Parameters
    ----------
    scan
        Whose images and head results are handed out.
    spool
        Where images wait.
    metrics
        Counts them.
    console
        None for a scan whose console is gone.
    now
        Seconds that never go back.
    """

    def __init__(
        self,
        scan: Scan,
        spool: Spool,
        metrics: Metrics,
        console: Way | None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._scan = scan
        self._metrics = metrics
        self._console = console
        self._now = now
        self._lock = threading.Lock()
        self._held: Recording | None = None
        self.progress_at = now()
        try:
            self._held = spool.begin(scan.scan_id, {"device": scan.device}, "images")
        except SpoolError as error:
            _log.warning("images-not-held", scan=scan.scan_id, reason=error.reason)

    def image(self, image: Image, origin: Origin) -> None:
        """Take an image."""
        self.progress_at = self._now()
        for message in self._scan.writer.messages(image, origin):
            self._hand_out(message)
        by = "fallback" if origin.fallback else "asked"
        self._metrics.images.labels(self._scan.device, by).inc()
        waited = self._scan.groups.waited(image.index, 0.0)
        if waited is not None:
            self._metrics.image_seconds.labels(self._scan.device).observe(waited)

    def head(self, result: HeadResult) -> None:
        """Take what a head says: its label map as a series, its answers and measurements as a line."""
        self.progress_at = self._now()
        for message in self._scan.writer.head_messages(result):
            self._hand_out(message)
        self._tell("WARNING" if result.refusal else "INFO", head_line(result))

    def notice(self, message: str) -> None:
        """Take a sentence for the operator."""
        self._tell("WARNING", message)

    def detach(self) -> None:
        """Write to the console no more."""
        self._console = None

    def finish(self, line: str, *, level: str = "INFO") -> bool:
        """End what is held, by the line that a console gets that comes back; tell whether all of it is held."""
        self._hold(LINE, level.encode(), line.encode())
        with self._lock:
            held, self._held = self._held, None
            return held is not None and self._finished(held, complete=True)

    def _tell(self, level: str, line: str) -> None:
        console = self._console
        if console is not None:
            console.text("WARNING" if level == "WARNING" else "INFO", line)
        self._hold(LINE, level.encode(), line.encode())

    def _hand_out(self, message: bytes) -> None:
        self._hold(IMAGE, message)  # first: a console that does not read must keep no image from the spool
        console = self._console
        if console is not None:
            console.image(message)

    def _hold(self, kind: int, *buffers: bytes) -> None:
        with self._lock:
            if self._held is None:
                return
            try:
                self._held.append(kind, *buffers)
            except SpoolError as error:
                _log.warning("images-not-held", scan=self._scan.scan_id, reason=error.reason)
                self._finished(self._held, complete=False)
                self._held = None

    def _finished(self, held: Recording, *, complete: bool) -> bool:
        """End a recording; tell whether the disk took its end."""
        try:
            held.finish(complete)
        except SpoolError as error:
            _log.warning("images-not-held", scan=self._scan.scan_id, reason=error.reason)
            return False
        return True
