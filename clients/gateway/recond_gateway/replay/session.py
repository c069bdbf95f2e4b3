"""One connection of a scanner's: what it sends, and what it takes meanwhile."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from recond_client.errors import RecondError, RetryLaterError, ServiceError
from recond_gateway.mrd import writer
from recond_gateway.mrd.errors import ProtocolError
from recond_gateway.mrd.limits import WireLimits
from recond_gateway.mrd.messages import Close, GadgetronError, ImageMessage, Message, Text
from recond_gateway.mrd.parser import MrdParser
from recond_gateway.mrd.writer import NulConvention
from recond_gateway.replay.arrivals import Line, ReceivedImage, Replay, Sent
from recond_gateway.replay.pieces import KEY_FIELDS, ImageKey, Piece
from recond_gateway.replay.timing import Rate

Arrival: TypeAlias = ReceivedImage | Line

_TICK: Final = 0.25
"""Seconds after which a socket that waits looks whether there is still something to wait for."""

_LIMITS: Final = WireLimits(text_bytes=64 << 20, data_bytes=1 << 30)


@dataclass(frozen=True, slots=True)
class ScannerOptions:
    """How a scan is sent.

    Parameters
    ----------
    config
        Name of the configuration; or itself, if `config_is_text` says so.
    rate
        How fast.
    parameters
        JSON for the TEXT behind the header; None for what the file holds, empty for none.
    nul
        Which texts end with a NUL.
    config_is_text
        Whether `config` goes out as CONFIG_TEXT.
    keep_pixels
        Whether to keep the pixels of images, or only their headers.
    timeout
        Seconds without any progress after which the session is given up.
    """

    config: str = "default"
    rate: Rate = Rate(1.0)  # noqa: RUF009 - frozen
    parameters: str | None = None
    nul: NulConvention = NulConvention.NONE
    config_is_text: bool = False
    keep_pixels: bool = True
    timeout: float = 300.0


class Session:
    """Sends on the thread that owns it and receives on another.

    Parameters
    ----------
    connection
        A connected socket.
    options
        How to send.
    on_arrival
        Called for each image and line as it comes, on the receiving thread.
    """

    def __init__(
        self, connection: socket.socket, options: ScannerOptions, on_arrival: Callable[[Arrival], None] | None
    ) -> None:
        connection.settimeout(_TICK)
        self._connection: Final = connection
        self._options: Final = options
        self._on_arrival: Final = on_arrival
        self._start: Final = time.monotonic()
        self._progress = self._start
        self._sending = True
        self._blocked = False
        self._ended: Final = threading.Event()
        self._size = 0
        self._last_sent: dict[ImageKey, float] = {}
        self._images: list[ReceivedImage] = []
        self._lines: list[Line] = []
        self._closed = False
        self._failure: RecondError | None = None
        self._raised: BaseException | None = None

    def send(self, begin: Iterable[bytes], pieces: Iterable[Piece], *, timed: bool) -> Sent:
        """Send a scan and the CLOSE behind it, or as much as the gateway takes before it ends the session.

        Parameters
        ----------
        begin
            Configuration, header and parameters.
        pieces
            The measurement.
        timed
            Whether to wait until each is due.
        """
        acquisitions = waveforms = 0
        behind = 0.0
        complete = all(self._send(message) for message in begin)
        first = time.monotonic()
        for piece in pieces if complete else ():
            if timed:
                early = first + piece.due - time.monotonic()
                behind = max(behind, -early)
                if early > 0 and self._ended.wait(early):
                    complete = False
                    break
            if not self._send(piece.message):
                complete = False
                break
            acquisitions += piece.acquisitions
            waveforms += piece.waveforms
            if piece.key is not None:
                self._last_sent[piece.key] = self._now()
        complete = complete and self._send(writer.close())
        self._sending = False
        return Sent(acquisitions, waveforms, self._size, self._now(), behind if timed else 0.0, complete)

    def receive(self) -> None:
        """Take what comes until the gateway closes the session, breaks it off, or nothing comes for too long."""
        try:
            self._failure = self._receive()
        except ProtocolError as error:
            self._failure = ServiceError(
                f"what the gateway sends is not MRD version 1: {error.message}", status="INTERNAL", reason=error.reason
            )
        except OSError as error:
            self._failure = _broken_off(str(error))
        except BaseException as error:  # noqa: BLE001 - raised again on the other thread
            self._raised = error
        finally:
            self._ended.set()

    def abandon(self) -> None:
        """Stop receiving."""
        self._sending = False
        self._ended.set()

    def replay(self, timing: str, sent: Sent) -> Replay:
        """Return what came of a session that both sides have left."""
        if self._raised is not None:
            raise self._raised
        failure = self._failure
        if self._closed and not sent.complete and not any(line.failed for line in self._lines):
            failure = ServiceError(
                f"the gateway ended the session after {sent.acquisitions} acquisitions without an ERROR line that says why",
                status="INTERNAL",
                reason="CLOSED_EARLY",
            )
        return Replay(timing, sent, self._images, self._lines, self._closed, self._now(), failure)

    def _now(self) -> float:
        return time.monotonic() - self._start

    def _send(self, message: bytes) -> bool:
        """Send a message; tell whether all of it went out."""
        rest = memoryview(message)
        self._progress = time.monotonic()
        while rest:
            if self._ended.is_set():
                return False
            try:
                count = self._connection.send(rest)
            except TimeoutError:
                self._blocked = True  # the receiving side, which sees both directions, gives up if nothing moves
                continue
            except OSError:
                return False  # the receiving side learns what became of the connection
            self._blocked = False
            self._progress = time.monotonic()
            self._size += count
            rest = rest[count:]
        return True

    def _receive(self) -> RecondError | None:
        parser = MrdParser(_LIMITS)
        while not self._ended.is_set():
            try:
                count = self._connection.recv_into(parser.buffer())
            except TimeoutError:
                if time.monotonic() - self._progress > self._options.timeout and not self._waits_to_send():
                    msg = f"nothing moved for {self._options.timeout:g} s: look at the log of the gateway, or raise --timeout"
                    return RetryLaterError(msg, status="DEADLINE_EXCEEDED", reason="SILENT_GATEWAY")
                continue
            if not count:
                return _broken_off("in the middle of a message" if parser.pending else "between messages")
            self._progress = time.monotonic()
            parser.received(count)
            for message in parser.messages():
                if isinstance(message, Close):
                    self._closed = True
                    return None
                self._take(message)
        return None

    def _take(self, message: Message) -> None:
        now = self._now()
        arrival: Arrival
        if isinstance(message, ImageMessage):
            key = tuple(int(message.header[name]) for name in KEY_FIELDS)
            pixels = message.pixels if self._options.keep_pixels else b""
            sent = self._last_sent.get(key)
            arrival = ReceivedImage(now, sent, message.header, message.attributes, pixels)
            self._images.append(arrival)
        elif isinstance(message, Text):
            arrival = Line.parse(now, message.text)
            self._lines.append(arrival)
        elif isinstance(message, GadgetronError):
            arrival = Line(now, "ERROR", message.text)
            self._lines.append(arrival)
        else:
            return
        if self._on_arrival is not None:
            self._on_arrival(arrival)

    def _waits_to_send(self) -> bool:
        """Tell whether the silence is ours: the next acquisition is not due yet."""
        return self._sending and not self._blocked


def _broken_off(how: str) -> ServiceError:
    msg = f"the gateway ended the connection without CLOSE ({how}): look at its log"
    return ServiceError(msg, status="UNAVAILABLE", reason="NO_CLOSE")
