"""Sends what became of batches, beside the computing of the next one."""

from __future__ import annotations

import queue
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recond_models.batch import Reconstruction
from recond_models.finishing import magnitudes
from recond_service.backends.embedded.intake import Job
from recond_service.backends.embedded.withdrawals import Board
from recond_service.transport import MOST_DESCRIPTORS, BlockingChannel, SharedBlock
from recond_service.types import DefectError, RecondError


class Answers:
    """Answers in the order in which it is told, from a thread of its own; it also lets go of the frames.

    Parameters
    ----------
    channel
        Where the answers go.
    board
        Where frames are struck out: these get no image.
    """

    def __init__(self, channel: BlockingChannel, board: Board) -> None:
        self._channel = channel
        self._board = board
        self._waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

    def run(self) -> None:
        """Send answers until the other end is closed."""
        while True:
            self._waiting.get()()

    def done(self, job: Job, result: Reconstruction | None, seconds: float, peak_bytes: int) -> None:
        """Answer with what a model made of a batch; None if nobody waits for any frame of it."""
        self._waiting.put(partial(self._send_result, job, result, seconds, peak_bytes))

    def failed(self, job: Job, error: RecondError) -> None:
        """Answer with an error that says what is wrong."""
        self._waiting.put(partial(self._send, job, "failed", {"error": error.to_json()}))

    def broken(self, job: Job, error: Exception) -> None:
        """Answer with what a model raised that it should not. The worker stays up: the next frame may be sound."""
        failure = DefectError(
            f"{job.model} failed on this frame ({type(error).__name__}: {error}); report the request id to the administrator",
            reason="MODEL_FAILED",
        )
        text = "".join(traceback.format_exception(error))
        self._waiting.put(partial(self._send, job, "failed", {"error": failure.to_json(), "traceback": text}))

    def too_large(self, job: Job, problem: str) -> None:
        """Answer that memory did not suffice."""
        self._waiting.put(partial(self._send, job, "too-large", {"problem": problem}))

    def _send(self, job: Job, op: str, body: dict[str, Any]) -> None:
        job.forget()
        self._channel.send(op, {"batch": job.number, **body})

    def _send_result(self, job: Job, result: Reconstruction | None, seconds: float, peak_bytes: int) -> None:
        withdrawn = {frame for frame in range(job.frames) if result is None or self._board.withdrawn(job.slot, frame)}
        residuals: list[float | None] = [None] * job.frames
        notes: list[list[tuple[str, str]]] = [[] for _ in range(job.frames)]
        images: list[SharedBlock] = []
        if result is not None:
            pixels = magnitudes(result).numpy()
            wanted = [frame for frame in range(job.frames) if frame not in withdrawn]
            if not all(np.isfinite(pixels[frame]).all() for frame in wanted):
                defect = DefectError(
                    f"{job.model} made pixels that are not finite; report the request id to the administrator",
                    reason="MODEL_NOT_FINITE",
                )
                self._send(job, "failed", {"error": defect.to_json()})
                return
            if result.residuals is not None:
                residuals = [
                    None if frame in withdrawn else value for frame, value in enumerate(result.residuals.tolist())
                ]
            if result.notes:
                notes = [[(note.code, note.message) for note in frame] for frame in result.notes]
            images = [_shared(pixels[frame]) for frame in wanted]
        answer = {
            "withdrawn": sorted(withdrawn),
            "residuals": residuals,
            "notes": notes,
            "seconds": seconds,
            "peak_bytes": peak_bytes,
        }
        try:
            descriptors = [image.fd for image in images]
            while len(descriptors) > MOST_DESCRIPTORS:
                self._channel.send("images", {"batch": job.number}, descriptors[:MOST_DESCRIPTORS])
                del descriptors[:MOST_DESCRIPTORS]
            self._channel.send("done", {"batch": job.number, **answer}, descriptors)
        finally:
            for image in images:
                image.close()
        job.forget()


def _shared(image: NDArray[np.float32]) -> SharedBlock:
    block = SharedBlock.create("recond-image", image.nbytes)
    block.write(np.ascontiguousarray(image).data.cast("B"), 0)
    return block
