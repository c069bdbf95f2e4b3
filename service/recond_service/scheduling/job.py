"""A frame that wants to be reconstructed, or slices that a head is to run on, and what became of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from recond_models.model import ModelInfo
from recond_service.backends import Batch, ComputedFrame, FrameInput, SlicesInput
from recond_service.scheduling.bucket import Bucket
from recond_service.types import Priority


@dataclass(frozen=True, slots=True)
class FrameOutcome:
    """What became of a frame.

    Parameters
    ----------
    frame
        Its image, which the receiver owns, and what is known of it.
    queue_seconds, compute_seconds
        Time in the queue, and the frame's share of the time that its batch was computed.
    batch_size
        Frames of its batch.
    """

    frame: ComputedFrame
    queue_seconds: float
    compute_seconds: float
    batch_size: int = 1


@dataclass(slots=True, eq=False)
class FrameJob:
    """A frame that wants to be reconstructed, or slices that a head is to run on.

    Parameters
    ----------
    model
        The model that reconstructs it, or the head.
    frame
        The frame, or the slices. The scheduler's from `Scheduler.submit` on, which closes it when no server can be reading it
        any more.
    client
        Whose it is, for fairness between clients.
    priority
        How urgent it is.
    deadline
        Time on the scheduler's clock after which nobody wants the image, or None.
    done
        Settled by the scheduler. Cancel it to withdraw the frame.
    link
        What spans of its batch refer to, see `recond_service.telemetry`.
    """

    model: ModelInfo
    frame: FrameInput | SlicesInput
    client: str
    priority: Priority
    deadline: float | None
    done: asyncio.Future[FrameOutcome]
    link: object = None
    submitted: float = 0.0
    number: int = 0
    due: float = 0.0
    tries: int = 0
    alone: bool = False
    recalled: bool = False
    bucket: Bucket = field(init=False)
    batch: Batch | None = None
    place: int = 0

    def __post_init__(self) -> None:
        layout = self.frame.layout
        self.bucket = Bucket.of(self.model, layout.rows, layout.columns)

    @property
    def suspect(self) -> bool:
        """A server was lost while it may have been computing this frame."""
        return self.tries > 0

    @property
    def coils(self) -> int:
        """Coils of the frame, or slices that the head answers: what the cost grows with."""
        return self.frame.layout.coils
