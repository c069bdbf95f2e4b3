"""What the run took place on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any, Final

import psutil

_PACKAGES: Final = ("recond", "grpcio", "numpy")


def describe_machine() -> dict[str, Any]:
    """Return facts about the machine and its load now."""
    pressure = _read("/proc/pressure/cpu")
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count() or 0,
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "generator_nice": os.getpriority(os.PRIO_PROCESS, 0),
        "load_before": os.getloadavg()[0],
        "cpu_pressure_before": pressure.partition("\n")[0],
    }


def _cpu_name() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
