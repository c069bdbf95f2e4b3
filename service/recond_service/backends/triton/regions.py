"""Shared memory with a name, which a Triton server on this host maps.

Who has a region holds a lock on its file for as long as it lives. So a region whose lock is free has been left behind by a process
that died, whatever namespace its process id came from.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final

FOLDER: Final = Path("/dev/shm")  # noqa: S108 - where shm_open(3) of Linux keeps them
NAME_PREFIX: Final = "recond-triton-"
_SMALLEST: Final = 1 << 20


class Region:
    """A block of shared memory with a name of its own.

    Parameters
    ----------
    size
        Least bytes; rounded up, so that regions can be used again for batches of about that size.

    Raises
    ------
    OSError
        There is no room.

    Attributes
    ----------
    name
        Its name, for Triton and in `FOLDER`.
    size
        Bytes.
    memory
        The bytes.
    """

    def __init__(self, size: int) -> None:
        self.name = NAME_PREFIX + secrets.token_hex(8)
        self.size = rounded(size)
        path = FOLDER / self.name
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Room is taken now: a write into memory that cannot be had later would kill this process, or the server.
            os.posix_fallocate(self._fd, 0, self.size)
            self.memory = mmap.mmap(self._fd, self.size)
        except OSError:
            path.unlink(missing_ok=True)
            os.close(self._fd)
            raise

    def close(self) -> None:
        """Give the memory back. Arrays that are mapped stay valid. May be called twice."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            (FOLDER / self.name).unlink(missing_ok=True)
            os.close(fd)
            with contextlib.suppress(BufferError):  # unmapped when the last array goes
                self.memory.close()

    def __del__(self) -> None:
        if hasattr(self, "memory"):
            self.close()


def rounded(size: int) -> int:
    """Return the size of the region for `size` bytes: a power of two, or three quarters of one."""
    power = max(_SMALLEST, 1 << (size - 1).bit_length())
    return power * 3 // 4 if power > _SMALLEST and size <= power * 3 // 4 else power


def left_behind(name: str) -> bool:
    """Tell whether nobody has the region of that name any more; its file is removed then."""
    path = FOLDER / name
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    except OSError:
        return False  # another user's
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def remove_left_behind() -> list[str]:
    """Remove the regions of processes that died, and return their names."""
    return [name for name in _names() if left_behind(name)]


def _names() -> Iterator[str]:
    with contextlib.suppress(OSError), os.scandir(FOLDER) as entries:
        yield from [entry.name for entry in entries if entry.name.startswith(NAME_PREFIX)]
