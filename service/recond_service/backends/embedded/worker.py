"""What a worker process does: it computes batches, one after another, and says once in a while that it is alive.

Messages in: ``run`` (number of the batch, slot on the board, model, layouts), with one descriptor a frame; if there are many, the
first ones come ahead in messages ``frames``. Messages out: ``beat``, ``ready``, and for each batch, in the order of their coming,
``done`` (residuals, notes, seconds, numbers of the frames without an image), with one descriptor an image; if there are many, the
first ones go ahead in messages ``images``; or ``too-large``, or ``failed``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import asdict

import structlog
import torch

from recond_kernels.interruption import Interrupted, watching
from recond_models import registry
from recond_models.finishing import in_magnitudes
from recond_models.model import UnsuitableModelError
from recond_service.backends.embedded import measuring
from recond_service.backends.embedded.answers import Answers
from recond_service.backends.embedded.device import device_of, ran_out_of_memory
from recond_service.backends.embedded.intake import Intake, Job
from recond_service.backends.embedded.models import LoadedModels
from recond_service.backends.embedded.options import WorkerOptions
from recond_service.backends.embedded.withdrawals import Board
from recond_service.transport import BlockingChannel, ChannelClosedError, FreedMemory
from recond_service.types import RecondError, UnsupportedDataError

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
        self._answers = Answers(channel, board)
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
        _in_background("answers", self._answers.run)
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
            try:
                self._models.refresh()
            except (OSError, RuntimeError, ValueError) as error:
                _log.warning("store-not-read", problem=str(error))  # the models in memory go on serving

    def _run(self, job: Job) -> None:
        """Compute a batch and have it answered."""
        self._board.begin(job.slot)
        too_large = ""
        try:
            self._compute(job)
        except Interrupted:
            self._answers.done(job, None, 0.0, 0)
        except RecondError as error:
            self._answers.failed(job, error)
        except UnsuitableModelError as error:
            self._answers.failed(job, UnsupportedDataError(str(error), reason="MODEL_UNSUITABLE", field="spec.model"))
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError, MemoryError, OSError) as error:
            if ran_out_of_memory(error):
                too_large = str(error) or type(error).__name__
            else:
                self._answers.broken(job, error)
        if too_large:
            # After the handler, whose traceback holds on to the arrays of the attempt.
            job.forget()
            self._device.recover()
            self._answers.too_large(job, too_large)

    def _compute(self, job: Job) -> None:
        model = self._models.get(job.model, job.version, job.weights_sha256)
        batch = job.take()
        if batch is None:
            raise Interrupted
        start = time.perf_counter()
        with watching(lambda frame: self._board.withdrawn(job.slot, frame), job.frames):
            result, peak_bytes = self._device.run(
                job.kind, lambda: in_magnitudes(model.reconstruct(batch)), job.input_bytes
            )
        self._answers.done(job, result, time.perf_counter() - start, peak_bytes)


def _in_background(name: str, work: Callable[[], None]) -> None:
    """Run something beside the work until the supervisor is gone; the main thread sees the same, and ends the process."""

    def run() -> None:
        try:
            work()
        except ChannelClosedError:
            return

    threading.Thread(target=run, name=name, daemon=True).start()
