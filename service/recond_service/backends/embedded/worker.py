"""What a worker process does: it computes batches, one after another, and says once in a while that it is alive.

Messages in: ``run`` (number of the batch, slot on the board, model, layouts), with one descriptor a frame; if there are many, the
first ones come ahead in messages ``frames``. Messages out: ``beat``, ``ready``, and for each batch, in the order of their coming,
``done`` (residuals, notes, seconds, numbers of the frames without an image), with one descriptor an image; if there are many, the
first ones go ahead in messages ``images``; or ``too-large``, or ``failed``.
"""

from __future__ import annotations

import threading
import time
import traceback
from dataclasses import asdict
from typing import Any

import numpy as np
import structlog
import torch
from numpy.typing import NDArray

from recond_kernels.interruption import Interrupted, watching
from recond_models import registry
from recond_models.batch import Reconstruction
from recond_service.backends.embedded import measuring
from recond_service.backends.embedded.device import device_of, ran_out_of_memory
from recond_service.backends.embedded.intake import Intake, Job
from recond_service.backends.embedded.models import LoadedModels
from recond_service.backends.embedded.options import WorkerOptions
from recond_service.backends.embedded.withdrawals import Board
from recond_service.transport import MOST_DESCRIPTORS, BlockingChannel, ChannelClosedError, FreedMemory, SharedBlock
from recond_service.types import DefectError, RecondError, UnsupportedDataError

_log = structlog.get_logger(__name__)

_STORE_SECONDS = 1.0


class Worker:
    """Computes batches.

    Parameters
    ----------
    channel
        To the supervisor.
    board
        Where frames are struck out, and batches marked that are begun.
    options
        What to do.
    """

    def __init__(self, channel: BlockingChannel, board: Board, options: WorkerOptions) -> None:
        self._channel = channel
        self._board = board
        self._options = options
        self._device = device_of(options.device)
        self._models = LoadedModels(options.device)
        self._memory = FreedMemory()
        self._begun = self._ended = 0

    def serve(self) -> None:
        """Serve until the supervisor closes the channel."""
        _in_background("heartbeat", self._beat)
        memory_bytes = self._device.memory_bytes(self._options.workers)
        coming = [info for info in registry.available() if info.origin != "added"]
        warm = [info for info in coming if self._models.warm(info)]
        measurements = []
        if self._options.measure:
            measurements += measuring.measure_loaded(self._models, self._device, warm)
            measurements += measuring.warm_up(self._models, self._device, self._options.warm_up)
        intake = Intake(self._channel, self._board, self._device)
        _in_background("intake", intake.run)
        _in_background("store", self._follow_store)
        self._channel.send(
            "ready",
            {
                "device": self._device.name,
                "torch_threads": torch.get_num_threads(),
                "memory_bytes": memory_bytes,
                "measurements": [asdict(measurement) for measurement in measurements],
            },
        )
        while True:
            job = intake.next()
            self._begun += 1
            self._run(job)
            self._ended += 1

    def _beat(self) -> None:
        seen = 0
        while True:
            self._channel.send("beat")
            begun, ended = self._begun, self._ended
            self._memory.look(working=begun != ended or ended != seen)
            seen = ended
            time.sleep(self._options.beat_seconds)

    def _follow_store(self) -> None:
        torch.set_num_threads(1)  # the number belongs to the thread; the work goes on meanwhile
        while True:
            time.sleep(_STORE_SECONDS)
            self._models.refresh()

    def _run(self, job: Job) -> None:
        """Compute a batch and answer."""
        self._board.begin(job.slot)
        too_large = ""
        try:
            self._compute(job)
        except Interrupted:
            self._answer(job, None, 0.0, 0)
        except RecondError as error:
            self._channel.send("failed", {"batch": job.number, "error": error.to_json()})
        except registry.UnsuitableModelError as error:
            refusal = UnsupportedDataError(str(error), reason="MODEL_UNSUITABLE", field="spec.model")
            self._channel.send("failed", {"batch": job.number, "error": refusal.to_json()})
        except ChannelClosedError:
            raise
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError, MemoryError, OSError) as error:
            if ran_out_of_memory(error):
                too_large = str(error) or type(error).__name__
            else:
                self._failed(job, error)
        finally:
            job.forget()
        if too_large:
            # After the handler, whose traceback holds on to the arrays of the attempt.
            self._device.recover()
            self._channel.send("too-large", {"batch": job.number, "problem": too_large})

    def _failed(self, job: Job, error: Exception) -> None:
        """Answer what a model can raise on a frame. The worker stays up: the next frame may be sound."""
        failure = DefectError(
            f"{job.model} failed on this frame ({type(error).__name__}: {error}); report the request id to the administrator",
            reason="MODEL_FAILED",
        )
        text = "".join(traceback.format_exception(error))
        self._channel.send("failed", {"batch": job.number, "error": failure.to_json(), "traceback": text})

    def _compute(self, job: Job) -> None:
        model = self._models.get(job.model, job.version, job.weights_sha256)
        batch = job.take()
        if batch is None:
            raise Interrupted
        start = time.perf_counter()
        with watching(lambda frame: self._board.withdrawn(job.slot, frame), job.frames):
            result, peak_bytes = self._device.run(job.kind, lambda: model.reconstruct(batch), job.input_bytes)
        self._answer(job, result, time.perf_counter() - start, peak_bytes)

    def _answer(self, job: Job, result: Reconstruction | None, seconds: float, peak_bytes: int) -> None:
        """Send the images of the frames that are still wanted."""
        withdrawn = {frame for frame in range(job.frames) if result is None or self._board.withdrawn(job.slot, frame)}
        residuals: list[float | None] = [None] * job.frames
        notes: list[list[tuple[str, str]]] = [[] for _ in range(job.frames)]
        images: list[SharedBlock] = []
        if result is not None:
            pixels = result.images.numpy().astype(np.float32, copy=False)
            wanted = [frame for frame in range(job.frames) if frame not in withdrawn]
            if not all(np.isfinite(pixels[frame]).all() for frame in wanted):
                raise DefectError(
                    f"{job.model} made pixels that are not finite; report the request id to the administrator",
                    reason="MODEL_NOT_FINITE",
                )
            if result.residuals is not None:
                residuals = [
                    None if frame in withdrawn else value for frame, value in enumerate(result.residuals.tolist())
                ]
            if result.notes:
                notes = [[(note.code, note.message) for note in frame] for frame in result.notes]
            images = [_shared(pixels[frame]) for frame in wanted]
        answer: dict[str, Any] = {
            "batch": job.number,
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
            self._channel.send("done", answer, descriptors)
        finally:
            for image in images:
                image.close()


def _shared(image: NDArray[np.float32]) -> SharedBlock:
    block = SharedBlock.create("recond-image", image.nbytes)
    block.write(np.ascontiguousarray(image).data.cast("B"), 0)
    return block


def _in_background(name: str, work: Any) -> None:  # noqa: ANN401
    """Run something beside the work until the supervisor is gone; the main thread sees the same, and ends the process."""

    def run() -> None:
        try:
            work()
        except ChannelClosedError:
            return

    threading.Thread(target=run, name=name, daemon=True).start()
