"""Keeps one worker alive and hands it batches."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import os
from collections import OrderedDict
from collections.abc import Callable

import structlog

from recond_models.model import ModelInfo
from recond_service.backends.backend import (
    ALL_WORK,
    Batch,
    BatchOutcome,
    ComputedFrame,
    FrameInput,
    Measurement,
    ServerLostError,
    SlicesInput,
    TooLargeError,
    Work,
    work_of,
)
from recond_service.backends.embedded.board import Board
from recond_service.backends.embedded.messages import (
    Beat,
    Done,
    Failed,
    FromWorker,
    MoreFrames,
    MoreImages,
    Run,
    StartWorker,
    TooLarge,
    WorkerReady,
)
from recond_service.backends.embedded.options import WorkerOptions
from recond_service.processes import (
    MOST_DESCRIPTORS,
    Backoff,
    ChannelClosedError,
    ChildProcess,
    ForkError,
    Received,
    SharedBlock,
    Zygote,
)
from recond_service.processes.liveness import Pulse, activity_of
from recond_service.types import DefectError

_HANG_FACTOR = 20.0  # a batch may take so many times longer than predicted

_log = structlog.get_logger(__name__)


class BatchInFlight:
    """A batch that the worker has, until it answers or dies.

    Parameters
    ----------
    number
        The worker's answer names it.
    slot
        Its place on the board.
    batch
        The batch.
    board
        Where frames are struck out.
    """

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
        while self.images:
            os.close(self.images.pop())
        if not self.done.done():
            self.done.set_exception(error)

    def finish(self, received: Received[Done]) -> None:
        """Take the answer.

        Raises
        ------
        ValueError
            The images do not fit the frames. What came along is closed.
        """
        self.batch.on_withdraw = None
        answer = received.message
        received.fds[:0] = self.images
        self.images = []
        blocks: list[SharedBlock] = []
        frames: list[ComputedFrame | None] = []
        try:
            for frame, facts in zip(self.batch.frames, answer.frames, strict=True):
                if facts is None:
                    frames.append(None)
                    continue
                blocks.append(received.take_block(frame.layout.image_bytes))
                frames.append(ComputedFrame(blocks[-1], facts.residual, facts.notes, facts.trial))
            if not self.done.done():
                self.done.set_result(BatchOutcome(tuple(frames), answer.seconds, answer.peak_bytes))
                blocks = []
        finally:
            received.close_fds()
            for block in blocks:
                block.close()


class EmbeddedServer:
    """One worker process: forked, watched, and forked again with growing pauses if it dies, hangs or falls silent.

    Parameters
    ----------
    zygote
        What workers are forked from.
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
        zygote: Zygote,
        options: WorkerOptions,
        start_seconds: float,
        heartbeat_seconds: float,
        batch_seconds: float,
        on_change: Callable[[EmbeddedServer], None],
    ) -> None:
        self._zygote = zygote
        self._options = options
        self._start_seconds = start_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._batch_seconds = batch_seconds
        self._on_change = on_change
        self._clock = asyncio.get_running_loop().time
        self._numbers = itertools.count()
        self._in_flight: OrderedDict[int, BatchInFlight] = (
            OrderedDict()
        )  # in the order in which the worker computes them
        self._head_since = 0.0
        self._worker: ChildProcess[FromWorker] | None = None
        self._pulse: Pulse | None = None
        self._up = False
        self._supervisor: asyncio.Task[None] | None = None
        self.name = options.name
        self.work: frozenset[Work] = frozenset({"heads"}) if options.heads_only else ALL_WORK
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

    def has(self, model: ModelInfo) -> bool:
        """Tell whether a model is of its work: it can load every one of these. See `ModelServer.has`."""
        return work_of(model) in self.work

    def start(self) -> None:
        """Start supervising."""
        if self._supervisor is None:
            self._supervisor = asyncio.get_running_loop().create_task(self._supervise(), name=f"{self.name}-supervisor")

    async def run(self, batch: Batch) -> BatchOutcome:
        """Reconstruct a batch; see `ModelServer.run`. If the call is cancelled, so is the work."""
        if self._worker is None or not self._up:
            raise ServerLostError(f"{self.name} is down", begun=False)
        in_flight = self._hand_over(batch)
        sending = asyncio.ensure_future(self._send(self._worker, in_flight))
        try:
            await asyncio.shield(sending)  # half of a batch in the worker would be in the way of the next
            return await in_flight.done
        except asyncio.CancelledError:
            in_flight.abandon()
            in_flight.done.cancel()
            sending.add_done_callback(lambda sent: sent.cancelled() or sent.exception())
            raise

    def _hand_over(self, batch: Batch) -> BatchInFlight:
        taken = {in_flight.slot for in_flight in self._in_flight.values()}
        slot = next((slot for slot in self._board.slots() if slot not in taken), None)
        if slot is None:
            raise DefectError(f"{self.name} was handed more batches than it has places for", reason="SCHEDULER")
        number = next(self._numbers)
        if not self._in_flight:
            self._head_since = self._clock()
        in_flight = self._in_flight[number] = BatchInFlight(number, slot, batch, self._board)
        return in_flight

    async def _send(self, worker: ChildProcess[FromWorker], in_flight: BatchInFlight) -> None:
        batch = in_flight.batch
        descriptors = [frame.block.fd for frame in batch.frames]
        run = Run(
            in_flight.number,
            in_flight.slot,
            batch.model.name,
            batch.model.version,
            batch.model.weights_sha256,
            tuple(frame.layout for frame in batch.frames if isinstance(frame, FrameInput)),
            tuple(frame.layout for frame in batch.frames if isinstance(frame, SlicesInput)),
        )
        try:
            while len(descriptors) > MOST_DESCRIPTORS:
                await worker.channel.send(MoreFrames(), descriptors[:MOST_DESCRIPTORS])
                del descriptors[:MOST_DESCRIPTORS]
            await worker.channel.send(run, descriptors)
        except ChannelClosedError as error:
            # The supervisor is about to see the same; the worker has not seen all of the batch.
            if self._in_flight.pop(in_flight.number, None) is not None:
                in_flight.fail(ServerLostError(str(error), begun=False))

    async def _supervise(self) -> None:
        backoff = self._backoff
        while not self._closing:
            backoff.begun()
            try:
                await self._live()
            except (ChannelClosedError, ForkError, ValueError, OSError) as error:
                _log.error("worker-lost", worker=self.name, pid=self.pid, problem=str(error) or type(error).__name__)
            finally:
                await self._bury()
            await asyncio.sleep(backoff.ended())

    async def _live(self) -> None:
        """Fork a worker and listen to it until it is dead."""
        self.starts += 1
        # Tried once: a model that hangs or kills the worker while it is measured must not do so again and again.
        options = dataclasses.replace(self._options, measure=self.starts == 1)
        worker = self._worker = await self._zygote.fork(StartWorker(options), FromWorker, [self._board_memory.fd])
        self._pulse = Pulse(self._heartbeat_seconds, lambda: activity_of(worker.pid), self._clock)
        watch = asyncio.get_running_loop().create_task(self._watch(worker, self._pulse), name=f"{self.name}-watch")
        try:
            while True:
                self._handle(await worker.channel.receive())
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def _watch(self, worker: ChildProcess[FromWorker], pulse: Pulse) -> None:
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
        if not self._in_flight:
            return ""
        head = next(iter(self._in_flight.values()))
        limit = max(self._batch_seconds, _HANG_FACTOR * head.batch.predicted_seconds)
        return f"a batch takes longer than {limit:g} s" if self._clock() - self._head_since > limit else ""

    def _handle(self, received: Received[FromWorker]) -> None:
        if self._pulse is not None:
            self._pulse.heard()
        message = received.message
        try:
            match message:
                case Beat():
                    return
                case WorkerReady():
                    self._become_ready(message)
                case MoreImages():
                    self._in_flight[message.batch].images += received.fds
                    received.fds = []
                case _:
                    self._answered(Received(message, received.fds))
        except KeyError as error:
            raise ValueError(f"the worker spoke of batch {error}, which it does not have") from error
        finally:
            received.close_fds()

    def _become_ready(self, ready: WorkerReady) -> None:
        if self.starts == 1:
            self.measurements = ready.measurements
        self.memory_bytes = self.memory_bytes or ready.memory_bytes
        self._up = True
        _log.info("worker-ready", worker=self.name, pid=self.pid, device=ready.device)
        self._on_change(self)

    def _answered(self, received: Received[Done | TooLarge | Failed]) -> None:
        """Settle the batch that an answer is to."""
        answer = received.message
        in_flight = self._in_flight.pop(answer.batch)
        self._head_since = self._clock()
        self._backoff.useful()
        try:
            match answer:
                case Done():
                    in_flight.finish(Received(answer, received.fds))
                case TooLarge():
                    in_flight.fail(TooLargeError(answer.problem))
                case Failed():
                    if answer.traceback:
                        _log.error("model-failed", worker=self.name, traceback=answer.traceback)
                    in_flight.fail(answer.error.to_error())
        finally:
            in_flight.fail(ServerLostError("the worker answered nonsense"))  # does nothing if it is settled

    async def _bury(self) -> None:
        """End the worker, if it is not dead, and say what became of the batches that it had."""
        worker, self._worker, self._pulse = self._worker, None, None
        lost = list(self._in_flight.values())
        self._in_flight.clear()
        was_up, self._up = self._up, False
        begun = [self._board.begun(in_flight.slot) for in_flight in lost]
        for in_flight, known in zip(lost, begun, strict=True):
            in_flight.fail(ServerLostError(f"{self.name} died while it had the batch", begun=known))
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
