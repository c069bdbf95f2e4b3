"""The readouts of a scan between the scanner that sends them and the service that reads them, once or again from the start."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator
from typing import Final

import numpy as np
import structlog
from numpy.typing import NDArray

from recond_client.acquisitions import AcquisitionBatch
from recond_gateway.errors import SessionError
from recond_gateway.mrd.layouts import ACQUISITION_HEADER
from recond_gateway.mrd.messages import Acquisitions
from recond_gateway.scan.outgoing import Outgoing
from recond_gateway.spool import ReadingStoppedError, Recording, SpoolDamagedError, SpoolError

ACQUISITIONS: Final = 1
"""Kind of the records that hold acquisitions: headers, samples, trajectories."""

_OVERFLOW_BYTES: Final = 64 << 20
_PATIENCE: Final = 120.0
"""Seconds that a scanner waits, where the spool is full, for a reader that takes nothing."""

Buffer = bytes | memoryview

_log = structlog.get_logger(__name__)


class FeedLostError(SessionError):
    """What a reader needs is neither on disk nor in memory: the spool could not take it, and it was read before."""

    def __init__(self) -> None:
        super().__init__(
            "the service has to read the scan again, and the spool had no room for all of it: make room for the spool "
            "(max_bytes, min_free_bytes) and repeat the scan",
            reason="SPOOL_FULL",
        )


class Feed:
    """Takes readouts as they come; gives them, from the first one on, to everyone who asks.

    They go to the spool. Where it has no room for more, the rest goes through memory, to one reader and once; then the scanner
    waits while that reader is slow.

    Parameters
    ----------
    recording
        Of the scan in the spool; None where that has no room for it: then all of it goes through memory.
    outgoing
        Takes out of the headers what stays here.
    """

    def __init__(self, recording: Recording | None, outgoing: Outgoing) -> None:
        self.recording: Final = recording
        self._outgoing = outgoing
        self._changed = threading.Condition()
        self._overflow: deque[Acquisitions] = deque()
        self._overflow_bytes = 0
        self._reader: FeedReader | None = None
        self._overflowed = recording is None
        self._ended = False
        self._abandoned = False
        self.damaged = False
        """Whether a reader ended early, because the rest on the disk cannot be read."""

    @property
    def overflowed(self) -> bool:
        """Whether the spool had no room, so that the scan can be read only once."""
        return self._overflowed

    @property
    def lost(self) -> bool:
        """Whether some of it was read from memory, so that it cannot be read again."""
        return self._reader is not None

    def append(self, batch: Acquisitions) -> None:
        """Add readouts; waits where the spool is full and the reader slow.

        Raises
        ------
        FeedLostError
            The spool is full and nobody reads any more.
        """
        if self.recording is not None and not self._overflowed:
            try:
                self.recording.append(
                    ACQUISITIONS, np.ascontiguousarray(batch.headers).data.cast("B"), batch.samples, batch.trajectories
                )
            except SpoolError:
                with self._changed:
                    self._overflowed = True
                with contextlib.suppress(SpoolError):  # the disk fails: what came before is read from memory or lost
                    self.recording.finish(complete=False)
            else:
                return
        size = len(batch.samples) + len(batch.trajectories) + batch.headers.nbytes
        with self._changed:
            room = self._changed.wait_for(
                lambda: self._abandoned or not self._overflow or self._overflow_bytes + size <= _OVERFLOW_BYTES,
                _PATIENCE,
            )
            if self._abandoned or not room:
                raise FeedLostError
            self._overflow.append(batch)
            self._overflow_bytes += size
            self._changed.notify_all()

    def finish(self, *, complete: bool) -> None:
        """End the scan.

        Parameters
        ----------
        complete
            Whether the scanner said that it was all.
        """
        with self._changed:
            if self._ended:
                return
            self._ended = True
            self._changed.notify_all()
        if self.recording is not None and not self._overflowed:
            try:
                self.recording.finish(complete)
            except SpoolError as error:  # readers of this process see the end all the same
                _log.warning("scan-not-on-disk", scan=self.recording.scan_id, reason=error.reason)

    def abandon(self) -> None:
        """Nobody is going to read any more: let go of a scanner that waits."""
        with self._changed:
            self._abandoned = True
            self._changed.notify_all()

    def reader(self) -> FeedReader:
        """Return a reader, which begins with the first readout."""
        return FeedReader(self)

    def batches(self, reader: FeedReader) -> Iterator[AcquisitionBatch]:
        """Yield the readouts; for `FeedReader`."""
        number = 0
        outgoing = self._outgoing.acquisitions()
        while self.recording is not None and not reader.stopped():
            try:
                for record in self.recording.read(number):
                    if reader.stopped():
                        return
                    number += 1
                    if record.kind == ACQUISITIONS:
                        headers, samples, trajectories = record.buffers
                        yield _batch(outgoing(np.frombuffer(headers, ACQUISITION_HEADER)), samples, trajectories)
                break
            except ReadingStoppedError:
                if self.recording.removed:
                    raise
                # Another reader was stopped, and all were woken.
            except SpoolDamagedError:
                if number <= 1:
                    raise
                _log.warning("scan-damaged", scan=self.recording.scan_id, record=number)
                self.damaged = True
                return
        while not reader.stopped() and (batch := self._next(reader)) is not None:
            yield _batch(outgoing(batch.headers), batch.samples, batch.trajectories)

    def wake(self) -> None:
        """Wake all readers, which look whether they were stopped."""
        if self.recording is not None:
            self.recording.close_readers()
        with self._changed:
            self._changed.notify_all()

    def _next(self, reader: FeedReader) -> Acquisitions | None:
        with self._changed:
            if not self._overflowed:
                return None
            while not self._overflow and not self._ended and not reader.stopped():
                self._changed.wait()
            if self._reader not in {None, reader}:
                raise FeedLostError
            if not self._overflow or reader.stopped():
                return None
            self._reader = reader
            batch = self._overflow.popleft()
            self._overflow_bytes -= len(batch.samples) + len(batch.trajectories) + batch.headers.nbytes
            self._changed.notify_all()
            return batch


class FeedReader:
    """One reading of a scan; iterate it for `recond_client.AcquisitionBatch`.

    Parameters
    ----------
    feed
        What is read.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._stopped = threading.Event()

    def stopped(self) -> bool:
        """Return whether the iteration was ended."""
        return self._stopped.is_set()

    def __iter__(self) -> Iterator[AcquisitionBatch]:
        return self._feed.batches(self)

    def stop(self) -> None:
        """End the iteration, also while it waits."""
        self._stopped.set()
        self._feed.wake()


def _batch(headers: NDArray[np.void], samples: Buffer, trajectories: Buffer) -> AcquisitionBatch:
    return AcquisitionBatch(headers.tobytes(), samples, trajectories)
