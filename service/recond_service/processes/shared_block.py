"""Anonymous shared memory that travels between processes as a file descriptor."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


class SharedBlock:
    """A block of bytes of fixed size in a Linux `memfd`.

    The size is sealed when the block is made, so that a process that maps it can rely on it: a peer that truncated the block
    would otherwise kill its reader with SIGBUS.

    Parameters
    ----------
    fd
        Descriptor of a sealed memfd. The block owns it from now on.
    size
        Length of the block, bytes.
    """

    __slots__ = ("_fd", "size")

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self.size = size

    @classmethod
    def create(cls, name: str, size: int) -> SharedBlock:
        """Make a zeroed block of `size` bytes; `name` is shown in ``/proc/PID/fd`` only.

        Pages are allocated when they are first written.
        """
        fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, size)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        except OSError:
            os.close(fd)
            raise
        return cls(fd, size)

    @classmethod
    def holding(cls, name: str, *pieces: bytes | memoryview) -> SharedBlock:
        """Make a block that holds the pieces one after another."""
        block = cls.create(name, sum(len(piece) for piece in pieces))
        offset = 0
        for piece in pieces:
            block.write(piece, offset)
            offset += len(piece)
        return block

    @classmethod
    def received(cls, fd: int, size: int) -> SharedBlock:
        """Take over a descriptor from another process.

        Raises
        ------
        ValueError
            If it is not a block of exactly `size` bytes whose size is sealed. The descriptor is closed then.
        """
        try:
            seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
            actual = os.fstat(fd).st_size
        except OSError as error:
            os.close(fd)
            raise ValueError(f"descriptor is not shared memory: {error}") from error
        if seals & _SEALS != _SEALS or actual != size:
            os.close(fd)
            raise ValueError(
                f"shared block has {actual} bytes and seals {seals:#x}; expected {size} bytes, size sealed"
            )
        return cls(fd, size)

    @property
    def fd(self) -> int:
        """The descriptor. Still owned by the block."""
        if self._fd < 0:
            raise ValueError("shared block is closed")
        return self._fd

    def write(self, data: bytes | memoryview, offset: int) -> None:
        """Copy `data` into the block without mapping it.

        Raises
        ------
        ValueError
            If it does not fit.
        """
        if offset < 0 or offset + len(data) > self.size:
            raise ValueError(f"{len(data)} bytes at {offset} do not fit into a block of {self.size} bytes")
        view = memoryview(data)
        while view:
            done = os.pwrite(self.fd, view, offset)
            view, offset = view[done:], offset + done

    def read(self, offset: int, length: int) -> bytes:
        """Copy bytes out of the block without mapping it."""
        return os.pread(self.fd, length, offset)

    def array(
        self,
        dtype: DTypeLike,
        shape: tuple[int, ...],
        offset: int = 0,
        *,
        writable: bool = False,
        populate: bool = False,
    ) -> NDArray[Any]:
        """Map a part of the block as an array; the mapping lives as long as the array.

        Parameters
        ----------
        dtype, shape
            Of the array.
        offset
            Bytes from the start of the block.
        writable
            Whether the array may be written to.
        populate
            Fault all pages in at once: pays where the whole array is going to be touched.
        """
        count = int(np.prod(shape, dtype=np.int64))
        if count == 0:
            return np.empty(shape, dtype)
        end = offset + count * np.dtype(dtype).itemsize
        if end > self.size:
            raise ValueError(f"array that ends at {end} does not fit into a block of {self.size} bytes")
        start = offset - offset % mmap.ALLOCATIONGRANULARITY
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        flags = mmap.MAP_SHARED | (mmap.MAP_POPULATE if populate else 0)
        try:
            mapping = mmap.mmap(self.fd, end - start, flags=flags, prot=protection, offset=start)
        except OSError as error:
            if error.errno == errno.ENOMEM:
                raise MemoryError(f"no address space for {end - start} bytes") from error
            raise
        return np.frombuffer(mapping, dtype, count, offset - start).reshape(shape)

    def close(self) -> None:
        """Give the descriptor back. Mapped arrays stay valid. May be called twice."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def __enter__(self) -> SharedBlock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()
