"""What can go wrong with the spool."""

from __future__ import annotations

from typing import ClassVar

from recond_client.errors import RecondError


class SpoolError(RecondError):
    """Base of the errors of the spool.

    Parameters
    ----------
    message
        What is wrong and what to do about it; never anything of the scan itself.
    scan_id
        Which scan, empty if it is the folder as a whole.
    """

    _status: ClassVar = "FAILED_PRECONDITION"
    _reason: ClassVar = "SPOOL"

    def __init__(self, message: str, scan_id: str = "") -> None:
        super().__init__(message, status=self._status, reason=self._reason)
        self.scan_id = scan_id


class SpoolFullError(SpoolError):
    """The bound of the spool or the disk is reached: what was recorded so far stays and can be read."""

    _status = "RESOURCE_EXHAUSTED"
    _reason = "SPOOL_FULL"


class SpoolDamagedError(SpoolError):
    """What is on the disk is not what was written there."""

    _status = "DATA_LOSS"
    _reason = "SPOOL_DAMAGED"


class SpoolKeyError(SpoolError):
    """The key is missing, not fit to be used, or not the one the spool was written with."""

    _reason = "SPOOL_KEY"


class SpoolLockedError(SpoolError):
    """Another process uses the folder."""

    _reason = "SPOOL_LOCKED"


class ReadingStoppedError(SpoolError):
    """The reader was woken before the recording ended: it was told to stop, or the recording was removed."""

    _status = "CANCELLED"
    _reason = "READING_STOPPED"
