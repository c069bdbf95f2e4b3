"""Keeps one worker process alive and hands it batches."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from recond_service.backends.backend import Batch, BatchOutcome, Measurement, ServerLostError
from recond_service.transport import AsyncChannel, ChannelClosedError, Message, channel_pair
from recond_service.types import RecondError

_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.1, 10.0
_BEATS_PER_LIMIT = 5  # signs of life within the time after which silence counts as death

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Running:
    number: int
    image_bytes: tuple[int, ...]
    done: asyncio.Future[BatchOutcome]


class EmbeddedBackend:
    """One worker process: started, watched, and started again with growing pauses if it dies or falls silent.

    Parameters
    ----------
    threads
        Threads that the worker computes with; 0 for one per core that this process may use.
    start_seconds
        A worker that is not ready after this long is started again.
    heartbeat_seconds
        A worker that is silent this long is killed and started again.
    log_level, log_format
        Of the worker's log, as for `recond_service.telemetry.configure_logging`.
    on_change
        Called with True when a worker can compute, and with False when it no longer can.
    """

    name = "worker-0"
    concurrency = 1
    memory_bytes = 0

    def __init__(
        self,
        threads: int = 0,
        start_seconds: float = 120.0,
        heartbeat_seconds: float = 5.0,
        log_level: str = "info",
        log_format: str = "json",
        on_change: Callable[[bool], None] = lambda up: None,  # noqa: ARG005 - documents the call
    ) -> None:
        self._threads = threads or len(os.sched_getaffinity(0))
        self._start_seconds = start_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._log_options = (log_level, log_format)
        self._on_change = on_change
        self._numbers = itertools.count()
        self._running: _Running | None = None
        self._channel: AsyncChannel | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._turn = asyncio.Lock()
        self.starts = 0

    @property
    def up(self) -> bool:
        """A worker can compute."""
        return self._ready.is_set()

    @property
    def servers(self) -> Sequence[EmbeddedBackend]:
        """All servers, whether up or not."""
        return (self,)

    def measurements(self) -> Sequence[Measurement]:
        """Return what was measured at warm-up."""
        return ()

    @property
    def pid(self) -> int | None:
        """Process id of the worker."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start supervising; `wait_ready` tells when the worker can compute."""
        self._supervisor = asyncio.create_task(self._supervise(), name="worker-supervisor")

    async def wait_ready(self) -> None:
        """Wait until a worker can compute."""
        await self._ready.wait()

    async def run(self, batch: Batch) -> BatchOutcome:
        """Reconstruct a batch. See `ModelServer.run`."""
        async with self._turn:
            return await self._run(batch)

    async def _run(self, batch: Batch) -> BatchOutcome:
        model, frames = batch.model, batch.frames
        number = next(self._numbers)
        done: asyncio.Future[BatchOutcome] = asyncio.get_running_loop().create_future()
        image_bytes = tuple(frame.layout.rows * frame.layout.columns * 4 for frame in frames)
        self._running = _Running(number, image_bytes, done)
        body = {
            "batch": number,
            "model": model.name,
            "version": model.version,
            "weights_sha256": model.weights_sha256,
            "layouts": [frame.layout.to_json() for frame in frames],
        }
        try:
            if self._channel is None or not self._ready.is_set():
                raise ServerLostError("no worker is up")
            try:
                await self._channel.send("run", body, [frame.block.fd for frame in frames])
            except ChannelClosedError as error:
                raise ServerLostError(str(error)) from error
            return await done
        finally:
            self._running = None

    async def _supervise(self) -> None:
        backoff = _FIRST_BACKOFF
        while True:
            ours, theirs = channel_pair()
            channel = AsyncChannel(ours)
            process: subprocess.Popen[bytes] | None = None
            try:
                with theirs:
                    process = self._spawn(theirs.fileno())
                self._process, self._channel = process, channel
                async with asyncio.timeout(self._start_seconds):
                    await channel.receive()
                backoff = _FIRST_BACKOFF
                self._set_ready(ready=True)
                _log.info("worker-ready", pid=process.pid)
                while True:
                    async with asyncio.timeout(self._heartbeat_seconds):
                        message = await channel.receive()
                    self._handle(message)
            except (ChannelClosedError, TimeoutError, ValueError, OSError) as error:
                _log.error("worker-lost", pid=process and process.pid, problem=str(error) or type(error).__name__)
            finally:
                self._set_ready(ready=False)
                channel.close()
                if process is not None:
                    process.kill()
                    process.wait()
                self._fail_running()
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, _LONGEST_BACKOFF)

    def _spawn(self, channel_fd: int) -> subprocess.Popen[bytes]:
        self.starts += 1
        threads = str(self._threads)
        environment = {
            **os.environ,
            "OMP_WAIT_POLICY": "PASSIVE",
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "OPENBLAS_NUM_THREADS": threads,
            "NUMBA_NUM_THREADS": threads,
        }
        beat = str(self._heartbeat_seconds / _BEATS_PER_LIMIT)
        return subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "recond_service.backends.embedded.worker"),
                *(str(channel_fd), beat, threads, *self._log_options),
            ],
            pass_fds=[channel_fd],
            env=environment,
            stdin=subprocess.DEVNULL,
        )

    def _set_ready(self, *, ready: bool) -> None:
        if ready != self._ready.is_set():
            (self._ready.set if ready else self._ready.clear)()
            self._on_change(ready)

    def _handle(self, message: Message) -> None:
        running = self._running
        try:
            if running is None or running.done.done() or message.body.get("batch") != running.number:
                return  # a sign of life, or the answer to a batch that nobody waits for any more
            if message.op == "failed":
                _log.error("model-failed", traceback=message.body.get("traceback", ""))
                running.done.set_exception(RecondError.from_json(message.body["error"]))
            elif message.op == "done":
                images = tuple(message.take_block(size) for size in running.image_bytes)
                body = message.body
                notes = tuple(tuple((str(code), str(text)) for code, text in frame) for frame in body["notes"])
                outcome = BatchOutcome(images, tuple(body["residuals"]), float(body["seconds"]), notes)
                running.done.set_result(outcome)
        finally:
            message.close_fds()

    def _fail_running(self) -> None:
        if self._running is not None and not self._running.done.done():
            self._running.done.set_exception(ServerLostError("the worker died while it had the batch"))

    async def close(self) -> None:
        """End the worker."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
            self._supervisor = None
