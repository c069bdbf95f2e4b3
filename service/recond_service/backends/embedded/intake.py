"""Reads batches from the channel, and brings them as far as they can be brought while the one before is computed."""

from __future__ import annotations

import queue
from collections.abc import Callable, Hashable
from typing import Any

import torch

from recond_models.batch import PackedBatch
from recond_service.backends.embedded.device import Device
from recond_service.backends.embedded.withdrawals import Board
from recond_service.transport import BlockingChannel, FrameLayout, Message


class Job:
    """A batch that has come.

    Parameters
    ----------
    body
        Of the message ``run``.

    Attributes
    ----------
    number, slot
        The supervisor's number for it, and its place on the board.
    model, version, weights_sha256
        By what it is to be computed.
    input_bytes
        Memory that its k-space takes.
    """

    def __init__(self, body: dict[str, Any]) -> None:
        self.number = int(body["batch"])
        self.slot = int(body["slot"])
        self.model = str(body["model"])
        self.version = str(body["version"])
        self.weights_sha256 = str(body["weights_sha256"])
        self.input_bytes = 0
        self._layouts: list[dict[str, Any]] = list(body["layouts"])
        self._take: Callable[[], PackedBatch] | None = None
        self._problem: Exception | None = None

    @property
    def frames(self) -> int:
        """How many frames there are."""
        return len(self._layouts)

    @property
    def kind(self) -> Hashable:
        """Batches of a kind take the same memory."""
        first = self._layouts[0]
        coils = sum(layout["coils"] for layout in self._layouts)
        return (self.model, self.version, first["rows"], first["columns"], self.frames, coils)

    def stage(self, message: Message, device: Device) -> None:
        """Map the frames and begin to bring them to the device; what goes wrong is raised by `take`.

        Parameters
        ----------
        message
            Has a descriptor for each frame; those that are taken are closed.
        device
            Where the batch will be computed.
        """
        try:
            layouts = [FrameLayout.from_json(layout) for layout in self._layouts]
            arrays = []
            for layout in layouts:
                with message.take_block(layout.size) as block:
                    arrays.append(layout.arrays(block))
            batch = PackedBatch.pack(
                [kspace for kspace, _, _ in arrays],
                [mask for _, mask, _ in arrays],
                [calibration for _, _, calibration in arrays],
                [layout.crop for layout in layouts],
            )
            self.input_bytes = sum(layout.kspace_bytes for layout in layouts)
            self._take = device.stage(batch)
        except (LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError) as error:
            self._problem = error.with_traceback(None)

    def take(self) -> PackedBatch | None:
        """Return the frames, None if they were not staged because nobody waits for them; raise what went wrong."""
        if self._problem is not None:
            raise self._problem
        return None if self._take is None else self._take()

    def forget(self) -> None:
        """Let go of the frames."""
        self._take = self._problem = None


class Intake:
    """Reads what comes on a channel.

    Parameters
    ----------
    channel
        Where batches come from.
    board
        Where frames are struck out.
    device
        Where they are computed.
    """

    def __init__(self, channel: BlockingChannel, board: Board, device: Device) -> None:
        self._channel = channel
        self._board = board
        self._device = device
        self._jobs: queue.SimpleQueue[Job | Exception] = queue.SimpleQueue()

    def next(self) -> Job:
        """Wait for the next batch.

        Raises
        ------
        ChannelClosedError
            There will be no more.
        """
        job = self._jobs.get()
        if isinstance(job, Exception):
            raise job
        return job

    def run(self) -> None:
        """Read until the other end is closed, in a thread of its own."""
        torch.set_num_threads(1)  # the number belongs to the thread; what is computed meanwhile keeps its own
        descriptors: list[int] = []
        try:
            while True:
                message = self._channel.receive()
                descriptors += message.fds
                message.fds = []
                if message.op == "run":
                    self._jobs.put(self._staged(Message(message.op, message.body, descriptors)))
                    descriptors = []
        except (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
            Message("", {}, descriptors).close_fds()
            self._jobs.put(error)

    def _staged(self, message: Message) -> Job:
        job = Job(message.body)
        if not all(self._board.withdrawn(job.slot, frame) for frame in range(job.frames)):
            job.stage(message, self._device)
        message.close_fds()
        return job
