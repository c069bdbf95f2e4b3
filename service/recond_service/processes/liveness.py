"""Tell a process that is dead or stuck from one that is only slow."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_TICK = 1.0 / os.sysconf("SC_CLK_TCK")
_WORKING = 0.1
"""A thread that waits for Python's lock wakes up 200 times a second, which is not work: a core must be used this much or more."""

_PATIENCE = 10.0
"""A process that works gets so many times the time of one that does not."""

_STOPPED = frozenset("TtZXx")


@dataclass(frozen=True, slots=True)
class Activity:
    """What a process does, from proc(5).

    Parameters
    ----------
    stopped
        It is stopped, or dead and not yet reaped.
    cpu_seconds
        CPU time of all threads so far.
    waited_seconds
        For each live thread, by its id: how long it was ready to run while others had the processors.
    """

    stopped: bool
    cpu_seconds: float
    waited_seconds: dict[int, float]

    def effort_since(self, earlier: Activity) -> float:
        """Return the seconds in which threads ran or wanted to run since an earlier look."""
        waited = sum(
            seconds - earlier.waited_seconds.get(thread, seconds) for thread, seconds in self.waited_seconds.items()
        )
        return self.cpu_seconds - earlier.cpu_seconds + waited


def activity_of(pid: int) -> Activity | None:
    """Return what a process does, None if there is none of that id."""
    folder = Path("/proc") / str(pid)
    try:
        fields = (folder / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    cpu_seconds = (int(fields[11]) + int(fields[12])) * _TICK
    return Activity(fields[0] in _STOPPED, cpu_seconds, _waited(folder))


def _waited(folder: Path) -> dict[int, float]:
    """Return the time that each thread of a process spent on a run queue; empty where the kernel does not count it."""
    waited = {}
    try:
        threads = list((folder / "task").iterdir())
    except OSError:
        return {}
    for thread in threads:
        try:
            values = (thread / "schedstat").read_text(encoding="ascii").split()
            waited[int(thread.name)] = int(values[1]) * 1e-9
        except (OSError, IndexError, ValueError):
            continue  # the thread has ended
    return waited


class Pulse:
    """Decides when a silent process is given up.

    One that is stopped or does nothing is given up after `limit_seconds` of silence; one that works without a sign of life, as in a
    long call that does not let other threads run or on an overloaded machine, after ten times as long.

    Parameters
    ----------
    limit_seconds
        Longest silence of a process that does nothing.
    look
        Returns what the process does, None if it is gone.
    clock
        Seconds, monotonic.
    """

    def __init__(self, limit_seconds: float, look: Callable[[], Activity | None], clock: Callable[[], float]) -> None:
        self.limit_seconds = limit_seconds
        self.interval = limit_seconds / 8
        self._look = look
        self._clock = clock
        self._last_tick = clock()
        self._silence = 0.0
        self._next_look = limit_seconds
        self._before: Activity | None = None

    def heard(self) -> None:
        """Take note of a sign of life."""
        self._silence = 0.0
        self._next_look = self.limit_seconds
        self._before = None

    def tick(self) -> str:
        """Look after the process; to be called every `interval` seconds.

        Returns
        -------
        str
            Why the process is to be given up; empty if it is not.
        """
        now = self._clock()
        # If the caller itself did not get to run, signs of life may be waiting to be read: that time is no silence.
        self._silence += min(now - self._last_tick, 2 * self.interval)
        self._last_tick = now
        if self._before is not None and self._silence < self._next_look:
            return ""
        activity = self._look()
        if activity is None:
            return "the process is gone"
        problem = "" if self._before is None else self._judge(activity, self._before)
        if self._before is not None:
            self._next_look = self._silence + self.limit_seconds
        self._before = activity
        return problem

    def _judge(self, activity: Activity, before: Activity) -> str:
        """Return what is wrong with a process that has been silent for so long."""
        silent = f"silent for {self._silence:.1f} s"
        if activity.stopped:
            return f"{silent} and stopped"
        if activity.effort_since(before) < _WORKING * self.limit_seconds:
            return f"{silent} and idle"
        return silent if self._silence >= _PATIENCE * self.limit_seconds else ""
