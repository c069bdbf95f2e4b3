"""Shared memory that is filled bit by bit before its final size is known."""

from __future__ import annotations

import fcntl
import math
import mmap
import os

import numpy as np
from numpy.typing import NDArray

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW


class StagedKspace:
    """K-space of a frame in a `memfd`, zero to begin with.

    Parameters
    ----------
    shape
        (coils, rows, columns).

    Raises
    ------
    MemoryError
        There is no address space for it.

    Attributes
    ----------
    array
        complex64 of that shape, C order.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        size = 8 * math.prod(shape)
        self._fd = os.memfd_create("recond-frame", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self._fd, size)
            mapping = mmap.mmap(self._fd, size, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        except OSError as error:
            self.close()
            raise MemoryError(f"no memory for {size} bytes to share") from error
        self.array: NDArray[np.complex64] = np.frombuffer(mapping, np.complex64).reshape(shape)

    def holds(self, kspace: NDArray[np.complex64]) -> bool:
        """Tell whether an array is this one, and not what was made of it."""
        return (
            self._fd >= 0
            and kspace.shape == self.array.shape
            and kspace.flags.c_contiguous
            and kspace.ctypes.data == self.array.ctypes.data
        )

    def seal(self, size: int) -> int:
        """Give it its final size, and return the descriptor, which is the caller's from now on.

        Parameters
        ----------
        size
            Bytes, at least those of the array.
        """
        os.ftruncate(self._fd, size)
        fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, _SEALS)
        fd, self._fd = self._fd, -1
        return fd

    def close(self) -> None:
        """Give the memory back once the array is gone too. May be called twice."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def __del__(self) -> None:
        self.close()
