"""Scanners: MRD streams over TCP, as they go to `recond gateway`, or to any other server of that protocol.

A request is a scan: one connection, on which acquisitions go out when they are due, and images come back meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recond_client.errors import RecondError
from recond_gateway.config.parameters import PARAMETERS
from recond_gateway.mrd import writer
from recond_gateway.replay.arrivals import Replay
from recond_gateway.replay.pieces import Piece, pieces_of
from recond_gateway.replay.raw_file import RawFile
from recond_gateway.replay.session import Arrival, ScannerOptions, Session
from recond_gateway.replay.timing import Rate, timing_of
from recond_loadtest.wires.call import Call
from recond_loadtest.wires.wire import Health, Job, WireError

_CONNECT_SECONDS: Final = 10.0
_READY_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class EncodedScan:
    """Messages of a scan.

    Parameters
    ----------
    begin
        Configuration, header and parameters.
    pieces
        The measurement, and when it is due.
    timed
        Whether to wait until it is.
    timing
        Where the times come from.
    """

    begin: tuple[bytes, ...]
    pieces: tuple[Piece, ...]
    timed: bool
    timing: str


class MrdWire:
    """Plays scans as scanners do. The model goes out as the name of the configuration, and as a parameter of the console.

    Parameters
    ----------
    rate
        Times as fast as they were measured; 0 for as fast as they are taken.
    """

    def __init__(self, rate: float = 1.0) -> None:
        self._rate: Final = Rate(rate or None)
        self._address = ("", 0)

    def connect(self, address: str, clients: Sequence[str]) -> None:  # noqa: ARG002 - a connection for each scan
        """Note where to."""
        host, _, port = address.rpartition(":")
        self._address = (host.strip("[]"), int(port))

    def ready(self) -> bool:
        """Open a session that ends at once, and tell whether it does."""
        try:
            with socket.create_connection(self._address, timeout=_READY_SECONDS) as connection:
                connection.sendall(writer.close())
                connection.shutdown(socket.SHUT_WR)
                answer = b"".join(iter(lambda: connection.recv(4096), b""))
        except OSError:
            return False
        return answer.endswith(writer.close())

    def encode(self, job: Job) -> EncodedScan:
        """Return the messages of a scan."""
        if job.scan.file is None:
            raise WireError('scanners send acquisitions: give inputs format = "ismrmrd", or a file')
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "scan.h5"
            path.write_bytes(job.scan.file)
            try:
                with RawFile(path) as file:
                    timing = timing_of(file.stamps(), file.xml, self._rate)
                    pieces = tuple(pieces_of(file, timing))
                    begin = (writer.config_file(job.model), writer.header(file.xml), *_parameters(job.model))
            except RecondError as error:
                raise WireError(f"{job.scan.file_name}: {error.message}") from error
        return EncodedScan(begin, pieces, timing.due is not None, timing.source)

    def send(self, call: Call, encoded: EncodedScan, client: str) -> None:  # noqa: ARG002 - see `connect`
        """Play a scan and wait for its end."""
        options = ScannerOptions() if call.timeout is None else ScannerOptions(timeout=call.timeout)
        try:
            connection = socket.create_connection(self._address, timeout=_CONNECT_SECONDS)
        except OSError as error:
            call.end("UNAVAILABLE", reason="NO_GATEWAY", message=str(error))
            return
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            call.cancellable(lambda: _abort(connection))
            session = Session(connection, options, lambda arrival: _note(call, arrival))
            receiver = threading.Thread(target=session.receive, name="scanner-receiver")
            receiver.start()
            try:
                sent = session.send(encoded.begin, encoded.pieces, timed=encoded.timed)
            finally:
                receiver.join()
        _end(call, session.replay(encoded.timing, sent))

    def watch_health(self, report: Callable[[Health], None]) -> Iterator[None]:
        """Follow whether the server answers, once a second."""
        pause = threading.Event()
        while True:
            report("serving" if self.ready() else "unreachable")
            pause.wait(_LOOK_SECONDS)
            yield

    def close(self) -> None:
        """Do nothing: connections end with their scans."""


def _parameters(model: str) -> tuple[bytes, ...]:
    """Return the TEXT that asks for a model, if it is one of those that consoles may choose."""
    (parameter,) = (each for each in PARAMETERS if each.name == "model")
    name = model.replace("-", "")
    if name not in dict(parameter.choices):
        return ()
    return (writer.text(json.dumps({"parameters": {"model": name}})),)


def _note(call: Call, arrival: Arrival) -> None:
    if hasattr(arrival, "header"):
        call.image_arrived()


def _abort(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _end(call: Call, replay: Replay) -> None:
    """End a call by what came of the scan."""
    verdict = replay.verdict
    if verdict is not None and verdict.failed:
        reason = verdict.text.rpartition("(")[2].partition(",")[0].rstrip(")")
        call.end("ERROR", reason=reason, message=verdict.text)
    elif replay.failure is not None:
        call.end(replay.failure.status, reason=replay.failure.reason, message=replay.failure.message)
    elif call.withdrawn or call.abandoned:
        call.end("CANCELLED")
    else:
        call.end("OK", images=_images(replay))


def _images(replay: Replay) -> tuple[NDArray[np.float32], ...]:
    """Return the images of the first series, in the order of the slices."""
    first = sorted(
        (image for image in replay.images if image.series == 1), key=lambda image: int(image.header["slice"])
    )
    return tuple(np.ascontiguousarray(image.array[0, 0].T, np.float32) for image in first)
