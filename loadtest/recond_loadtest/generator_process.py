"""The process that sends the load: what would make it late is kept away."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from recond_loadtest.scenario import GeneratorSettings

_SWITCH_SECONDS: Final = 1e-3


@contextmanager
def undisturbed(settings: GeneratorSettings) -> Iterator[None]:
    """Keep what delays the threads of this process away while the context lasts.

    Parameters
    ----------
    settings
        Cores and priority; a priority that the system does not allow is left alone.
    """
    interval, cores, nice = sys.getswitchinterval(), os.sched_getaffinity(0), os.getpriority(os.PRIO_PROCESS, 0)
    gc.collect()
    gc.freeze()  # what is there already need not be looked through again and again
    sys.setswitchinterval(_SWITCH_SECONDS)
    if settings.cpus:
        os.sched_setaffinity(0, settings.cpus)
    _set_priority(settings.nice)
    try:
        yield
    finally:
        _set_priority(nice)
        os.sched_setaffinity(0, cores)
        sys.setswitchinterval(interval)
        gc.unfreeze()


def _set_priority(nice: int) -> None:
    """Set the priority of all threads that there are; those that they start inherit it."""
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, int(thread.name), nice)
