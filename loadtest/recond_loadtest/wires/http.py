"""Servers that take one POST per request, as LitServe and BentoML do.

With the encoding ``"npz"`` the body is an uncompressed ``.npz`` of ``kspace`` complex64 (slices, coils, rows, columns) and ``mask``
bool (columns,), answered by an ``.npy`` of images, float32 (slices, rows, columns). With ``"json"`` both travel as base64:
``{"kspace": …, "mask": …, "shape": […], "model": …}``, answered by ``{"images": …, "shape": […]}``.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import socket
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recond_loadtest.wires.call import Call
from recond_loadtest.wires.wire import Health, Job, WireError

_CONTENT_TYPES: Final = {"npz": "application/octet-stream", "json": "application/json"}
_MESSAGE_BYTES: Final = 500


@dataclass(frozen=True, slots=True)
class EncodedBody:
    """A body to post."""

    body: bytes
    content_type: str


class HttpWire:
    """Posts requests.

    Parameters
    ----------
    encoding
        ``"npz"`` or ``"json"``.
    pad_coils
        Frames with fewer coils get coils of zeros up to this many, 0 for none.
    """

    def __init__(self, encoding: str = "npz", pad_coils: int = 0) -> None:
        self._encoding = encoding
        self._pad_coils = pad_coils
        self._url = urllib.parse.urlsplit("")
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()

    def connect(self, address: str, clients: Sequence[str]) -> None:  # noqa: ARG002 - HTTP tells no clients apart
        """Note where to; connections are opened as they are needed, and used again."""
        self.close()
        self._url = urllib.parse.urlsplit(address if "://" in address else f"http://{address}/predict")

    def ready(self) -> bool:
        """Tell whether something listens and answers."""
        connection = self._open(2.0)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status < http.client.INTERNAL_SERVER_ERROR
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def encode(self, job: Job) -> EncodedBody:
        """Return the body of a request."""
        kspace, lines = job.scan.kspace, job.scan.lines
        if kspace is None or lines is None or job.scan.file is not None:
            raise WireError("an HTTP server takes arrays: inputs with a file or a file format are for recond")
        kspace = np.pad(kspace, ((0, 0), (0, max(self._pad_coils - kspace.shape[1], 0)), (0, 0), (0, 0)))
        if self._encoding == "npz":
            buffer = io.BytesIO()
            np.savez(buffer, kspace=kspace, mask=lines)
            body = buffer.getvalue()
        else:
            fields = {
                "kspace": base64.b64encode(kspace.tobytes()).decode(),
                "mask": base64.b64encode(lines.tobytes()).decode(),
                "shape": kspace.shape,
                "model": job.model,
            }
            body = json.dumps(fields).encode()
        return EncodedBody(body, _CONTENT_TYPES[self._encoding])

    def send(self, call: Call, encoded: EncodedBody, client: str) -> None:  # noqa: ARG002 - HTTP tells no clients apart
        """Post a request and wait for the answer."""
        with self._lock:
            connection = self._idle.pop() if self._idle else self._open(call.timeout)
        connection.timeout = call.timeout
        if connection.sock is not None:
            connection.sock.settimeout(call.timeout)
        call.cancellable(lambda: _abort(connection))
        try:
            path = (self._url.path or "/") + (f"?{self._url.query}" if self._url.query else "")
            connection.request("POST", path, encoded.body, {"Content-Type": encoded.content_type})
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            call.end(_status_of(error, call), message=str(error))
            return
        with self._lock:
            self._idle.append(connection)
        if response.status != http.client.OK:
            retry = response.getheader("Retry-After", "")
            text = body[:_MESSAGE_BYTES].decode(errors="replace")
            call.end(f"HTTP {response.status}", message=text, retry_after=float(retry) if retry.isdecimal() else None)
            return
        try:
            images = tuple(self._images(body))
        except (ValueError, KeyError, TypeError) as error:
            call.end("MALFORMED", message=f"the answer is no image: {error}")
            return
        call.image_arrived()
        call.end("OK", images=images)

    def watch_health(self, report: Callable[[Health], None]) -> Iterator[None]:
        """Follow whether the server answers, four times a second."""
        pause = threading.Event()
        while True:
            report("serving" if self.ready() else "unreachable")
            pause.wait(0.25)
            yield

    def close(self) -> None:
        """Close the connections that are not in use."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _open(self, timeout: float | None) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._url.hostname or "", self._url.port or 80, timeout=timeout)

    def _images(self, body: bytes) -> NDArray[np.float32]:
        if self._encoding == "npz":
            return np.asarray(np.load(io.BytesIO(body), allow_pickle=False), np.float32)
        answer = json.loads(body)
        return np.frombuffer(base64.b64decode(answer["images"]), "<f4").reshape(answer["shape"])


def _abort(connection: http.client.HTTPConnection) -> None:
    """Make the thread that waits for the answer return."""
    if connection.sock is not None:
        with contextlib.suppress(OSError):  # it may be closed already
            connection.sock.shutdown(socket.SHUT_RDWR)


def _status_of(error: Exception, call: Call) -> str:
    if call.withdrawn:
        return "CANCELLED"
    return "DEADLINE_EXCEEDED" if isinstance(error, TimeoutError) else "UNAVAILABLE"
