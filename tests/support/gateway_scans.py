"""Scanners that are driven message by message, and scans in pieces."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from recond_gateway.mrd import messages as mrd
from recond_gateway.mrd import writer
from recond_gateway.mrd.layouts import ACQUISITION_HEADER
from recond_gateway.mrd.parser import MrdParser

SLICES, COILS, ROWS, COLUMNS = 4, 3, 64, 48


class Wire:
    """A scanner that is driven message by message."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=150)  # a service may have to start meanwhile
        self.messages: list[mrd.Message] = []
        self.changed = threading.Condition()
        self.ended = False
        self.thread = threading.Thread(target=self._receive)
        self.thread.start()

    def send(self, *data: bytes) -> None:
        for each in data:
            self.socket.sendall(each)

    def images(self) -> list[mrd.ImageMessage]:
        return [message for message in self.messages if isinstance(message, mrd.ImageMessage)]

    def lines(self) -> list[str]:
        return [message.text for message in self.messages if isinstance(message, mrd.Text)]

    def wait_for(self, condition: Callable[[], Any], seconds: float = 60) -> Any:
        with self.changed:
            self.changed.wait_for(lambda: condition() or self.ended, seconds)
        found = condition()
        assert found, self.lines()
        return found

    def finish(self, seconds: float = 60) -> list[str]:
        """Wait until the gateway has ended the session, and close; return the lines."""
        self.thread.join(seconds)
        assert not self.thread.is_alive(), self.lines()
        self.socket.close()
        return self.lines()

    def vanish(self) -> None:
        """Go away without a word, by a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.shutdown(socket.SHUT_RD)
        self.thread.join(30)
        self.socket.close()

    @property
    def closed(self) -> bool:
        return bool(self.messages) and isinstance(self.messages[-1], mrd.Close)

    def _receive(self) -> None:
        parser = MrdParser()
        with contextlib.suppress(OSError):
            while received := self.socket.recv_into(parser.buffer()):
                parser.received(received)
                with self.changed:
                    self.messages += parser.messages()
                    self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()


class RawScan:
    """A file, in pieces that a test sends when it likes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with h5py.File(path) as handle:
            self.xml: bytes = handle["dataset/xml"][0]
            table = handle["dataset/data"][:]
        self.headers = np.frombuffer(table["head"].tobytes(), ACQUISITION_HEADER).copy()
        self.samples = [np.asarray(each).view("<c8") for each in table["data"]]

    def slice(self, *numbers: int) -> np.ndarray:
        """Numbers of the acquisitions of slices."""
        return np.flatnonzero(np.isin(self.headers["idx"]["slice"], numbers))

    def messages(self, chosen: np.ndarray | None = None) -> bytes:
        chosen = np.arange(len(self.headers)) if chosen is None else chosen
        samples = np.concatenate([self.samples[number] for number in chosen])
        return writer.acquisitions(self.headers[chosen], samples)
