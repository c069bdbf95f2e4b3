"""Which devices there are to compute on, found out without loading torch into this process."""

from __future__ import annotations

import math
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
    """Return how many cores this process may use: those that it may run on, or fewer where its control group has a quota."""
    allowed = len(os.sched_getaffinity(0))
    return max(1, min(allowed, math.ceil(min(_quotas(), default=allowed))))


def _quotas(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> list[float]:
    """Return the CPU quotas, in cores, of the control groups of this process, from the root down (cgroups(7))."""
    try:
        entries = [line.split(":", 2) for line in membership.read_text(encoding="ascii").splitlines()]
    except OSError:
        return []
    found = []
    for _, controllers, path in (entry for entry in entries if len(entry) == 3):
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / controllers if controllers else root
        # Inside a container the path is often that on the host, and only the root is visible.
        folders = [base, *(base / part for part in _leading(path))]
        found += [quota for quota in map(_quota, folders) if quota is not None]
    return found


def _leading(path: str) -> list[str]:
    """Return "a", "a/b", "a/b/c" for "/a/b/c"."""
    names = [name for name in path.split("/") if name not in ("", "..")]
    return ["/".join(names[: place + 1]) for place in range(len(names))]


def _quota(folder: Path) -> float | None:
    """Return the quota of a control group in cores, None if it has none."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text(encoding="ascii").split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text(encoding="ascii").strip()
            period = (folder / "cpu.cfs_period_us").read_text(encoding="ascii").strip()
        return int(quota) / int(period) if quota.isdigit() and int(quota) > 0 and int(period) > 0 else None
    except (OSError, ValueError):
        return None
