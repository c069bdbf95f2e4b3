"""Sandboxes for scans."""

from __future__ import annotations

from collections.abc import Callable

from recond_service.processes import Zygote
from recond_service.sandbox import Sandbox, SandboxPool
from recond_service.scan.messages import FromScan

ScanSandbox = Sandbox[FromScan]


def scan_sandboxes(idle: Callable[[], bool] = lambda: True, most_requests: int = 1) -> SandboxPool:
    """Return the pool of sandboxes that scans are read in; parameters as for `SandboxPool`."""
    environment = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    zygote = Zygote("scan zygote", "recond_service.scan.zygote", environment=environment)
    return SandboxPool(zygote, FromScan, idle, most_requests)
