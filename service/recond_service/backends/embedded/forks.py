"""The front end's side of the zygote of workers: starts it, has it fork workers, and starts it anew if it dies."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time

import structlog

from recond_service.backends.embedded.backoff import Backoff
from recond_service.backends.embedded.options import WorkerOptions
from recond_service.transport import AsyncChannel, ChannelClosedError, Message, SharedBlock, channel_pair

_START_SECONDS = 60.0
_FORK_SECONDS = 10.0  # takes milliseconds
_END_SECONDS = 10.0

_log = structlog.get_logger(__name__)


class WorkerProcess:
    """A worker that has been forked.

    Parameters
    ----------
    pid
        Its process id.
    handle
        Its pidfd; owned by this object.
    channel
        To it; owned by this object.
    """

    def __init__(self, pid: int, handle: int, channel: AsyncChannel) -> None:
        self.pid = pid
        self.channel = channel
        self._handle = handle

    def kill(self) -> None:
        """End it, whatever it does. Does nothing if it is dead."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    async def end(self) -> None:
        """Kill it, wait until it is dead, and let go of it."""
        try:
            self.kill()
            await _dead(self._handle)
        finally:
            self.channel.close()
            os.close(self._handle)


class WorkerForks:
    """Forks workers from a zygote, which is started again, with growing pauses, when it dies. Its workers die with it.

    Parameters
    ----------
    threads
        That every worker will compute with.
    log_level, log_format
        As for `recond_service.telemetry.configure_logging`.
    """

    def __init__(self, threads: int, log_level: str, log_format: str) -> None:
        self._threads = threads
        self._log_options = (log_level, log_format)
        self._numbers = itertools.count()
        self._control: AsyncChannel | None = None
        self._ready = asyncio.Event()
        self._waiting: dict[int, asyncio.Future[tuple[int, int]]] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the zygote, None if there is none."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the zygote and look after it."""
        if self._keeper is None:
            self._keeper = asyncio.get_running_loop().create_task(self._keep(), name="worker-zygote")

    async def fork(self, options: WorkerOptions, board: SharedBlock) -> WorkerProcess:
        """Return a new worker, as soon as there is a zygote.

        Raises
        ------
        ChannelClosedError
            The zygote died meanwhile, or cannot fork.
        """
        await self._ready.wait()
        number = next(self._numbers)
        spawned: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = spawned
        ours, theirs = channel_pair()
        channel = AsyncChannel(ours)
        try:
            with theirs:
                if self._control is None:
                    raise ChannelClosedError("the zygote of the workers just died")
                body = {"number": number, "options": options.to_json()}
                await self._control.send("spawn", body, [theirs.fileno(), board.fd])
            async with asyncio.timeout(_FORK_SECONDS):
                pid, handle = await spawned
        except TimeoutError:
            channel.close()
            if self._process is not None:
                self._process.kill()  # stopped, or worse: another one is started
            raise ChannelClosedError("the zygote of the workers did not answer") from None
        except BaseException:
            channel.close()
            raise
        finally:
            self._waiting.pop(number, None)
        return WorkerProcess(pid, handle, channel)

    async def _keep(self) -> None:
        backoff = Backoff(time.monotonic)
        while True:
            backoff.begun()
            ours, theirs = channel_pair()
            control = AsyncChannel(ours)
            process: subprocess.Popen[bytes] | None = None
            try:
                with theirs:
                    process = self._process = self._spawn(theirs.fileno())
                async with asyncio.timeout(_START_SECONDS):
                    await control.receive()
                self._control = control
                self._ready.set()
                while True:
                    self._handle(await control.receive())
            except (ChannelClosedError, TimeoutError, ValueError, OSError) as error:
                _log.error("worker-zygote-died", pid=self.pid, problem=str(error) or type(error).__name__)
            finally:
                self._ready.clear()
                self._control = None
                control.close()
                for spawned in self._waiting.values():
                    if not spawned.done():
                        spawned.set_exception(ChannelClosedError("the zygote of the workers died"))
                if process is not None:
                    process.kill()
                    process.wait()
                self._process = None
            await asyncio.sleep(backoff.ended())

    def _spawn(self, control_fd: int) -> subprocess.Popen[bytes]:
        threads = str(self._threads)
        environment = {
            **os.environ,
            "OMP_WAIT_POLICY": "PASSIVE",
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            # NumPy's BLAS starts its threads when it is imported, and is not what models compute with.
            "OPENBLAS_NUM_THREADS": "1",
        }
        return subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "recond_service.backends.embedded.zygote"),
                *(str(control_fd), *self._log_options),
            ],
            pass_fds=[control_fd],
            env=environment,
            stdin=subprocess.DEVNULL,
        )

    def _handle(self, message: Message) -> None:
        """Hand out a worker that has been forked, or the news that it could not be."""
        try:
            spawned = self._waiting.get(int(message.body.get("number", -1)))
            if spawned is None or spawned.done():
                return
            if message.op == "spawned" and message.fds:
                spawned.set_result((int(message.body["pid"]), message.fds.pop(0)))
            elif message.op == "exited":
                spawned.set_exception(ChannelClosedError(str(message.body.get("problem", "the worker died at once"))))
        finally:
            message.close_fds()

    async def close(self) -> None:
        """End the zygote, and with it what it has forked."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None


async def _dead(handle: int) -> None:
    """Wait until the process of a pidfd is dead; give up after some seconds, for the kernel may keep it from dying."""
    loop = asyncio.get_running_loop()
    gone = loop.create_future()

    def wake() -> None:
        if not gone.done():
            gone.set_result(None)

    loop.add_reader(handle, wake)
    try:
        # Not wait_for: before Python 3.12 it loses a cancellation that comes together with the end.
        async with asyncio.timeout(_END_SECONDS):
            await gone
    except TimeoutError:
        _log.error("worker-does-not-die")
    finally:
        loop.remove_reader(handle)
