"""Which devices there are to compute on, found out without loading torch into this process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import structlog

_DRIVERS = (Path("/dev/nvidiactl"), Path("/dev/dxg"))  # of NVIDIA GPUs; the second under WSL
_SECONDS = 120.0

_log = structlog.get_logger(__name__)


def visible_gpus() -> tuple[str, ...]:
    """Return the names that torch has for the GPUs that this process may use, such as ``"cuda:0"``."""
    if not any(driver.exists() for driver in _DRIVERS):
        return ()
    question = "import torch; print(torch.cuda.device_count() if torch.cuda.is_available() else 0)"
    try:
        answer = subprocess.run(
            [sys.executable, "-P", "-c", question],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            text=True,
            timeout=_SECONDS,
        )
        count = int(answer.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        _log.error("gpus-not-counted", problem=str(error))
        return ()
    return tuple(f"cuda:{number}" for number in range(count))


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))
