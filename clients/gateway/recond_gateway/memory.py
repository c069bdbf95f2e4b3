"""Memory of a process through which blocks of a megabyte flow."""

from __future__ import annotations

import ctypes
from typing import Final

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGEST_MMAP_THRESHOLD: Final = 32 << 20  # glibc takes no larger one
_KEPT: Final = 64 << 20


def keep_freed_memory() -> None:
    """Have glibc reuse large blocks in place of giving each back and having the next one faulted in page by page.

    Call it before threads are started. Does nothing where the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        mallopt(_M_ARENA_MAX, 1)
        mallopt(_M_TRIM_THRESHOLD, _KEPT)
