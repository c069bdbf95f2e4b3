"""How much of the disk a spool may take."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from recond_gateway.spool.errors import SpoolFullError


class DiskRoom:
    """Counts the bytes of a spool.

    Parameters
    ----------
    folder
        Of the spool.
    max_bytes
        The most that the spool may take.
    min_free_bytes
        What has to stay free on the disk.
    """

    def __init__(self, folder: Path, max_bytes: int, min_free_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._min_free_bytes = min_free_bytes
        self._used = 0
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        """Bytes taken."""
        return self._used

    def count(self, size: int) -> None:
        """Count bytes that are there already, whatever the bound; negative ones are gone."""
        with self._lock:
            self._used += size

    def take(self, size: int, scan_id: str) -> None:
        """Take bytes for a scan.

        Raises
        ------
        SpoolFullError
            If the bound would be passed, or too little of the disk would stay free.
        """
        state = os.statvfs(self._folder)
        free = state.f_bavail * state.f_frsize
        with self._lock:
            if self._used + size > self._max_bytes:
                msg = (
                    f"The spool {self._folder} holds {_megabytes(self._used)} of at most {_megabytes(self._max_bytes)}: bring the "
                    "service back so that scans leave it, remove old scans, or give it more."
                )
                raise SpoolFullError(msg, scan_id)
            if free - size < self._min_free_bytes:
                raise self.disk_full(scan_id, free)
            self._used += size

    def disk_full(self, scan_id: str, free: int | None = None) -> SpoolFullError:
        """Return the error to raise where the disk is full."""
        left = (
            f"has {_megabytes(free)} left, and {_megabytes(self._min_free_bytes)} have to stay free"
            if free
            else "is full"
        )
        msg = (
            f"The disk of the spool {self._folder} {left}: free some of it, bring the service back so that scans leave the spool, "
            "or move the spool to a larger disk."
        )
        return SpoolFullError(msg, scan_id)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"
