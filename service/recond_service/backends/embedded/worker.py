"""What a worker process does: it computes batches, one after another, and says once in a while that it is alive."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog
import torch
from torch import Tensor

from recond_models import registry
from recond_models.batch import PackedBatch
from recond_models.heads.head import Head
from recond_service.backends.embedded import measuring
from recond_service.backends.embedded.answers import Answers
from recond_service.backends.embedded.board import Board
from recond_service.backends.embedded.in_flight import BatchInFlight, Intake
from recond_service.backends.embedded.messages import Beat, ToWorker, WorkerReady
from recond_service.backends.embedded.models import LoadedModels
from recond_service.backends.embedded.options import WorkerOptions
from recond_service.execution import (
    BatchResult,
    ModelFailedError,
    OutOfDeviceMemoryError,
    device_of,
    ran_out_of_memory,
    run_batch,
    run_head,
)
from recond_service.processes import BlockingChannel, ChannelClosedError, FreedMemory
from recond_service.types import RecondError

_log = structlog.get_logger(__name__)

_STORE_SECONDS = 1.0


class Worker:
    """Computes batches.

    Parameters
    ----------
    channel
        The way to the supervisor in the front end.
    board
        Where frames are struck out, and batches marked that are begun.
    options
        How to compute, and how often to say that the worker is alive.
    """

    def __init__(self, channel: BlockingChannel[ToWorker], board: Board, options: WorkerOptions) -> None:
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
        known = (*(() if self._options.heads_only else registry.available()), *registry.heads())
        preload = self._options.preload
        coming = [
            info
            for info in known
            if info.origin in {"built-in", "shipped"} and (preload is None or info.name in preload)
        ]
        warm = [info for info in coming if self._models.warm(info)]
        measurements = []
        if self._options.measure:
            measurements += measuring.measure_loaded(self._models, self._device, warm)
            measurements += measuring.warm_up(self._models, self._device, self._options.warm_up)
        intake = Intake(self._channel, self._board, self._device)
        _in_background("intake", intake.run)
        _in_background("answers", self._answers.run)
        _in_background("store", self._follow_store)
        self._channel.send(WorkerReady(self._device.name, torch.get_num_threads(), memory_bytes, tuple(measurements)))
        while True:
            batch = intake.next()
            self._begun += 1
            self._run(batch)
            self._ended += 1

    def _beat(self) -> None:
        seen = 0
        while True:
            self._channel.send(Beat())
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

    def _run(self, batch: BatchInFlight) -> None:
        """Compute a batch and have it answered."""
        self._board.begin(batch.slot)
        no_memory = ""
        try:
            self._answers.done(batch, self._compute(batch))
        except RecondError as error:
            self._answers.failed(batch, error)
        except OutOfDeviceMemoryError as error:
            no_memory = str(error)
        if no_memory:
            batch.forget()
            self._device.recover()
            self._answers.too_large(batch, no_memory)

    def _compute(self, batch: BatchInFlight) -> BatchResult:
        model = self._models.get(*batch.model_key)
        blocks: list[Tensor] | None = None
        packed: PackedBatch | None = None
        try:
            if isinstance(model, Head):
                blocks = batch.take_slices()
            else:
                packed = batch.take()
        except (LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError) as error:
            if ran_out_of_memory(error):
                raise OutOfDeviceMemoryError(str(error) or type(error).__name__) from None
            raise ModelFailedError(model.info.name, error) from None
        if isinstance(model, Head):
            return BatchResult((None,) * len(batch)) if blocks is None else self._run_head(model, blocks, batch)
        if packed is None:
            return BatchResult((None,) * len(batch))
        return run_batch(
            model,
            packed,
            batch.layouts,
            self._device,
            kind=batch.kind,
            input_bytes=batch.input_bytes,
            withdrawn=lambda frame: self._board.withdrawn(batch.slot, frame),
        )

    def _run_head(self, head: Head, blocks: list[Tensor], batch: BatchInFlight) -> BatchResult:
        return run_head(
            head,
            blocks,
            batch.slices,
            self._device,
            kind=batch.kind,
            input_bytes=batch.input_bytes,
            withdrawn=lambda block: self._board.withdrawn(batch.slot, block),
        )


def _in_background(name: str, work: Callable[[], None]) -> None:
    """Run something beside the work until the supervisor is gone; the main thread sees the same, and ends the process."""

    def run() -> None:
        try:
            work()
        except ChannelClosedError:
            return

    threading.Thread(target=run, name=name, daemon=True).start()
