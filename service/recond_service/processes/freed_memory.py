"""Keep large freed blocks while there is work, and give them back to the kernel when there is none.

By default glibc unmaps every large block as soon as it is freed, and the next one of the same size is faulted in and zeroed page by
page. Messages of 1 MiB and arrays of some megabytes that come and go all the time then cost more in page faults than in work:
measured, receiving an upload takes half the time with freed memory kept, and a root sum of squares of 26 MB a third.

What is kept must be found again. By default every thread that meets a busy heap gets a heap of its own, up to eight for each
processor, and each of them keeps what was freed in it: measured, over 2,000 reconstructions a front end grew from 125 to 149 MB
with 14 MB in use and went on growing, and with one heap for all threads stayed below 100 MB. What lies between blocks that are in
use still adds up over time, so a process that has had nothing to do for a while gives back all that is free.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGEST_MMAP_THRESHOLD = 32 << 20  # glibc takes no larger one
_IDLE_SECONDS = 3.0


def keep_freed_memory(most_bytes: int) -> None:
    """Have this process keep up to `most_bytes` of freed memory, in one heap for all threads. Call it before threads are started.

    Does nothing where the C library is not glibc.

    Parameters
    ----------
    most_bytes
        How much may stay unused at the top of the heap.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_TRIM_THRESHOLD, min(most_bytes, (1 << 31) - 1))


def give_back_freed_memory() -> None:
    """Give all memory that is free back to the kernel. Takes milliseconds; does nothing where the C library is not glibc."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class FreedMemory:
    """Gives freed memory back once a process has had nothing to do for a while.

    Parameters
    ----------
    idle_seconds
        How long that is.
    clock
        Returns seconds.
    give_back
        Gives the memory back.
    """

    def __init__(
        self,
        idle_seconds: float = _IDLE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        give_back: Callable[[], None] = give_back_freed_memory,
    ) -> None:
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._give_back = give_back
        self._idle_since: float | None = None

    def look(self, *, working: bool) -> None:
        """Tell once in a while whether there is work; after `idle_seconds` without any, memory is given back, once.

        Parameters
        ----------
        working
            There is work now, or there has been since the last look.
        """
        if working:
            self._idle_since = self._clock()
        elif self._idle_since is not None and self._clock() - self._idle_since >= self._idle_seconds:
            self._idle_since = None
            self._give_back()
