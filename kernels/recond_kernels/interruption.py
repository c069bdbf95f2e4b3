"""Give up work that nobody waits for any more, between two steps of an iteration.

Whoever starts a computation says by `watching` how to learn which of its frames are withdrawn; code that knows which frames it is
computing says so by `computing`; solvers and networks call `checkpoint` once per iteration or cascade. Without a watch that costs
some ten nanoseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace


class Interrupted(Exception):  # noqa: N818 - the outcome of a request, not an error
    """Every frame that was being computed has been withdrawn."""


@dataclass(frozen=True, slots=True)
class _Watch:
    """Who to ask, and about which frames."""

    withdrawn: Callable[[int], bool]
    frames: Sequence[int]


_watch: ContextVar[_Watch | None] = ContextVar("watch", default=None)


@contextmanager
def watching(withdrawn: Callable[[int], bool], frames: int) -> Iterator[None]:
    """Have `checkpoint` look whether the frames of a batch are still wanted.

    Parameters
    ----------
    withdrawn
        Tells whether nobody waits any more for the frame of a number. Called often, from any thread; a frame that was withdrawn
        must stay so.
    frames
        How many frames there are, numbered from 0.
    """
    token = _watch.set(_Watch(withdrawn, range(frames)))
    try:
        yield
    finally:
        _watch.reset(token)


@contextmanager
def computing(frame: int) -> Iterator[None]:
    """Say that only one frame of the batch is computed for now, so that this one's withdrawal alone ends the work.

    Parameters
    ----------
    frame
        Its number among those that are computed so far: within `watching`, its number in the batch.
    """
    watch = _watch.get()
    if watch is None:
        yield
        return
    token = _watch.set(replace(watch, frames=(watch.frames[frame],)))
    try:
        yield
    finally:
        _watch.reset(token)


def checkpoint() -> None:
    """Go on if a frame that is being computed is still wanted, or if nobody watches.

    Raises
    ------
    Interrupted
        All of them have been withdrawn.
    """
    watch = _watch.get()
    if watch is not None and all(map(watch.withdrawn, watch.frames)):
        raise Interrupted
