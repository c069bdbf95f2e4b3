"""What a worker and its supervisor say to each other.

A batch goes to the worker as `Run`, with one descriptor a frame; if there are many, the first ones go ahead in `MoreFrames`. Every
batch is answered, in the order of their coming, by `Done` with one descriptor an image (if there are many, the first ones go ahead
in `MoreImages`), or by `TooLarge`, or by `Failed`. `Beat` says once in a while that the worker is alive.
"""

from __future__ import annotations

from recond_models.evidence import HeldOut
from recond_models.note import Note
from recond_service.backends.backend import Measurement
from recond_service.backends.embedded.options import WorkerOptions
from recond_service.processes import FrameLayout, Message, SliceLayout
from recond_service.types import ErrorReport


class StartWorker(Message, frozen=True):
    """The opening of a worker; its board comes along."""

    options: WorkerOptions


class MoreFrames(Message, frozen=True):
    """Descriptors of frames of the next `Run`."""


class Run(Message, frozen=True):
    """A batch to compute.

    Parameters
    ----------
    batch
        The supervisor's number for it.
    slot
        Its place on the board.
    model, version, weights_sha256
        What is to compute it.
    layouts
        Sizes of each frame and its image; empty for a head.
    slices
        Sizes of each block of slices and its answer; empty for a model that reconstructs.
    """

    batch: int
    slot: int
    model: str
    version: str
    weights_sha256: str
    layouts: tuple[FrameLayout, ...]
    slices: tuple[SliceLayout, ...] = ()


ToWorker = MoreFrames | Run


class Beat(Message, frozen=True):
    """The worker is alive."""


class WorkerReady(Message, frozen=True):
    """The worker can compute.

    Parameters
    ----------
    device
        Where, as torch has it.
    torch_threads
        With how many threads.
    memory_bytes
        How much memory its batches may take at once.
    measurements
        What batches took at the warm-up.
    """

    device: str
    torch_threads: int
    memory_bytes: int
    measurements: tuple[Measurement, ...]


class MoreImages(Message, frozen=True):
    """Descriptors of images of a batch that is about to be answered."""

    batch: int


class FrameFacts(Message, frozen=True):
    """What is known of a frame beside its image: residual, notes and trial as in `recond_service.execution.FrameResult`."""

    residual: float | None
    notes: tuple[Note, ...]
    trial: HeldOut | None = None


class Done(Message, frozen=True):
    """A batch was computed; a descriptor for each image comes along.

    Parameters
    ----------
    batch
        Its number.
    frames
        One entry a frame; None for a frame without an image, which was withdrawn.
    seconds
        How long it was computed.
    peak_bytes
        Most memory that it took; 0 where that is not known.
    """

    batch: int
    frames: tuple[FrameFacts | None, ...]
    seconds: float
    peak_bytes: int


class TooLarge(Message, frozen=True):
    """The memory did not suffice for a batch."""

    batch: int
    problem: str


class Failed(Message, frozen=True):
    """A batch could not be computed.

    Parameters
    ----------
    batch
        Its number.
    error
        Why not.
    traceback
        For the log; empty where the error says everything.
    """

    batch: int
    error: ErrorReport
    traceback: str = ""


FromWorker = Beat | WorkerReady | MoreImages | Done | TooLarge | Failed
