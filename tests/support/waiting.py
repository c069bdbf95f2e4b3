"""Waiting for what nobody announces: states of other processes and of the kernel. Where there is an event, await that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_PAUSE = 0.005


def eventually(condition: Callable[[], T], seconds: float = 30.0) -> T:
    """Return the first true value of a condition; fail if there is none in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(_PAUSE)
    raise AssertionError(f"{condition} did not become true within {seconds:g} s")


async def eventually_async(condition: Callable[[], T], seconds: float = 30.0) -> T:
    """As `eventually`, while the event loop goes on."""
    async with asyncio.timeout(seconds):
        while not (value := condition()):  # noqa: ASYNC110 - see above
            await asyncio.sleep(_PAUSE)
    return value
