"""The process that sends the load: what would make it late is kept away."""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import grpc
import grpc._common

from recond_loadtest.scenario import GeneratorSettings

_WAKE_SECONDS: Final = 5.0
#: gRPC wakes every thread that waits for an answer ten times a second, so that signals reach the main thread, which never waits
#: here. With hundreds of requests on their way that would cost more than the requests. Absent from gRPC, it is left alone.
_WAKE: Final = "MAXIMUM_WAIT_TIMEOUT"
_AUTOGROUP: Final = Path("/proc/self/autogroup")


@contextmanager
def undisturbed(settings: GeneratorSettings) -> Iterator[None]:
    """Keep what delays the threads of this process away while the context lasts.

    Parameters
    ----------
    settings
        Cores and priority; a priority that the system does not allow is left alone.
    """
    cores = os.sched_getaffinity(0)
    nice, group_nice = os.getpriority(os.PRIO_PROCESS, 0), _group_nice()
    gc.collect()
    gc.freeze()  # what is there already need not be looked through again and again
    if settings.cpus:
        os.sched_setaffinity(0, settings.cpus)
    _set_priority(settings.nice, settings.nice)
    wake = getattr(grpc._common, _WAKE, None)  # noqa: SLF001 - see _WAKE
    if wake is not None:
        setattr(grpc._common, _WAKE, _WAKE_SECONDS)  # noqa: SLF001
    try:
        yield
    finally:
        if wake is not None:
            setattr(grpc._common, _WAKE, wake)  # noqa: SLF001
        _set_priority(nice, group_nice)
        os.sched_setaffinity(0, cores)
        gc.unfreeze()


def _group_nice() -> int:
    """Return the priority of the session among all sessions, which Linux schedules as groups (sched(7), autogroup)."""
    try:
        return int(_AUTOGROUP.read_text(encoding="ascii").rpartition(" ")[2])
    except (OSError, ValueError):
        return 0


def _set_priority(nice: int, group_nice: int) -> None:
    """Set the priority of the session, and of all threads that there are; those that they start inherit it."""
    with contextlib.suppress(OSError):
        _AUTOGROUP.write_text(str(group_nice), encoding="ascii")
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, int(thread.name), nice)
