"""One connection of a scanner, from its first byte to CLOSE."""

from __future__ import annotations

import secrets
import socket
import struct
import time
from collections.abc import Iterator
from importlib.metadata import version
from typing import Final

import structlog

from recond_client.errors import RecondError
from recond_gateway.config import Listen, Pipeline, chosen, parameters_of
from recond_gateway.errors import SessionError
from recond_gateway.mrd import messages as mrd
from recond_gateway.mrd.limits import WireLimits
from recond_gateway.mrd.parser import MrdParser
from recond_gateway.scan.scan import Scan, begin
from recond_gateway.scan.summary import error_line, incomplete_line
from recond_gateway.services import Services
from recond_gateway.session.console import Console, Level, linger
from recond_gateway.session.conversation import Conversation, Stage
from recond_gateway.session.delivered import IMAGE
from recond_gateway.session.running_scan import RunningScan
from recond_gateway.spool import ReadingStoppedError, Recording, SpoolError

_RESUME: Final = "recond-resume:"
_GLANCE: Final = 0.02
_LINGER_SECONDS: Final = 30.0
_ID_BYTES: Final = 6
_MOST_COMPLAINTS: Final = 20
_PIECE_BYTES: Final = 1 << 20
_LEVELS: Final[dict[str, Level]] = {"WARNING": "WARNING", "ERROR": "ERROR"}
_SPOOL_IS_FULL: Final = (
    "The spool of the gateway is full, or its disk fails: this scan goes on without it, and is lost if the service fails. Make "
    "room, or check the disk."
)
_RAW_IS_WANTED: Final = (
    "Images came from the scanner, of which the gateway makes no use: have it send raw data (OpenRecon: emitter raw)."
)

_log = structlog.get_logger(__name__)


class Session:
    """Talks to a scanner.

    Parameters
    ----------
    services
        Shared by all sessions.
    listen
        The port that it came in by.
    connection
        An open TCP connection; closed at the end.
    """

    def __init__(self, services: Services, listen: Listen, connection: socket.socket) -> None:
        self._services = services
        self._listen = listen
        self._connection = connection
        self._limits = services.settings.limits
        self._conversation = Conversation()
        self._console = Console(connection, self._limits.write_seconds)
        self._pipeline, self._pipeline_name = services.settings.pipeline("", listen)
        self._xml: bytes | None = None
        self._resume = ""
        self._returns = False
        self._running: RunningScan | None = None
        self._scan_id = secrets.token_hex(_ID_BYTES)
        self._told: set[str] = set()
        self._log = _log.bind(device=listen.device, scan=self._scan_id)

    def run(self) -> None:
        """Talk until the end; raises nothing."""
        metrics = self._services.metrics
        metrics.open_sessions.labels(self._listen.device).inc()
        end = "error"
        try:
            end = self._talk()
        except Exception as error:  # noqa: BLE001 - the last resort of a thread: told, logged, counted
            self._log.exception("session-failed")
            self._console.text("ERROR", f"the gateway is at fault ({type(error).__name__}): tell its administrator")
            self._leave()
        finally:
            self._console.close()
            read = linger(self._connection, _LINGER_SECONDS) if not self._console.gone else False
            self._connection.close()
            if self._running is not None and end == "done" and read:
                self._running.discard()
            elif self._running is not None:
                self._leave()
            if self._returns:
                self._end_return(read=end == "done" and read)
            metrics.open_sessions.labels(self._listen.device).dec()
            metrics.sessions.labels(self._listen.device, end).inc()
            self._log.info("session-ended", end=end)

    def _talk(self) -> str:
        """Take all that the scanner sends, then wait for the images; return how it ended."""
        error: RecondError | None = None
        complete = False
        try:
            for message in self._messages():
                self._take(message)
            complete = self._conversation.stage is Stage.FINISHED
        except RecondError as failed:
            error = failed
        if self._running is None and self._xml is not None and error is None and complete and not self._resume:
            error = self._begin()  # a header and nothing behind it
        if self._running is not None:
            return self._end(self._running, complete=complete, error=error)
        if error is not None:
            self._fail(error)
            return "error"
        if self._resume:
            return self._return_held()
        if not complete:
            return "gone"
        self._console.text("INFO", "recond: CLOSE came before a header, so there is nothing to reconstruct")
        return "query"

    def _messages(self) -> Iterator[mrd.Message]:
        """Yield messages until CLOSE or the end of the stream.

        Raises
        ------
        SessionError
            The scanner fell silent, or the gateway is stopped.
        ProtocolError
            The stream cannot be read on.
        """
        limits = WireLimits(text_bytes=self._limits.text_bytes)
        parser = MrdParser(limits)
        count = self._services.metrics.received_bytes.labels(self._listen.device)
        patience = 0.0
        while True:
            if patience != self._patience():
                patience = self._patience()
                self._wait_at_most(patience)
            try:
                received = self._connection.recv_into(parser.buffer())
            except (BlockingIOError, TimeoutError):
                raise SessionError(
                    f"nothing came for {patience:g} s while the gateway waited for {self._conversation.stage.value}: check "
                    "the scanner, and send CLOSE when a scan ends",
                    reason="SCANNER_SILENT",
                ) from None
            except OSError:
                received = 0
                self._console.lose()
            if self._services.running.stopped:
                raise SessionError(
                    "the gateway is being stopped: connect again when it is back", reason="GATEWAY_STOPPED"
                )
            if not received:
                return
            parser.received(received)
            received += self._take_what_is_there(parser)
            count.inc(received)
            for message in parser.messages():
                yield message
                if isinstance(message, mrd.Close):
                    return

    def _take_what_is_there(self, parser: MrdParser) -> int:
        """Receive what has arrived already, without waiting; return how much: large pieces cost less than many small ones."""
        total = 0
        while total < _PIECE_BYTES:
            try:
                received = self._connection.recv_into(parser.buffer(), 0, socket.MSG_DONTWAIT)
            except OSError:
                break
            if not received:
                break  # the end of the stream, which the next call finds again
            parser.received(received)
            total += received
        return total

    def _patience(self) -> float:
        if self._conversation.stage is Stage.CONFIG:
            return self._limits.config_seconds
        if self._conversation.stage is Stage.HEADER:
            return self._limits.header_seconds
        return self._limits.idle_seconds

    def _wait_at_most(self, seconds: float) -> None:
        whole = int(seconds)
        self._connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", whole, int((seconds - whole) * 1e6))
        )

    def _take(self, message: mrd.Message) -> None:
        before = self._conversation.stage
        self._conversation.take(message)
        match message:
            case mrd.ConfigFile(name):
                self._configure(name)
            case mrd.ConfigText(text):
                self._set(parameters_of(text))
            case mrd.Header(xml):
                self._xml = xml
                self._log.info("scan-announced", pipeline=self._pipeline_name)
            case mrd.Text(text) if before is Stage.PARAMETERS:
                self._set(parameters_of(text))
            case mrd.Query(correlation, query):
                self._console.response(correlation, _answer(query))
            case mrd.Acquisitions():
                self._take_data(message)
            case mrd.Waveforms(headers):
                self._count("waveforms", len(headers))
            case mrd.ImageMessage():
                self._count("images of the scanner", 1)
                self._tell_once(_RAW_IS_WANTED)
            case mrd.NdArray():
                self._count("arrays", 1)
            case _:
                pass  # a line of a log: may name anybody, and is read by nobody here

    def _configure(self, name: str) -> None:
        if name.startswith(_RESUME):
            self._resume = name.removeprefix(_RESUME).strip() or "?"
            return
        self._pipeline, self._pipeline_name = self._services.settings.pipeline(name, self._listen)

    def _set(self, parameters: dict[str, object] | None) -> None:
        """Follow the parameters of the console; what cannot be followed is told and costs no image."""
        if parameters is None:
            return
        named = parameters.get("customconfig") or parameters.get("config")
        if isinstance(named, str) and named in self._services.settings.pipelines:
            self._configure(named)
        self._pipeline, complaints = chosen(self._pipeline, parameters)
        for complaint in complaints[:_MOST_COMPLAINTS]:
            self._console.text("WARNING", complaint)
        if len(complaints) > _MOST_COMPLAINTS:
            self._console.text("WARNING", f"{len(complaints) - _MOST_COMPLAINTS} more parameters were not followed")

    def _take_data(self, batch: mrd.Acquisitions) -> None:
        if self._resume:
            return
        if self._running is None:
            error = self._begin()
            if error is not None:
                raise error
        scan = self._scan
        scan.take(batch)
        self._services.metrics.acquisitions.labels(self._listen.device).inc(len(batch.headers))
        if scan.feed.overflowed:
            self._tell_once(_SPOOL_IS_FULL)

    def _tell_once(self, warning: str) -> None:
        if warning not in self._told:
            self._told.add(warning)
            self._console.text("WARNING", warning)

    @property
    def _scan(self) -> Scan:
        assert self._running is not None  # noqa: S101 - data begin it
        return self._running.scan

    def _count(self, kind: str, number: int) -> None:
        if self._running is None:
            error = None if self._resume else self._begin()
            if error is not None:
                raise error
        if self._running is not None:
            self._scan.counts[kind] += number

    def _begin(self) -> RecondError | None:
        """Begin the scan that the header announced; return what keeps it from that."""
        try:
            scan = begin(
                self._services.spool,
                self._scan_id,
                self._listen.device,
                self._pipeline,
                self._xml or b"",
                self._services.outgoing(),
            )
        except RecondError as error:
            return error
        if scan.feed.overflowed:
            self._tell_once(_SPOOL_IS_FULL)
        self._running = RunningScan(self._services, scan, self._console)
        self._console.text("INFO", f"recond scan {self._scan_id}: receiving ({_shown(self._pipeline)})")
        self._running.start()
        return None

    def _end(self, running: RunningScan, *, complete: bool, error: RecondError | None) -> str:
        """Wait for the images of what came, and tell how it ended."""
        scan = running.scan
        scan.finish(complete=complete)
        if not complete and error is None:
            error = SessionError(
                "the connection ended without CLOSE: the images are of what came until then", reason="NO_CLOSE"
            )
        outcome = running.attend(self._console)
        if outcome is None:
            held_up = running.held_up
            self._leave()
            if scan.feed.overflowed:
                self._fail(
                    SessionError(
                        f"{held_up}, and the spool had no room for the whole scan: make room for the spool (max_bytes, "
                        "min_free_bytes) and repeat the scan",
                        reason="SPOOL_FULL",
                    )
                )
                return "gone" if self._console.gone else "error"
            self._console.text(
                "INFO",
                f"recond scan {self._scan_id}: {held_up}; the scan is kept, and its images are held for a connection "
                f"with the configuration {_RESUME}{self._scan_id}",
            )
            return "gone" if self._console.gone else "kept"
        incomplete = incomplete_line(scan)
        if incomplete:
            self._console.text("WARNING", incomplete)
        for finding in () if outcome.result is None else outcome.result.findings:
            if finding.severity == "warning":
                self._console.text("WARNING", finding.message)
        error = error or outcome.error
        if error is not None:
            self._fail(error)
            return "gone" if self._console.gone else "error"
        self._console.text("INFO", running.line(outcome))
        return "gone" if self._console.gone else "done"

    def _leave(self) -> None:
        if self._running is not None:
            self._running.leave()

    def _fail(self, error: RecondError) -> None:
        self._services.metrics.errors.labels(self._listen.device, error.reason or error.status).inc()
        self._log.warning("session-error", reason=error.reason, status=error.status, request_id=error.request_id)
        self._console.text("ERROR", error_line(error, self._scan_id if self._running is not None else ""))

    def _return_held(self) -> str:
        """Send the images of an earlier scan, as they become ready if they are not yet."""
        self._returns = self._services.returns.begin(self._resume)
        try:
            if not self._returns:
                raise SessionError(
                    "the images of this scan are on their way to another connection: ask again when that has ended",
                    reason="ALREADY_RETURNED",
                )
            told = False
            for record in self._held().read():
                if record.kind == IMAGE:
                    self._console.image(bytes(record.buffers[0]))
                else:
                    level, line = (bytes(buffer).decode() for buffer in record.buffers)
                    self._console.text(_LEVELS.get(level, "INFO"), line)
                    told = True
                if self._console.gone:
                    return "gone"
        except ReadingStoppedError:
            self._fail(
                SessionError(
                    "this scan has left the spool meanwhile, because its images were delivered to the console that measured it: "
                    "look there",
                    reason="DELIVERED_MEANWHILE",
                )
            )
            return "error"
        except RecondError as error:
            self._fail(error)
            return "error"
        if not told:
            self._console.text("INFO", f"recond scan {self._resume}: nothing came of it")
        return "gone" if self._console.gone else "done"

    def _end_return(self, *, read: bool) -> None:
        """Let another connection ask; a console that has read everything needs nothing more."""
        self._services.returns.end(self._resume)
        if read:
            try:
                self._services.spool.remove(self._resume, "images")
            except SpoolError as error:
                self._log.warning("scan-not-removed", reason=error.reason)

    def _held(self) -> Recording:
        """Return the images of the scan that is asked for.

        What an earlier process has begun is waited for: its scan is still to be reconstructed.

        Raises
        ------
        SessionError
            There are none of this device, or none yet.
        SpoolError
            They cannot be read.
        """
        spool, end = self._services.spool, time.monotonic() + self._services.settings.service.wait
        missing = SessionError(
            "there are no images of this scan here: they were delivered, or held too long", reason="NO_SUCH_SCAN"
        )
        while not self._services.running.stopped:
            found = False
            for part in ("images", "scan"):
                try:
                    recording = spool.open(self._resume, part)
                except (KeyError, ValueError):
                    continue
                if recording.about.get("device") != self._listen.device:
                    raise missing
                if part == "images" and recording.complete is not False:
                    return recording
                found = True
            if not found:
                raise missing
            if time.monotonic() > end:
                raise SessionError(
                    "this scan is still to be reconstructed: ask again when the service is back", reason="NOT_YET"
                )
            time.sleep(_GLANCE)
        raise SessionError("the gateway is being stopped: connect again when it is back", reason="GATEWAY_STOPPED")


def _answer(query: str) -> str:
    """Return the answer to a query of Gadgetron's."""
    known = {
        "gadgetron::info": f"recond gateway {version('recond')}: sends scans to a recond service",
        "ismrmrd::version": version("ismrmrd"),
        "recond::version": version("recond"),
    }
    return known.get(query, "Unknown query")


def _shown(pipeline: Pipeline) -> str:
    heads = f", heads {', '.join(pipeline.heads)}" if pipeline.heads else ""
    return f"model {pipeline.model}{heads}"
