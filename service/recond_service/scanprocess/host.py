"""The front end's side of scan processes: starts them, speaks with them, and says why one died."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any

import structlog

from recond_service.scanprocess.confine import landlock_version
from recond_service.scanprocess.death import LOST, cause_of_death
from recond_service.transport import AsyncChannel, ChannelClosedError, Message, channel_pair
from recond_service.types import (
    DefectError,
    RecondError,
    UnavailableError,
)

_START_SECONDS = 60.0
_REAP_SECONDS = 10.0
_KEPT_SECONDS = 5.0  # a client that sends one request after another sends the next within this time
_MOST_KEPT = 8
_SPARES = 2  # processes that wait, warm, for their request

_log = structlog.get_logger(__name__)


class ScanProcess:
    """One scan process. An asynchronous context manager: leaving it ends the process, or keeps it for the same client.

    Parameters
    ----------
    host
        Where it was started.
    number
        The host's number for it.
    channel
        To the process.

    Attributes
    ----------
    done_well
        Set when a request has been served without an error: then the process may serve another of the same client.
    """

    def __init__(self, host: ScanProcessHost, number: int, channel: AsyncChannel) -> None:
        self._host = host
        self._number = number
        self._channel = channel
        self.exit_status: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.client = ""
        self.served = 0
        self.done_well = False

    async def send(self, op: str, body: dict[str, Any] | None = None, fds: Sequence[int] = ()) -> None:
        """Send a message. If the process is gone this does nothing: `receive` says why."""
        with contextlib.suppress(ChannelClosedError):
            await self._channel.send(op, body, fds)

    async def receive(self) -> Message:
        """Wait for a message.

        Raises
        ------
        RecondError
            What the process reported, or why it died.
        """
        try:
            message = await self._channel.receive()
        except ChannelClosedError:
            raise await self._cause_of_death() from None
        except ValueError as error:
            raise DefectError(f"the scan process sent nonsense: {error}", reason="SCAN_PROCESS") from error
        if message.op == "defect":
            message.close_fds()
            _log.error("scan-process-defect", traceback=message.body["traceback"])
            raise DefectError(
                "a defect in the scan process; report the request id to the administrator", reason="SCAN_PROCESS"
            )
        if message.op == "error":
            message.close_fds()
            raise RecondError.from_json(message.body)
        return message

    async def _cause_of_death(self) -> RecondError:
        try:
            status = await asyncio.wait_for(asyncio.shield(self.exit_status), _REAP_SECONDS)
        except TimeoutError:
            status = LOST
        return cause_of_death(status)

    async def __aenter__(self) -> ScanProcess:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.done_well and error is None and self._host.keep(self):
            return
        self.close()

    def close(self) -> None:
        """End the process, whatever it does."""
        self._channel.close()
        self._host.end(self._number)


class ScanProcessHost:
    """Starts scan processes through the zygote, and the zygote anew if it dies.

    Parameters
    ----------
    idle
        Tells whether there is time for spare processes to touch all memory that a request needs, which takes as much computing as
        some requests. A busy machine has better things to do.
    most_requests
        Requests of one client that a process may serve.
    """

    def __init__(self, idle: Callable[[], bool] = lambda: True, most_requests: int = 1) -> None:
        self._idle = idle
        self._most_requests = most_requests
        self._kept: dict[ScanProcess, asyncio.TimerHandle] = {}  # the one unused longest first
        self._numbers = itertools.count()
        self._zygote: subprocess.Popen[bytes] | None = None
        self._control: AsyncChannel | None = None
        self._listener: asyncio.Task[None] | None = None
        self._processes: dict[int, ScanProcess] = {}
        self._spares: deque[ScanProcess] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Start the zygote if it does not run, and wait until it is ready.

        Raises
        ------
        UnavailableError
            If it does not come up.
        """
        async with self._starting:
            if self._listener is not None and not self._listener.done():
                return
            ours, theirs = channel_pair()
            with theirs:
                self._zygote = _spawn_zygote(theirs.fileno())
            control = AsyncChannel(ours)
            try:
                await asyncio.wait_for(control.receive(), _START_SECONDS)
            except (ChannelClosedError, TimeoutError) as error:
                self._zygote.kill()
                control.close()
                raise UnavailableError(
                    "the process that starts parsers did not come up; see the log of the service",
                    reason="NO_SCAN_PROCESS",
                ) from error
            if landlock_version() < 1:
                _log.warning(
                    "no-landlock", effect="only the readers' own checks keep a scan from naming files of this machine"
                )
            self._control = control
            self._listener = asyncio.create_task(self._listen(control, self._zygote), name="zygote")
            self._in_background(self._fork_spares())

    @property
    def pid(self) -> int | None:
        """Process id of the zygote."""
        return self._zygote.pid if self._zygote else None

    async def open(self, client: str = "") -> ScanProcess:
        """Return a scan process that has served nobody but this client: one that is kept or spare, if there is one.

        Parameters
        ----------
        client
            Whose request it is for.

        Raises
        ------
        UnavailableError
            If none can be started.
        """
        await self.start()
        process = self._take_kept(client) or self._take_spare() or await self._fork()
        process.client = client
        process.served += 1
        process.done_well = False
        return process

    def _take_kept(self, client: str) -> ScanProcess | None:
        for process in [kept for kept in self._kept if kept.client == client]:
            self._kept.pop(process).cancel()
            if not process.exit_status.done():
                return process
            process.close()
        return None

    def _take_spare(self) -> ScanProcess | None:
        while self._spares:
            spare = self._spares.popleft()
            if not spare.exit_status.done():
                return spare
        return None

    def keep(self, process: ScanProcess) -> bool:
        """Keep a process for the next request of its client, for a while; tell whether that is done."""
        if process.served >= self._most_requests or process.exit_status.done() or self._control is None:
            return False
        self._kept[process] = asyncio.get_running_loop().call_later(_KEPT_SECONDS, self._expire, process)
        while len(self._kept) > _MOST_KEPT:
            self._expire(next(iter(self._kept)))
        self._refill()
        return True

    def _expire(self, process: ScanProcess) -> None:
        timer = self._kept.pop(process, None)
        if timer is not None:
            timer.cancel()
            process.close()

    async def _fork_spares(self) -> None:
        while len(self._spares) < _SPARES:
            self._spares.append(await self._fork())

    async def _fork(self) -> ScanProcess:
        number = next(self._numbers)
        ours, theirs = channel_pair()
        process = ScanProcess(self, number, AsyncChannel(ours))
        self._processes[number] = process
        try:
            with theirs:
                if self._control is None:
                    raise ChannelClosedError("no zygote")
                await self._control.send("spawn", {"number": number, "warm": self._idle()}, [theirs.fileno()])
        except ChannelClosedError as error:
            del self._processes[number]
            ours.close()
            raise UnavailableError(
                "the process that starts parsers just died; try again", reason="NO_SCAN_PROCESS", retry_after=1.0
            ) from error
        return process

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        """Run something whose failure shows elsewhere: the next `open` starts what is missing."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._background_done)

    def _background_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.warning("scan-process-background", problem=str(task.exception()))

    def end(self, number: int) -> None:
        """Have a process killed if it still runs; it is reaped by the zygote. Then there is time for spares."""
        if number in self._processes and self._control is not None:
            self._in_background(self._kill(number))
        self._refill()

    def _refill(self) -> None:
        if len(self._spares) < _SPARES:
            self._in_background(self._fork_spares())

    async def _kill(self, number: int) -> None:
        if self._control is not None:
            await self._control.send("kill", {"number": number})

    async def _listen(self, control: AsyncChannel, zygote: subprocess.Popen[bytes]) -> None:
        """Take note of exits until the zygote dies."""
        try:
            while True:
                message = await control.receive()
                if message.op == "exited":
                    self._exited(int(message.body["number"]), int(message.body["status"]))
        except ChannelClosedError:
            _log.error("zygote-died", pid=zygote.pid)
        finally:
            control.close()
            for number in list(self._processes):
                self._exited(number, LOST)
            if zygote.poll() is None:
                zygote.kill()
            zygote.wait()

    def _exited(self, number: int, status: int) -> None:
        process = self._processes.pop(number, None)
        if process is not None and not process.exit_status.done():
            process.exit_status.set_result(status)

    @property
    def running(self) -> int:
        """How many scan processes have not been reaped."""
        return len(self._processes)

    async def close(self) -> None:
        """End the zygote and all its processes."""
        for process in list(self._kept):
            self._expire(process)
        for task in list(self._tasks):
            task.cancel()
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
            self._listener = None
        self._control = None


def _spawn_zygote(channel_fd: int) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "recond_service.scanprocess.zygote", str(channel_fd)],
        pass_fds=[channel_fd],
        env=environment,
        stdin=subprocess.DEVNULL,
    )
