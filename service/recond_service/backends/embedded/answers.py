"""Sends what became of batches, beside the computing of the next one."""

from __future__ import annotations

import queue
from collections.abc import Callable
from functools import partial

from recond_service.backends.embedded.board import Board
from recond_service.backends.embedded.in_flight import BatchInFlight
from recond_service.backends.embedded.messages import Done, Failed, FrameFacts, MoreImages, TooLarge, ToWorker
from recond_service.execution import Answer, BatchResult, ModelFailedError
from recond_service.processes import MOST_DESCRIPTORS, BlockingChannel, SharedBlock
from recond_service.types import ErrorReport, RecondError


class Answers:
    """Answers in the order in which it is told, from a thread of its own; it also lets go of the frames.

    Parameters
    ----------
    channel
        Where the answers go.
    board
        Where frames are struck out: these get no image.
    """

    def __init__(self, channel: BlockingChannel[ToWorker], board: Board) -> None:
        self._channel = channel
        self._board = board
        self._waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def run(self) -> None:
        """Send answers until the other end is closed."""
        while True:
            self._waiting.get()()

    def done(self, batch: BatchInFlight, result: BatchResult) -> None:
        """Answer with what came of a batch."""
        self._waiting.put(partial(self._send_result, batch, result))

    def failed(self, batch: BatchInFlight, error: RecondError) -> None:
        """Answer with an error. The worker stays up: the next frame may be sound."""
        text = error.traceback if isinstance(error, ModelFailedError) else ""
        self._waiting.put(partial(self._send, batch, Failed(batch.number, ErrorReport.of(error), text)))

    def too_large(self, batch: BatchInFlight, problem: str) -> None:
        """Answer that memory did not suffice."""
        self._waiting.put(partial(self._send, batch, TooLarge(batch.number, problem)))

    def _send(self, batch: BatchInFlight, answer: Failed | TooLarge) -> None:
        batch.forget()
        self._channel.send(answer)

    def _send_result(self, batch: BatchInFlight, result: BatchResult) -> None:
        frames = [
            None if self._board.withdrawn(batch.slot, number) else frame for number, frame in enumerate(result.frames)
        ]
        blocks = [_shared(frame) for frame in frames if frame is not None]
        facts = tuple(
            None if frame is None else FrameFacts(frame.residual, frame.notes, frame.trial) for frame in frames
        )
        try:
            descriptors = [block.fd for block in blocks]
            while len(descriptors) > MOST_DESCRIPTORS:
                self._channel.send(MoreImages(batch.number), descriptors[:MOST_DESCRIPTORS])
                del descriptors[:MOST_DESCRIPTORS]
            self._channel.send(Done(batch.number, facts, result.seconds, result.peak_bytes), descriptors)
        finally:
            for block in blocks:
                block.close()
        batch.forget()


def _shared(frame: Answer) -> SharedBlock:
    return SharedBlock.holding("recond-image", *frame.pieces())
