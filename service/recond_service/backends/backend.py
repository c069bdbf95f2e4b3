"""What the scheduler knows of a model server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from recond_models.registry import ModelInfo
from recond_service.transport import FrameLayout, SharedBlock

Note = tuple[str, str]
"""Code and message, as `recond_models.batch.Note`, which this side of the process boundary cannot import without torch."""


class WorkerLostError(Exception):
    """The model server went away while it had the batch; the frames are unharmed and may run elsewhere or again."""


@dataclass(frozen=True, slots=True)
class FrameInput:
    """A frame for a model server.

    Parameters
    ----------
    layout
        Sizes.
    block
        Shared memory of that layout.
    """

    layout: FrameLayout
    block: SharedBlock


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """What a model server made of a batch.

    Parameters
    ----------
    images
        One block a frame: float32 (rows, columns), magnitude, in the scale of the frame.
    residuals
        ``||A x - y|| / ||y||`` of each frame, None where the model does not fit the samples.
    seconds
        Time that the model took.
    notes
        What the model noticed on each frame: (code, message). Empty if there is nothing on any frame.
    """

    images: tuple[SharedBlock, ...]
    residuals: tuple[float | None, ...]
    seconds: float
    notes: tuple[tuple[Note, ...], ...] = ()


class Backend(Protocol):
    """A model server, or a fleet of them."""

    @property
    def slots(self) -> int:
        """How many batches it takes at once; 0 while it cannot work."""

    @property
    def max_batch(self) -> int:
        """Most frames in a batch that gain by being together."""

    async def run(self, model: ModelInfo, frames: Sequence[FrameInput]) -> BatchOutcome:
        """Reconstruct frames of equal rows and columns.

        Raises
        ------
        WorkerLostError
            If the server went away meanwhile.
        RecondError
            If the model failed on these frames.
        """
