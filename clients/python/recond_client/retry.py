"""When to try again. No network here; time comes from outside."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from recond_client.errors import InputError, RecondError, RetryLaterError


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential back-off with jitter.

    Only calls that cannot have had an effect twice are tried again: nothing was delivered, and the source can be read
    from the start.

    Parameters
    ----------
    attempts
        Most attempts, the first included; 1 never tries again.
    first_delay
        Seconds before the second attempt.
    factor
        By what each further delay is longer.
    max_delay
        Longest delay of the back-off, seconds. The service may ask for more.
    jitter
        Fraction of the delay that is random: a delay d becomes d (1 - jitter) to d.
    """

    attempts: int = 4
    first_delay: float = 0.5
    factor: float = 2.0
    max_delay: float = 15.0
    jitter: float = 0.5


@dataclass(frozen=True, slots=True)
class Clock:
    """Where time and chance come from.

    Parameters
    ----------
    now
        Returns seconds that never go back.
    random
        Uniform in [0, 1).
    """

    now: Callable[[], float] = time.monotonic
    random: Callable[[], float] = field(default=random.random)


def check_timeout(timeout: float | None) -> float | None:
    """Return a timeout as it is.

    Raises
    ------
    InputError
        If it is not above 0.
    """
    if timeout is not None and not timeout > 0:
        msg = f"timeout={timeout:g}: give seconds above 0, or None for no limit"
        raise InputError(msg, reason="OUT_OF_RANGE", field="timeout")
    return timeout


class Schedule:
    """The attempts of one call.

    Parameters
    ----------
    policy
        How often and how long.
    timeout
        Seconds for all attempts together, None for no end.
    clock
        Where time and chance come from.

    Raises
    ------
    InputError
        If the timeout is not above 0.
    """

    def __init__(self, policy: RetryPolicy, timeout: float | None, clock: Clock) -> None:
        check_timeout(timeout)
        self._policy = policy
        self._clock = clock
        self._end = None if timeout is None else clock.now() + timeout
        self._failed = 0

    def remaining(self) -> float | None:
        """Seconds until the deadline, never negative; None if there is none."""
        return None if self._end is None else max(0.0, self._end - self._clock.now())

    def delay_after(self, error: RecondError, *, repeatable: bool) -> float | None:
        """Return the seconds to wait before the next attempt, or None if there must not be one.

        Parameters
        ----------
        error
            Why the last attempt failed.
        repeatable
            Whether nothing was delivered and the source can be read again.
        """
        self._failed += 1
        again = isinstance(error, RetryLaterError) and error.status in {"UNAVAILABLE", "RESOURCE_EXHAUSTED"}
        if not (again and repeatable) or self._failed >= self._policy.attempts:
            return None
        delay = min(self._policy.first_delay * self._policy.factor ** (self._failed - 1), self._policy.max_delay)
        delay *= 1 - self._policy.jitter * self._clock.random()
        if error.retry_after is not None:
            # Everybody who was turned away got the same hint: spread the returns behind it.
            delay += error.retry_after
        remaining = self.remaining()
        return None if remaining is not None and delay >= remaining else delay
