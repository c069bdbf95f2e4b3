"""The memory that a stream is received into."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray


class ReceiveBuffer:
    """One block of memory: bytes are appended behind, and taken in front.

    It is doubled only when bytes that came fill it, so what a length field merely announces costs nothing, and it goes
    back to its usual size when what is left fits there.

    Parameters
    ----------
    usual
        Capacity in bytes to begin with.
    most
        Largest capacity.
    """

    def __init__(self, usual: int, most: int) -> None:
        self._usual: Final = usual
        self._most: Final = max(usual, most)
        self._start = 0
        self._end = 0
        self.array: NDArray[np.uint8] = np.empty(usual, np.uint8)
        self.view = self.array.data

    @property
    def capacity(self) -> int:
        """Bytes of memory held."""
        return len(self.array)

    @property
    def held(self) -> int:
        """Bytes that came and were not taken."""
        return self._end - self._start

    @property
    def start(self) -> int:
        """Where in `array` and `view` the first byte held lies."""
        return self._start

    def free(self) -> memoryview:
        """Return where the next bytes go; moves what is held if that makes room.

        Raises
        ------
        RuntimeError
            The buffer is full at its largest capacity: take what is there first.
        """
        if self.held <= self._usual // 2 and self.capacity > self._usual:
            self._replace(self._usual)
        elif not self.held:
            self._start = self._end = 0
        elif self._start and self.capacity - self._end < self.capacity // 4:
            self._replace(self.capacity)
        if self._end == self.capacity:
            if self.capacity >= self._most:
                msg = f"{self.held} bytes wait in the buffer: take the messages that are there before receiving more"
                raise RuntimeError(msg)
            self._replace(min(2 * self.capacity, self._most))
        return self.view[self._end :]

    def append(self, count: int) -> None:
        """Take over `count` bytes that were written to `free`.

        Raises
        ------
        ValueError
            There was no room for so many.
        """
        if not 0 <= count <= self.capacity - self._end:
            msg = f"{count} bytes cannot have been received where {self.capacity - self._end} fit"
            raise ValueError(msg)
        self._end += count

    def take(self, count: int) -> None:
        """Let go of the first `count` bytes held."""
        self._start += count

    def _replace(self, capacity: int) -> None:
        """Move what is held to the front of memory of this capacity."""
        held = self.held
        array = self.array if capacity == self.capacity else np.empty(capacity, np.uint8)
        array[:held] = self.array[self._start : self._end]
        self._start, self._end = 0, held
        self.array, self.view = array, array.data
