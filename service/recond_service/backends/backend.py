"""What the scheduler knows of model servers: they take packed batches of frames and give images back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol, get_args

from recond_models.evidence import HeldOut
from recond_models.model import ModelInfo
from recond_models.note import Note
from recond_service.processes import FrameLayout, SharedBlock, SliceLayout

Work = Literal["reconstruction", "heads"]
"""What a model server may be there for: frames of k-space, or the slices that heads run on."""

ALL_WORK: Final[frozenset[Work]] = frozenset(get_args(Work))


def work_of(model: ModelInfo) -> Work:
    """Return what a server must be there for to run a model."""
    return "heads" if model.kind == "head" else "reconstruction"


class ServerLostError(Exception):
    """A model server went away while it had a batch; the frames are unharmed and may run elsewhere or again.

    Parameters
    ----------
    message
        How the server was lost.
    begun
        The server may have begun to compute the batch: then one of its frames may be what brought it down.
    """

    def __init__(self, message: str = "the model server was lost", *, begun: bool = True) -> None:
        super().__init__(message)
        self.begun = begun


class TooLargeError(Exception):
    """The device has not enough memory for a batch of this size; fewer frames at once may fit."""


@dataclass(frozen=True, slots=True)
class FrameInput:
    """A frame for a model server.

    Parameters
    ----------
    layout
        Sizes of the frame and of its image.
    block
        Shared memory of that layout.
    """

    layout: FrameLayout
    block: SharedBlock


@dataclass(frozen=True, slots=True)
class SlicesInput:
    """Slices for a head on a model server.

    Parameters
    ----------
    layout
        Sizes of the block and of the answer.
    block
        Shared memory of that layout.
    """

    layout: SliceLayout
    block: SharedBlock


@dataclass(slots=True, eq=False)
class Batch:
    """Frames of equal rows and columns that run together.

    Parameters
    ----------
    model
        The model that reconstructs them, or the head that runs on them.
    frames
        The frames, whose coils may differ; or, for a head, blocks of slices.
    predicted_seconds
        How long the batch is expected to compute.

    Attributes
    ----------
    withdrawn
        Numbers of the frames that nobody waits for any more.
    on_withdraw
        Set by the server that has the batch: told the number of a frame that is withdrawn from now on.
    """

    model: ModelInfo
    frames: tuple[FrameInput | SlicesInput, ...]
    predicted_seconds: float = 0.0
    withdrawn: set[int] = field(default_factory=set)
    on_withdraw: Callable[[int], None] | None = None

    def withdraw(self, number: int) -> None:
        """Say that nobody waits for a frame any more. The server may leave it out, and stops when no frame is left."""
        if number not in self.withdrawn:
            self.withdrawn.add(number)
            if self.on_withdraw is not None:
                self.on_withdraw(number)


@dataclass(frozen=True, slots=True)
class ComputedFrame:
    """What a model server made of a frame.

    Parameters
    ----------
    image
        The finished image in shared memory, as `FrameLayout` describes it. The receiver owns it.
    residual
        ``||A x - y|| / ||y||``, None where the model does not fit the samples.
    notes
        What the model noticed on the frame.
    trial
        What held-out samples of the frame showed; None where none were held out.
    """

    image: SharedBlock
    residual: float | None = None
    notes: tuple[Note, ...] = ()
    trial: HeldOut | None = None


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """What a model server made of a batch.

    Parameters
    ----------
    frames
        One entry a frame; None for a frame that was withdrawn before it was done.
    seconds
        Time that the model took.
    peak_bytes
        Most memory of the device that the batch took while it was computed; 0 where that is not known.
    """

    frames: tuple[ComputedFrame | None, ...]
    seconds: float = 0.0
    peak_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Measurement:
    """How long a batch took on a server, measured at its warm-up.

    Parameters
    ----------
    model
        Name of the model.
    version, weights_sha256
        Its version, and the hash of its weights.
    rows, columns
        Of the frames.
    coils
        Of each frame of the batch.
    seconds
        How long the batch was computed.
    peak_bytes
        Memory that it took, 0 if not known.
    """

    model: str
    version: str
    weights_sha256: str
    rows: int
    columns: int
    coils: tuple[int, ...]
    seconds: float
    peak_bytes: int = 0


class ModelServer(Protocol):
    """One model server: a worker process, or a Triton Inference Server."""

    @property
    def name(self) -> str:
        """Names it in logs and metrics; the same over restarts."""

    @property
    def up(self) -> bool:
        """It can compute."""

    @property
    def concurrency(self) -> int:
        """How many batches it computes at once."""

    @property
    def memory_bytes(self) -> int:
        """Memory that batches may take at once, 0 if that is not known."""

    @property
    def work(self) -> frozenset[Work]:
        """What it is there for; it gets nothing else, whatever it has. Fixed."""

    def has(self, model: ModelInfo) -> bool:
        """Tell whether it has the model, or had it when it was last up and is likely to come back; as far as is known."""

    async def run(self, batch: Batch) -> BatchOutcome:
        """Reconstruct a batch.

        More batches than `concurrency` may be handed over: the server computes them in the order in which they came.

        Raises
        ------
        ServerLostError
            If the server went away meanwhile.
        TooLargeError
            If the device has not enough memory for the batch.
        RecondError
            If the model failed on these frames.
        """


class Backend(Protocol):
    """A fleet of model servers."""

    @property
    def servers(self) -> Sequence[ModelServer]:
        """All servers, whether up or not; fixed."""

    def measurements(self) -> Sequence[Measurement]:
        """Return what was measured at the warm-up of the servers that are up."""

    async def start(self) -> None:
        """Start looking after the servers."""

    async def wait_ready(self) -> None:
        """Wait until one server is up."""

    async def close(self) -> None:
        """End what was started."""
