"""The newest records of a recording, in memory."""

from __future__ import annotations

import threading
from collections import deque
from typing import Final, NamedTuple

_ENTRY_BYTES: Final = 512  # what Python itself needs for a record


class Record(NamedTuple):
    """One record: its kind, and the buffers it was made of, as read-only views."""

    kind: int
    buffers: tuple[memoryview, ...]


class Held(NamedTuple):
    """A record in memory: bytes it takes there, and the offset in the file behind it."""

    record: Record
    size: int
    next_offset: int


class TailRoom:
    """The memory that the tails of all recordings of a spool share.

    Parameters
    ----------
    limit
        Bytes.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Take some bytes, if they are there."""
        with self._lock:
            if self._taken + size > self._limit:
                return False
            self._taken += size
            return True

    def give(self, size: int) -> None:
        """Give some bytes back."""
        with self._lock:
            self._taken -= size

    @property
    def taken(self) -> int:
        """Bytes that are taken."""
        return self._taken


class Tail:
    """The newest records, as many as fit; not safe between threads.

    Parameters
    ----------
    limit
        Bytes of this tail.
    room
        What all tails share.
    """

    def __init__(self, limit: int, room: TailRoom) -> None:
        self._limit = limit
        self._room = room
        self._held: deque[Held] = deque()
        self._first = 0  # number of the oldest record held
        self._size = 0

    def add(self, number: int, record: Record, size: int, next_offset: int) -> None:
        """Hold the next record; the oldest go until there is room, and if there is none, all do."""
        size += _ENTRY_BYTES
        while self._held and self._size + size > self._limit:
            self._drop()
        while not (fits := size <= self._limit and self._room.take(size)) and self._held:
            self._drop()
        if not fits:
            return
        if not self._held:
            self._first = number
        self._held.append(Held(record, size, next_offset))
        self._size += size

    def get(self, number: int) -> Held | None:
        """Return a record, if it is held."""
        place = number - self._first
        return self._held[place] if 0 <= place < len(self._held) else None

    def clear(self) -> None:
        """Hold nothing any more."""
        while self._held:
            self._drop()

    def _drop(self) -> None:
        size = self._held.popleft().size
        self._first += 1
        self._size -= size
        self._room.give(size)
