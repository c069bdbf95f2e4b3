"""Pauses between the lives of a process that keeps dying."""

from __future__ import annotations

from collections.abc import Callable

_FIRST, _LONGEST = 0.1, 10.0
_HEALTHY_SECONDS = 10.0


class Backoff:
    """No pause after a healthy life, a short one after a useful life, growing ones after short and useless lives in a row.

    Parameters
    ----------
    clock
        Seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._since = clock()
        self._next = 0.0

    def begun(self) -> None:
        """Take note that a life begins."""
        self._since = self._clock()

    def useful(self) -> None:
        """Take note that this life has been of use: what ended the ones before it does not end every one."""
        self._next = min(self._next, _FIRST)

    def ended(self) -> float:
        """Take note that it has ended, and return the pause before the next one, seconds."""
        if self._clock() - self._since >= _HEALTHY_SECONDS:
            self._next = 0.0
        pause = self._next
        self._next = min(max(2 * pause, _FIRST), _LONGEST)
        return pause
