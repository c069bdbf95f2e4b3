"""Reads batches from the channel, and brings them as far as they can be brought while the one before is computed."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Hashable

import torch
from torch import Tensor

from recond_models.batch import PackedBatch
from recond_service.backends.embedded.board import Board
from recond_service.backends.embedded.messages import Run, ToWorker
from recond_service.execution import Device
from recond_service.processes import BlockingChannel, Received


class BatchInFlight:
    """A batch that has come, until it is answered.

    Parameters
    ----------
    run
        What is to be computed.

    Attributes
    ----------
    number, slot
        The supervisor's number for it, and its place on the board.
    layouts
        Sizes of each frame and its image; empty for a head.
    slices
        Sizes of each block of slices and its answer; empty for a model that reconstructs.
    input_bytes
        Memory that its k-space, or its slices, take.
    """

    def __init__(self, run: Run) -> None:
        self.number = run.batch
        self.slot = run.slot
        self.layouts = run.layouts
        self.slices = run.slices
        self.model_key = (run.model, run.version, run.weights_sha256)
        self.input_bytes = 0
        self._take: Callable[[], PackedBatch] | None = None
        self._blocks: list[Tensor] | None = None
        self._problem: Exception | None = None

    @property
    def kind(self) -> Hashable:
        """Batches of a kind take the same memory."""
        layouts = self.layouts or self.slices
        coils = sum(layout.coils for layout in layouts)
        return (*self.model_key[:2], layouts[0].rows, layouts[0].columns, len(layouts), coils)

    def __len__(self) -> int:
        """Return how many frames, or blocks of slices, it has."""
        return len(self.layouts) + len(self.slices)

    def stage(self, received: Received[Run], device: Device) -> None:
        """Map the frames and begin to bring them to the device; what goes wrong is raised by `take`.

        Parameters
        ----------
        received
            Has a descriptor for each frame; those that are taken are closed.
        device
            Where the batch will be computed.
        """
        try:
            if self.slices:
                blocks = []
                for sizes in self.slices:
                    with received.take_block(sizes.size) as block:
                        blocks.append(torch.from_numpy(sizes.array(block)))
                self._blocks = blocks
                self.input_bytes = sum(sizes.size for sizes in self.slices)
                return
            arrays = []
            for layout in self.layouts:
                with received.take_block(layout.size) as block:
                    arrays.append(layout.arrays(block))
            batch = PackedBatch.pack(
                [kspace for kspace, _, _ in arrays],
                [mask for _, mask, _ in arrays],
                [calibration for _, _, calibration in arrays],
                [layout.crop for layout in self.layouts],
                deviations=any(layout.uncertainty for layout in self.layouts),
            )
            self.input_bytes = sum(layout.kspace_bytes for layout in self.layouts)
            self._take = device.stage(batch)
        except (LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError) as error:
            self._problem = error.with_traceback(None)

    def take(self) -> PackedBatch | None:
        """Return the frames, None if they were not staged because nobody waits for them; raise what went wrong."""
        if self._problem is not None:
            raise self._problem
        return None if self._take is None else self._take()

    def take_slices(self) -> list[Tensor] | None:
        """Return the blocks of slices, as `take` does the frames."""
        if self._problem is not None:
            raise self._problem
        return self._blocks

    def forget(self) -> None:
        """Let go of the frames."""
        self._take = self._problem = self._blocks = None


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

    def __init__(self, channel: BlockingChannel[ToWorker], board: Board, device: Device) -> None:
        self._channel = channel
        self._board = board
        self._device = device
        self._batches: queue.SimpleQueue[BatchInFlight | Exception] = queue.SimpleQueue()

    def next(self) -> BatchInFlight:
        """Wait for the next batch.

        Raises
        ------
        ChannelClosedError
            There will be no more.
        """
        batch = self._batches.get()
        if isinstance(batch, Exception):
            raise batch
        return batch

    def run(self) -> None:
        """Read until the other end is closed, in a thread of its own."""
        torch.set_num_threads(1)  # the number belongs to the thread; what is computed meanwhile keeps its own
        descriptors: list[int] = []
        try:
            while True:
                received = self._channel.receive()
                descriptors += received.fds
                received.fds = []
                if isinstance(received.message, Run):
                    self._batches.put(self._staged(Received(received.message, descriptors)))
                    descriptors = []
        except (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
            for descriptor in descriptors:
                os.close(descriptor)
            self._batches.put(error)

    def _staged(self, received: Received[Run]) -> BatchInFlight:
        batch = BatchInFlight(received.message)
        if not all(self._board.withdrawn(batch.slot, frame) for frame in range(len(batch))):
            batch.stage(received, self._device)
        received.close_fds()
        return batch
