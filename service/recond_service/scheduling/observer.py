"""What the scheduler tells those who keep count."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BatchReport:
    """A batch that was computed.

    Parameters
    ----------
    server
        Name of the model server that computed it.
    model
        Name of the model.
    size
        Number of frames.
    fill
        Frames in it over frames that would have been best, at most 1.
    coils
        Coils of all its frames.
    predicted_seconds, seconds
        How long it should have been computed, and was.
    forming_seconds
        How long it was held back for company while a server was free.
    handed_over, ended
        Times on the scheduler's clock.
    links
        `FrameJob.link` of its frames.
    """

    server: str
    model: str
    size: int
    fill: float
    coils: int
    predicted_seconds: float
    seconds: float
    forming_seconds: float
    handed_over: float
    ended: float
    links: tuple[object, ...] = ()


class Observer:
    """Takes no note of anything; those who do override what they care about."""

    def batch(self, report: BatchReport) -> None:
        """Take note that a batch was computed."""

    def frame(self, priority: str, queue_seconds: float, slack_seconds: float | None) -> None:
        """Take note that a frame was computed: how long it waited, and how long before its deadline it was done."""

    def again(self, why: str) -> None:
        """Take note that a frame has to wait again: ``"lost"``, ``"apart"``, ``"memory"``, ``"recalled"``."""

    def withdrawn(self, where: str) -> None:
        """Take note that a frame was withdrawn: from the ``"queue"`` or a ``"server"``."""
