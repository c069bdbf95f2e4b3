"""A board in shared memory on which the front end strikes out frames, and a worker marks the batches that it has begun."""

from __future__ import annotations

import mmap

from recond_service.processes import SharedBlock

_SLOTS = 32
_FRAMES = 4095
_BYTES = _FRAMES + 1  # of a slot: whether the batch is begun, then whether each frame is withdrawn


class Board:
    """The board as one of the two processes sees it.

    Parameters
    ----------
    block
        Shared memory from `create`; not needed any more once the board is made.
    """

    def __init__(self, block: SharedBlock) -> None:
        self._map = mmap.mmap(block.fd, block.size)

    @staticmethod
    def create() -> SharedBlock:
        """Return memory for an empty board."""
        return SharedBlock.create("recond-board", _SLOTS * _BYTES)

    @staticmethod
    def received(fd: int) -> Board:
        """Return the board that another process made.

        Raises
        ------
        ValueError
            The descriptor is no such board. It is closed in any case.
        """
        with SharedBlock.received(fd, _SLOTS * _BYTES) as block:
            return Board(block)

    def slots(self) -> range:
        """Return the numbers of the slots, one for each batch that a worker may have."""
        return range(_SLOTS)

    def clear(self, slot: int) -> None:
        """Make a slot ready for another batch."""
        self._map[slot * _BYTES : (slot + 1) * _BYTES] = bytes(_BYTES)

    def withdraw(self, slot: int, frame: int) -> None:
        """Strike a frame out. Frames beyond the 4,095th of a batch have no place on the board and are computed to the end."""
        if frame < _FRAMES:
            self._map[slot * _BYTES + 1 + frame] = 1

    def withdrawn(self, slot: int, frame: int) -> bool:
        """Tell whether a frame has been struck out."""
        return frame < _FRAMES and self._map[slot * _BYTES + 1 + frame] != 0

    def begin(self, slot: int) -> None:
        """Mark a batch as begun."""
        self._map[slot * _BYTES] = 1

    def begun(self, slot: int) -> bool:
        """Tell whether a batch has been begun."""
        return self._map[slot * _BYTES] != 0

    def close(self) -> None:
        """Give the memory back."""
        self._map.close()
