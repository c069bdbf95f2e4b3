"""Input of the package mrd-python as it comes in, and within limits."""

from __future__ import annotations

import io
from typing import BinaryIO, Final

from mrd import _binary

from recond_gateway.mrd.errors import ProtocolError


class LiveInput(_binary.CodedInputStream):  # type: ignore[misc] # the package has no types
    """Returns as soon as what was asked for is there; the package's own waits until its 64 KiB are full, or the stream ends.

    Parameters
    ----------
    stream
        A buffered stream.
    array_bytes
        The largest array that is taken.
    item_bytes
        Most bytes of everything else in one item.
    """

    _offset: int
    _last_read_count: int

    def __init__(self, stream: BinaryIO, array_bytes: int, item_bytes: int) -> None:
        super().__init__(stream if isinstance(stream, io.BufferedIOBase) else io.BufferedReader(stream))  # type: ignore[type-var]
        self._array_bytes: Final = array_bytes
        self._item_bytes: Final = item_bytes
        self._left = item_bytes

    def next_item(self) -> None:
        """Begin to count anew."""
        self._left = self._item_bytes

    def read_view(self, count: int) -> memoryview:
        """Return the next bytes."""
        self._check(count)
        view: memoryview = super().read_view(count)
        return view

    def read_bytearray(self, count: int) -> bytearray:
        """Return a copy of the next bytes."""
        self._check(count)
        copy: bytearray = super().read_bytearray(count)
        return copy

    def _check(self, count: int) -> None:
        if count > self._array_bytes:
            raise ProtocolError(
                "MESSAGE_TOO_LARGE", f"an array of {count} bytes is announced; at most {self._array_bytes} are taken"
            )

    def _fill_buffer(self, min_count: int = 0) -> None:
        """Read until `min_count` bytes are there, and no longer."""
        held = self._last_read_count - self._offset
        self._buffer[:held] = self._buffer[self._offset : self._last_read_count]
        self._offset = 0
        while held < max(min_count, 1):
            # Not `readinto1`: that of CPython adds a read of its own, which may wait, to bytes that it has already.
            data: bytes = self._stream.read1(len(self._view) - held)
            if not data:
                raise EOFError
            self._view[held : held + len(data)] = data
            held += len(data)
            self._left -= len(data)
            if self._left < 0:
                raise ProtocolError(
                    "MESSAGE_TOO_LARGE",
                    f"an item has over {self._item_bytes} bytes beside its arrays: check what is sent",
                )
        self._last_read_count = held
