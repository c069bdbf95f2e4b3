"""One request on its way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class End:
    """How a call ended.

    Parameters
    ----------
    at
        On the clock of the run.
    status
        Name of the gRPC status, or ``"HTTP 503"`` and the like; ``"OK"`` for success.
    reason
        `ErrorInfo.reason`, or empty.
    message
        What came with the status.
    retry_after
        Seconds, if the server said when to come back.
    images
        float32 (rows, columns) each, in the order of the scan; empty if the call failed.
    """

    at: float
    status: str
    reason: str = ""
    message: str = ""
    retry_after: float | None = None
    images: tuple[NDArray[np.float32], ...] = ()


class Call:
    """One request on its way: it ends exactly once, and may be cancelled before.

    Parameters
    ----------
    number
        Of the request in its schedule.
    timeout
        Seconds that the server may take, which it is told; None for no deadline.
    clock
        Time of the run, seconds.
    on_end
        Told the end.
    upload_bytes_per_second
        How fast the upload may be, None for no limit.
    """

    def __init__(
        self,
        number: int,
        timeout: float | None,
        clock: Callable[[], float],
        on_end: Callable[[Call, End], None],
        upload_bytes_per_second: float | None = None,
    ) -> None:
        self.number = number
        self.timeout = timeout
        self.upload_bytes_per_second = upload_bytes_per_second
        self.first_image_at: float | None = None
        self.withdrawn = False
        self.abandoned = False
        self.ended = threading.Event()
        self._clock = clock
        self._on_end = on_end
        self._cancel: Callable[[], object] | None = None
        self._lock = threading.Lock()

    def cancellable(self, cancel: Callable[[], object]) -> None:
        """Say how the call is cancelled, once it is made."""
        with self._lock:
            self._cancel = cancel
            now = self.withdrawn or self.abandoned
        if now:
            cancel()

    def cancel(self) -> None:
        """Cancel the call, as the scenario wants it; nothing happens once it has ended."""
        with self._lock:
            if self.ended.is_set():
                return
            self.withdrawn = True
            cancel = self._cancel
        if cancel is not None:
            cancel()

    def abandon(self) -> None:
        """Give the call up because it took too long; nothing happens once it has ended."""
        with self._lock:
            if self.ended.is_set():
                return
            self.abandoned = True
            cancel = self._cancel
        if cancel is not None:
            cancel()

    def image_arrived(self) -> None:
        """Note when the first image came."""
        if self.first_image_at is None:
            self.first_image_at = self._clock()

    def end(
        self,
        status: str,
        *,
        reason: str = "",
        message: str = "",
        retry_after: float | None = None,
        images: tuple[NDArray[np.float32], ...] = (),
    ) -> None:
        """End the call; parameters as for `End`.

        Raises
        ------
        RuntimeError
            It has ended already.
        """
        at = self._clock()
        with self._lock:
            if self.ended.is_set():
                raise RuntimeError(f"call {self.number} ended twice, the second time with {status}")
            self.ended.set()
        self._on_end(self, End(at, status, reason, message, retry_after, images))
