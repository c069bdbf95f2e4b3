"""The way back to a scanner: lines of text, images, and the end."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Final, Literal, Protocol

from recond_gateway.mrd import writer

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

Tell = Callable[[Level, str], None]
"""Takes a line with its severity."""

_WIDTH: Final = 8
_LONGEST_LINE: Final = 4000
_DRAIN_BYTES: Final = 1 << 20
_SLOWEST: Final = 100_000.0
"""Bytes per second that a console takes at least."""


class Way(Protocol):
    """The way back from a scan; `gone` once nothing can be sent any more."""

    gone: bool

    def text(self, level: Level, message: str) -> None:
        """Send a line for the log."""
        ...

    def image(self, message: bytes) -> bool:
        """Send an image, given as the message of MRD version 1; tell whether it went out."""
        ...


class Console:
    """What is sent to a scanner. Safe to use from several threads; what cannot be sent any more is dropped.

    Parameters
    ----------
    connection
        An open TCP connection; stays the caller's.
    write_seconds
        Longest wait for a console that does not read.
    """

    def __init__(self, connection: socket.socket, write_seconds: float) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._closed = False
        self._write_seconds = write_seconds
        self.gone = False
        seconds = int(write_seconds)
        timeout = struct.pack("ll", seconds, int((write_seconds - seconds) * 1e6))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)

    def text(self, level: Level, message: str) -> None:
        """Send a line for the log, with the severity in front that consoles colour by.

        Parameters
        ----------
        level
            Its severity.
        message
            The line; what is too long is cut.
        """
        line = " ".join(message.split())
        if len(line) > _LONGEST_LINE:
            line = line[: _LONGEST_LINE - 1] + "…"
        self._send(writer.text(level.ljust(_WIDTH) + line))

    def image(self, message: bytes) -> bool:
        """Send the message of an image; tell whether it went out."""
        return self._send(message)

    def response(self, correlation: int, text: str) -> None:
        """Answer a query of Gadgetron's."""
        self._send(writer.response(correlation, text))

    def close(self) -> None:
        """Send CLOSE, once, and nothing after it."""
        self._send(writer.close(), last=True)

    def lose(self) -> None:
        """Take note that the connection is broken: nothing can be sent any more."""
        self.gone = True

    def _send(self, message: bytes, *, last: bool = False) -> bool:
        with self._lock:
            if self._closed or self.gone:
                return False
            self._closed = last
            try:
                self._send_all(message)
            except OSError:
                # Part of the message may be out: nothing can follow it.
                self.gone = True
                with contextlib.suppress(OSError):
                    self._connection.shutdown(socket.SHUT_RDWR)
            return not self.gone

    def _send_all(self, message: bytes) -> None:
        """Send a message within its time: a console that takes it byte by byte holds up a scan at the service.

        Raises
        ------
        OSError
            It does not go out.
        """
        end = time.monotonic() + self._write_seconds + len(message) / _SLOWEST
        left = memoryview(message)
        while left:
            left = left[self._connection.send(left) :]
            if left and time.monotonic() > end:
                raise TimeoutError


def linger(connection: socket.socket, seconds: float) -> bool:
    """Read and drop what a client still sends, until it closes: closing before that would take back what was sent to it.

    Parameters
    ----------
    connection
        On which CLOSE was sent.
    seconds
        Longest wait.

    Returns
    -------
    Whether the client closed its side, and so has read what there was.
    """
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
    end = time.monotonic() + seconds
    buffer = bytearray(_DRAIN_BYTES)
    while (left := end - time.monotonic()) > 0:
        try:
            connection.settimeout(left)
            if not connection.recv_into(buffer):
                return True
        except OSError:
            return False
    return False
