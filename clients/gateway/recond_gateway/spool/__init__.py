"""Scans on their way, kept on disk: bounded, checksummed, encrypted.

A scan is recorded as it comes in and read, from the start and as often as needed, by whoever sends it on. A reader that keeps up is
served from memory; one that is late reads the disk. What a process leaves behind when it is killed is found by the next.
"""

from __future__ import annotations

from recond_gateway.spool.errors import (
    ReadingStoppedError,
    SpoolDamagedError,
    SpoolError,
    SpoolFullError,
    SpoolKeyError,
    SpoolLockedError,
)
from recond_gateway.spool.key import key_for
from recond_gateway.spool.recording import Recording
from recond_gateway.spool.spool import Spool, StoredScan
from recond_gateway.spool.tail import Record

__all__ = [
    "ReadingStoppedError",
    "Record",
    "Recording",
    "Spool",
    "SpoolDamagedError",
    "SpoolError",
    "SpoolFullError",
    "SpoolKeyError",
    "SpoolLockedError",
    "StoredScan",
    "key_for",
]
