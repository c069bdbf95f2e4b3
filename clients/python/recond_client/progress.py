"""Tells the caller how far a call has come."""

from __future__ import annotations

import threading
from collections.abc import Callable

from recond.v1 import reconstruction_pb2 as pb
from recond_client.acquisitions import EncodedRequest
from recond_client.responses import ResponseAssembler
from recond_client.result import Progress

ProgressCallback = Callable[[Progress], None]


class ProgressReporter:
    """Calls back after every chunk that was sent and every image that came; never twice at the same time.

    Parameters
    ----------
    callback
        What to call, or None.
    total_bytes
        Size of the upload, 0 if it is not known.
    """

    def __init__(self, callback: ProgressCallback | None, total_bytes: int) -> None:
        self._callback = callback
        self._total_bytes = total_bytes
        self._sent_bytes = 0
        self._lock = threading.Lock()
        self._assembler: ResponseAssembler | None = None

    def attach(self, assembler: ResponseAssembler) -> None:
        """Start a new attempt, whose responses `assembler` puts together."""
        self._assembler = assembler
        self._sent_bytes = 0

    def sent(self, message: pb.ReconstructRequest | EncodedRequest) -> None:
        """Report a message that was sent."""
        if self._callback is None:
            return
        if isinstance(message, EncodedRequest):
            self._sent_bytes += message.sample_bytes
        else:
            self._sent_bytes += len(message.chunk.data) + len(message.acquisitions.samples)
        self.report()

    def report(self) -> None:
        """Report where the call stands."""
        if self._callback is None or self._assembler is None:
            return
        with self._lock:
            self._callback(
                Progress(
                    sent_bytes=self._sent_bytes,
                    total_bytes=self._total_bytes,
                    images_done=self._assembler.images_done,
                    images_total=self._assembler.images_total,
                    model=self._assembler.model,
                )
            )
