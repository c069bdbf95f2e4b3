"""Why a process that parsed a scan died, as an error that says what to do."""

from __future__ import annotations

import signal

from recond_service.processes import LOST
from recond_service.types import DefectError, InvalidInputError, LimitExceededError, RecondError, UnavailableError


def cause_of_death(status: int) -> RecondError:
    """Return the error for an exit status, which is minus the number of the signal that killed the process, if any."""
    if status == -signal.SIGXCPU:
        return LimitExceededError(
            "parsing this scan took more CPU time than one request may have; send it in smaller pieces, or have "
            "scan_cpu_seconds of the service raised",
            reason="SCAN_CPU_TIME",
        )
    if status in (-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGABRT, -signal.SIGFPE, -signal.SIGILL):
        return InvalidInputError(
            f"the library that reads this format crashed on it ({signal.Signals(-status).name}); the file is damaged: "
            "write it anew",
            reason="READER_CRASHED",
            field="parts",
        )
    if status in (-signal.SIGKILL, LOST):
        return UnavailableError(
            "the process that parsed this scan was killed; try again", reason="SCAN_PROCESS_KILLED", retry_after=1.0
        )
    return DefectError(
        f"the scan process ended with status {status}; report the request id to the administrator",
        reason="SCAN_PROCESS",
    )
