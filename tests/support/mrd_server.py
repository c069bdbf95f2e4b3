"""A small MRD server on the codec of the PyPI package ismrmrd: receives a scan, and answers as a test says."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import ismrmrd
import numpy as np
from ismrmrd.serialization import ProtocolDeserializer, ProtocolSerializer


class Answering:
    """What a session received, and a way to answer it."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.file: BinaryIO = connection.makefile("rb")
        self.received: list[Any] = []
        self.out = connection.makefile("wb", buffering=0)
        self._serializer = ProtocolSerializer(self.out)

    def items(self) -> Iterator[Any]:
        """Yield what the scanner sends, until its CLOSE."""
        for item in ProtocolDeserializer(self.file).deserialize():
            self.received.append(item)
            yield item

    def say(self, text: str) -> None:
        self._serializer.serialize(text)

    def send_slice(self, lines: list[ismrmrd.Acquisition], **fields: Any) -> None:
        """Send the root sum of squares of a slice."""
        pixels = np.sqrt((np.abs(_coil_images(lines)) ** 2).sum(0))
        self._send(pixels, lines[-1], image_type=ismrmrd.IMTYPE_MAGNITUDE, **{"image_series_index": 1} | fields)

    def send_complex(self, lines: list[ismrmrd.Acquisition], **fields: Any) -> None:
        """Send the image of the first coil."""
        self._send(_coil_images(lines)[0], lines[-1], image_type=ismrmrd.IMTYPE_COMPLEX, **fields)

    def _send(self, pixels: np.ndarray, last: ismrmrd.Acquisition, **fields: Any) -> None:
        image = ismrmrd.Image.from_array(pixels, acquisition=last, **fields)
        image.meta = ismrmrd.Meta({"DataRole": "Image"})
        self._serializer.serialize(image)

    def close(self) -> None:
        self._serializer.close()

    def reset(self) -> None:
        """Have the connection end with a reset."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.leave()

    def leave(self) -> None:
        self.file.close()
        self.out.close()
        self.connection.close()


def _coil_images(lines: list[ismrmrd.Acquisition]) -> np.ndarray:
    """Return (coils, samples, lines) complex64."""
    kspace = np.stack([line.data for line in lines], axis=-1)
    shifted = np.fft.ifft2(np.fft.ifftshift(kspace, axes=(1, 2)), norm="ortho")
    return np.fft.fftshift(shifted, axes=(1, 2)).astype(np.complex64)


def reconstruct(session: Answering) -> None:
    """Send an image for each slice when its last line is in, then a verdict and CLOSE."""
    lines: list[ismrmrd.Acquisition] = []
    count = images = 0
    for item in session.items():
        if not isinstance(item, ismrmrd.Acquisition) or item.is_flag_set(ismrmrd.ACQ_IS_NOISE_MEASUREMENT):
            continue
        count += 1
        lines.append(item)
        if item.is_flag_set(ismrmrd.ACQ_LAST_IN_SLICE):
            images += 1
            session.send_slice(lines, image_index=images)
            lines = []
    session.say(f"INFO    {count} acquisitions, {images} images")
    session.close()


@contextmanager
def serving(answer: Callable[[Answering], None]) -> Iterator[tuple[int, list[Answering]]]:
    """Serve on a port of the loopback; yields the port and, once they came, the sessions."""
    sessions: list[Answering] = []
    errors: list[BaseException] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            sessions.append(Answering(connection))
            try:
                answer(sessions[-1])
            except (OSError, EOFError):
                pass  # the scanner has gone
            except BaseException as error:  # noqa: BLE001 - raised below
                errors.append(error)
            finally:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
                sessions[-1].leave()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1], sessions
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
    if errors:
        raise errors[0]
