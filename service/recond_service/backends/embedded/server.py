"""Keeps one worker alive and hands it batches."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import structlog

from recond_models.model import ModelInfo
from recond_service.backends.backend import (
    Batch,
    BatchOutcome,
    Measurement,
    ServerLostError,
    TooLargeError,
)
from recond_service.backends.embedded.backoff import Backoff
from recond_service.backends.embedded.forks import WorkerForks, WorkerProcess
from recond_service.backends.embedded.liveness import Pulse, activity_of
from recond_service.backends.embedded.options import WorkerOptions
from recond_service.backends.embedded.withdrawals import Board
from recond_service.transport import MOST_DESCRIPTORS, ChannelClosedError, Message, SharedBlock
from recond_service.types import DefectError, RecondError

_HANG_FACTOR = 20.0  # a batch may take so many times longer than predicted

_log = structlog.get_logger(__name__)


class _Handed:
    """A batch that the worker has, until it answers or dies."""

    def __init__(self, number: int, slot: int, batch: Batch, board: Board) -> None:
        self.number = number
        self.slot = slot
        self.batch = batch
        self.done: asyncio.Future[BatchOutcome] = asyncio.get_running_loop().create_future()
        self.images: list[int] = []  # descriptors
        self._board = board
        board.clear(slot)
        for frame in batch.withdrawn:
            board.withdraw(slot, frame)
        batch.on_withdraw = self.withdraw

    def withdraw(self, frame: int) -> None:
        """Tell the worker that nobody waits for a frame."""
        self._board.withdraw(self.slot, frame)

    def abandon(self) -> None:
        """Tell the worker that nobody waits for any."""
        for frame in range(len(self.batch.frames)):
            self.withdraw(frame)

    def fail(self, error: Exception) -> None:
        """Let go of it without an answer."""
        self.batch.on_withdraw = None
        Message("", {}, self.images).close_fds()
        if not self.done.done():
            self.done.set_exception(error)

    def finish(self, body: dict[str, Any], descriptors: list[int]) -> None:
        """Take the answer."""
        self.batch.on_withdraw = None
        message = Message("done", body, self.images + descriptors)
        self.images = []
        images: list[SharedBlock | None] = []
        try:
            withdrawn = set(body["withdrawn"])
            for number, frame in enumerate(self.batch.frames):
                size = frame.layout.rows * frame.layout.columns * 4
                images.append(None if number in withdrawn else message.take_block(size))
            notes = tuple(tuple((str(code), str(text)) for code, text in frame) for frame in body["notes"])
            outcome = BatchOutcome(
                tuple(images), tuple(body["residuals"]), float(body["seconds"]), notes, int(body["peak_bytes"])
            )
            if not self.done.done():
                self.done.set_result(outcome)
                images = []
        finally:
            message.close_fds()
            for image in images:
                if image is not None:
                    image.close()


class EmbeddedServer:
    """One worker process: forked, watched, and forked again with growing pauses if it dies, hangs or falls silent.

    Parameters
    ----------
    forks
        Where workers come from.
    options
        What the worker has to know.
    start_seconds
        A worker that is not ready after this long is replaced.
    heartbeat_seconds
        Longest silence of a worker; see `Pulse`.
    batch_seconds
        A batch that takes longer than this, and 20 times longer than predicted, is taken to hang, and its worker replaced.
    on_change
        Called with this server when it has come up or gone down.
    """

    concurrency = 1

    def __init__(
        self,
        forks: WorkerForks,
        options: WorkerOptions,
        start_seconds: float,
        heartbeat_seconds: float,
        batch_seconds: float,
        on_change: Callable[[EmbeddedServer], None],
    ) -> None:
        self._forks = forks
        self._options = options
        self._start_seconds = start_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._batch_seconds = batch_seconds
        self._on_change = on_change
        self._clock = asyncio.get_running_loop().time
        self._numbers = itertools.count()
        self._handed: OrderedDict[int, _Handed] = OrderedDict()  # in the order in which the worker computes them
        self._head_since = 0.0
        self._worker: WorkerProcess | None = None
        self._pulse: Pulse | None = None
        self._up = False
        self._supervisor: asyncio.Task[None] | None = None
        self.name = options.name
        self.memory_bytes = 0
        self.measurements: tuple[Measurement, ...] = ()
        self.starts = 0
        self._board_memory = Board.create()
        self._board = Board(self._board_memory)
        self._backoff = Backoff(self._clock)
        self._closing = False

    @property
    def up(self) -> bool:
        """A worker can compute."""
        return self._up

    @property
    def pid(self) -> int | None:
        """Process id of the worker, None if there is none."""
        return self._worker.pid if self._worker else None

    def has(self, model: ModelInfo) -> bool:  # noqa: ARG002 - workers load what this service has
        """Return True: it can load every model. See `ModelServer.has`."""
        return True

    def start(self) -> None:
        """Start supervising."""
        if self._supervisor is None:
            self._supervisor = asyncio.get_running_loop().create_task(self._supervise(), name=f"{self.name}-supervisor")

    async def run(self, batch: Batch) -> BatchOutcome:
        """Reconstruct a batch; see `ModelServer.run`. If the call is cancelled, so is the work."""
        if self._worker is None or not self._up:
            raise ServerLostError(f"{self.name} is down", begun=False)
        handed = self._hand_over(batch)
        sending = asyncio.ensure_future(self._send(self._worker, handed))
        try:
            await asyncio.shield(sending)  # half of a batch in the worker would be in the way of the next
            return await handed.done
        except asyncio.CancelledError:
            handed.abandon()
            handed.done.cancel()
            sending.add_done_callback(lambda sent: sent.cancelled() or sent.exception())
            raise

    def _hand_over(self, batch: Batch) -> _Handed:
        taken = {handed.slot for handed in self._handed.values()}
        slot = next((slot for slot in self._board.slots() if slot not in taken), None)
        if slot is None:
            raise DefectError(f"{self.name} was handed more batches than it has places for", reason="SCHEDULER")
        number = next(self._numbers)
        if not self._handed:
            self._head_since = self._clock()
        handed = self._handed[number] = _Handed(number, slot, batch, self._board)
        return handed

    async def _send(self, worker: WorkerProcess, handed: _Handed) -> None:
        batch = handed.batch
        descriptors = [frame.block.fd for frame in batch.frames]
        body = {
            "batch": handed.number,
            "slot": handed.slot,
            "model": batch.model.name,
            "version": batch.model.version,
            "weights_sha256": batch.model.weights_sha256,
            "layouts": [frame.layout.to_json() for frame in batch.frames],
        }
        try:
            while len(descriptors) > MOST_DESCRIPTORS:
                await worker.channel.send("frames", {}, descriptors[:MOST_DESCRIPTORS])
                del descriptors[:MOST_DESCRIPTORS]
            await worker.channel.send("run", body, descriptors)
        except ChannelClosedError as error:
            # The supervisor is about to see the same; the worker has not seen all of the batch.
            if self._handed.pop(handed.number, None) is not None:
                handed.fail(ServerLostError(str(error), begun=False))

    async def _supervise(self) -> None:
        backoff = self._backoff
        while not self._closing:
            backoff.begun()
            try:
                await self._live()
            except (ChannelClosedError, ValueError, OSError) as error:
                _log.error("worker-lost", worker=self.name, pid=self.pid, problem=str(error) or type(error).__name__)
            finally:
                await self._bury()
            await asyncio.sleep(backoff.ended())

    async def _live(self) -> None:
        """Fork a worker and listen to it until it is dead."""
        self.starts += 1
        # Tried once: a model that hangs or kills the worker while it is measured must not do so again and again.
        options = dataclasses.replace(self._options, measure=self.starts == 1)
        worker = self._worker = await self._forks.fork(options, self._board_memory)
        self._pulse = Pulse(self._heartbeat_seconds, lambda: activity_of(worker.pid), self._clock)
        watch = asyncio.get_running_loop().create_task(self._watch(worker, self._pulse), name=f"{self.name}-watch")
        try:
            while True:
                self._handle(await worker.channel.receive())
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def _watch(self, worker: WorkerProcess, pulse: Pulse) -> None:
        """Kill a worker that hangs. Its channel closes then, once everything that it had sent has been read."""
        born = self._clock()
        while True:
            await asyncio.sleep(pulse.interval)
            problem = pulse.tick() or self._hanging(born)
            if problem:
                _log.error("worker-killed", worker=self.name, pid=worker.pid, problem=problem)
                worker.kill()
                return

    def _hanging(self, born: float) -> str:
        """Return what the worker has been at for too long; empty if there is no such thing."""
        if not self._up:
            late = self._clock() - born > self._start_seconds
            return f"not ready after {self._start_seconds:g} s" if late else ""
        if not self._handed:
            return ""
        head = next(iter(self._handed.values()))
        limit = max(self._batch_seconds, _HANG_FACTOR * head.batch.predicted_seconds)
        return f"a batch takes longer than {limit:g} s" if self._clock() - self._head_since > limit else ""

    def _handle(self, message: Message) -> None:
        if self._pulse is not None:
            self._pulse.heard()
        try:
            if message.op == "ready":
                self._become_ready(message.body)
            elif message.op == "images":
                self._handed[message.body["batch"]].images += message.fds
                message.fds = []
            elif message.op != "beat":
                self._answered(message)
        except (KeyError, TypeError) as error:
            raise ValueError(f"the worker sent nonsense: {message.op} without {error}") from error
        finally:
            message.close_fds()

    def _become_ready(self, body: dict[str, Any]) -> None:
        if self.starts == 1:
            self.measurements = tuple(
                Measurement(**{**entry, "coils": tuple(entry["coils"])}) for entry in body["measurements"]
            )
        self.memory_bytes = self.memory_bytes or int(body["memory_bytes"])
        self._up = True
        _log.info("worker-ready", worker=self.name, pid=self.pid, device=body["device"])
        self._on_change(self)

    def _answered(self, message: Message) -> None:
        """Settle the batch that an answer is to."""
        handed = self._handed.pop(message.body["batch"])
        self._head_since = self._clock()
        self._backoff.useful()
        try:
            if message.op == "done":
                descriptors, message.fds = message.fds, []
                handed.finish(message.body, descriptors)
            elif message.op == "too-large":
                handed.fail(TooLargeError(str(message.body["problem"])))
            elif message.op == "failed":
                if "traceback" in message.body:
                    _log.error("model-failed", worker=self.name, traceback=message.body["traceback"])
                handed.fail(RecondError.from_json(message.body["error"]))
        finally:
            handed.fail(ServerLostError("the worker answered nonsense"))  # does nothing if it is settled

    async def _bury(self) -> None:
        """End the worker, if it is not dead, and say what became of the batches that it had."""
        worker, self._worker, self._pulse = self._worker, None, None
        lost = list(self._handed.values())
        self._handed.clear()
        was_up, self._up = self._up, False
        begun = [self._board.begun(handed.slot) for handed in lost]
        for handed, known in zip(lost, begun, strict=True):
            handed.fail(ServerLostError(f"{self.name} died while it had the batch", begun=known))
        if was_up and not self._closing:
            self._on_change(self)
        if worker is not None:
            await worker.end()

    async def close(self) -> None:
        """End the worker."""
        self._closing = True
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
            self._supervisor = None
        self._board_memory.close()
        self._board.close()
