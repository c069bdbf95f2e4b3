"""A scan as a stream of MRD version 2, whose images go back as another: through pipes, or over a socket."""

from __future__ import annotations

import secrets
import socket
import threading
from typing import BinaryIO, Final

import structlog

from recond_client.errors import RecondError, RetryLaterError
from recond_gateway.config import Listen
from recond_gateway.errors import SessionError
from recond_gateway.mrd.messages import Acquisitions, ImageMessage
from recond_gateway.mrd.parser import MrdParser
from recond_gateway.mrd2.reader import Mrd2Reader
from recond_gateway.mrd2.writer import Mrd2Writer
from recond_gateway.scan.scan import begin
from recond_gateway.scan.summary import error_line, incomplete_line
from recond_gateway.services import Services
from recond_gateway.session.console import Level, Tell
from recond_gateway.session.running_scan import RunningScan

_ID_BYTES: Final = 6

_log = structlog.get_logger(__name__)


class Mrd2Console:
    """Takes images for a stream of version 2, and lines, for which it has no place, for somebody else.

    Parameters
    ----------
    writer
        Of the stream.
    tell
        Takes a line with its severity.
    """

    def __init__(self, writer: Mrd2Writer, tell: Tell) -> None:
        self._writer = writer
        self._tell = tell
        self._lock = threading.Lock()
        self.gone = False

    def text(self, level: Level, message: str) -> None:
        """Hand on a line."""
        self._tell(level, message)

    def image(self, message: bytes) -> bool:
        """Write an image, given as the message of version 1; tell whether it went out."""
        parser = MrdParser()
        rest = memoryview(message)
        images: list[ImageMessage] = []
        while rest:
            room = parser.buffer()
            size = min(len(room), len(rest))
            room[:size] = rest[:size]
            parser.received(size)
            rest = rest[size:]
            images += [each for each in parser.messages() if isinstance(each, ImageMessage)]
        with self._lock:
            try:
                for image in images:
                    self._writer.write(image)
            except (OSError, ValueError):
                self.gone = True
        return not self.gone


def talk(services: Services, listen: Listen, source: BinaryIO, target: BinaryIO, tell: Tell) -> RecondError | None:
    """Have the scan of a stream reconstructed, and write its images.

    Parameters
    ----------
    services
        Shared by all sessions.
    listen
        Names the device and the pipeline.
    source, target
        The streams.
    tell
        Takes a line with its severity.

    Returns
    -------
    Why there are not all images; None if there are.
    """
    pipeline, name = services.settings.pipeline("", listen)
    scan_id = secrets.token_hex(_ID_BYTES)
    log = _log.bind(device=listen.device, scan=scan_id)
    running: RunningScan | None = None
    failed: RecondError | None = None
    complete = False
    try:
        reader = Mrd2Reader(source)
        scan = begin(services.spool, scan_id, listen.device, pipeline, reader.header.xml, services.outgoing())
        writer = Mrd2Writer(target, reader.mrd_header)
        console = Mrd2Console(writer, tell)
        running = RunningScan(services, scan, console)
        log.info("scan-announced", pipeline=name)
        running.start()
        for message in reader.messages():
            if isinstance(message, Acquisitions):
                scan.take(message)
                services.metrics.acquisitions.labels(listen.device).inc(len(message.headers))
            else:
                scan.counts["waveforms"] += len(message.headers)
        complete = True
    except RecondError as error:
        failed = error
    except OSError:
        failed = SessionError(
            "the stream broke off before its end: the images are of what came until then", reason="STREAM_LOST"
        )
    except BaseException:
        if running is not None:
            running.leave()
        raise
    if running is None:
        if failed is not None:
            tell("ERROR", error_line(failed))
        return failed
    scan.counts.update({f"{kind} items": count for kind, count in reader.ignored.items()})
    scan.finish(complete=complete)
    failed = _end(running, console, failed, tell)
    try:
        writer.close()
    except (OSError, ValueError):
        console.gone = True
    if failed is None and not console.gone:
        running.discard()
    else:
        running.leave()
    log.info("session-ended", end="done" if failed is None else "error")
    return failed


def _end(running: RunningScan, console: Mrd2Console, failed: RecondError | None, tell: Tell) -> RecondError | None:
    """Wait for the images, and tell how it ended; return why there are not all of them."""
    scan_id = running.scan.scan_id
    outcome = running.attend(console)
    if outcome is None:
        why = "the reader of the images is gone" if console.gone else running.held_up
        msg = f"{why}: the scan is kept in the spool, and reconstructed when the gateway is started on it again"
        failed = failed or RetryLaterError(msg, status="UNAVAILABLE", reason="SCAN_KEPT")
    else:
        incomplete = incomplete_line(running.scan)
        if incomplete:
            tell("WARNING", incomplete)
        failed = failed or outcome.error
        if failed is None:
            tell("INFO", running.line(outcome))
    if failed is not None:
        tell("ERROR", error_line(failed, scan_id))
    return failed


def talk_over_socket(services: Services, listen: Listen, connection: socket.socket) -> None:
    """Do the same over a TCP connection, which is closed at the end; lines go to the log alone, without what they say."""
    metrics = services.metrics
    metrics.open_sessions.labels(listen.device).inc()
    end = "error"
    try:
        connection.settimeout(services.settings.limits.idle_seconds)
        with connection, connection.makefile("rb") as source, connection.makefile("wb") as target:
            failed = talk(services, listen, source, target, lambda _level, _line: None)
        end = "done" if failed is None else "error"
        if failed is not None:
            metrics.errors.labels(listen.device, failed.reason or failed.status).inc()
    except OSError:
        end = "gone"
    except Exception:  # noqa: BLE001 - the last resort of a thread: logged, counted
        _log.exception("session-failed", device=listen.device)
    finally:
        metrics.open_sessions.labels(listen.device).dec()
        metrics.sessions.labels(listen.device, end).inc()
