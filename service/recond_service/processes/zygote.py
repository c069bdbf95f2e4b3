"""The asking side of a fork server: starts it, has it fork children, and starts it anew, with growing pauses, when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import msgspec
import structlog

from recond_service.processes.backoff import Backoff
from recond_service.processes.channel import AsyncChannel, ChannelClosedError, Message, Received, channel_pair
from recond_service.processes.fork_server import Exited, Ready, Spawn, Spawned

LOST = -1000
"""In place of an exit status where nobody is left to tell it."""

_START_SECONDS = 60.0
_FORK_SECONDS = 10.0  # takes milliseconds
_END_SECONDS = 10.0

_log = structlog.get_logger(__name__)

Incoming = TypeVar("Incoming")
_Answer = Ready | Spawned | Exited


class ForkError(Exception):
    """No child could be forked; the message says why. Another try may succeed."""


class ChildProcess(Generic[Incoming]):
    """A process that has been forked.

    Parameters
    ----------
    pid
        Its process id.
    handle
        Its pidfd, which cannot come to mean another process; owned by this object.
    channel
        To it; owned by this object.
    exit_status
        Settled when it has ended: its exit status, minus the number of the signal that killed it, or `LOST`.
    """

    def __init__(
        self, pid: int, handle: int, channel: AsyncChannel[Incoming], exit_status: asyncio.Future[int]
    ) -> None:
        self.pid = pid
        self.channel = channel
        self.exit_status = exit_status
        self._handle = handle

    def kill(self) -> None:
        """End it, whatever it does. Does nothing if it is dead."""
        if self._handle >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def close(self) -> None:
        """Kill it and let go of it, without waiting until it is dead. May be called twice."""
        self.kill()
        self.channel.close()
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    async def end(self) -> None:
        """Kill it, wait until it is dead, and let go of it."""
        try:
            self.kill()
            await self._dead()
        finally:
            self.close()

    async def _dead(self) -> None:
        """Wait until it is dead; give up after some seconds, for the kernel may keep it from dying."""
        loop = asyncio.get_running_loop()
        gone = loop.create_future()

        def wake() -> None:
            if not gone.done():
                gone.set_result(None)

        loop.add_reader(self._handle, wake)
        try:
            # Not wait_for: before Python 3.12 it loses a cancellation that comes together with the end.
            async with asyncio.timeout(_END_SECONDS):
                await gone
        except TimeoutError:
            _log.error("process-does-not-die", pid=self.pid)
        finally:
            loop.remove_reader(self._handle)


@dataclass(slots=True, eq=False)
class _Expected:
    """A child that was asked for or is alive."""

    spawned: asyncio.Future[tuple[int, int]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    exit_status: asyncio.Future[int] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def exited(self, status: int, problem: str) -> None:
        """Take note that there is no such child any more."""
        if not self.spawned.done():
            self.spawned.set_exception(ForkError(problem or "the process died as soon as it was forked"))
            self.spawned.exception()  # looked at, so that asyncio does not report it as forgotten
        if not self.exit_status.done():
            self.exit_status.set_result(status)


class Zygote:
    """A process with everything loaded that its children need, from which they are forked in milliseconds.

    It is started again, with growing pauses, when it dies; its children die with it.

    Parameters
    ----------
    name
        Its name in logs.
    module
        Run as ``python -P -m MODULE FD ARGUMENTS``; calls `serve_forks` with that descriptor.
    arguments
        Further arguments of the module.
    environment
        Variables that it gets beside those of this process.
    """

    def __init__(
        self,
        name: str,
        module: str,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._name = name
        self._command = (module, tuple(arguments))
        self._environment = dict(environment or {})
        self._numbers = itertools.count()
        self._control: AsyncChannel[_Answer] | None = None
        self._ready = asyncio.Event()
        self._children: dict[int, _Expected] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Its process id, None while there is none."""
        return self._process.pid if self._process else None

    @property
    def children(self) -> int:
        """How many children have not been reaped."""
        return len(self._children)

    def start(self) -> None:
        """Start it and look after it. Does nothing if that is done."""
        if self._keeper is None:
            self._keeper = asyncio.get_running_loop().create_task(self._keep(), name=f"{self._name}-keeper")

    async def wait_ready(self) -> None:
        """Wait until it can fork."""
        await self._ready.wait()

    async def fork(self, opening: Message, incoming: Any, fds: Sequence[int] = ()) -> ChildProcess[Any]:  # noqa: ANN401
        """Return a new child, as soon as the zygote is there.

        Parameters
        ----------
        opening
            What the child has to know.
        incoming
            Messages that the child may send: a class, or a union of classes.
        fds
            Descriptors for the child, behind its end of the channel; still owned by the caller.

        Raises
        ------
        ForkError
            The zygote died meanwhile, or cannot fork.
        OSError
            This process has no descriptor left.
        """
        await self._ready.wait()
        number, expected = next(self._numbers), _Expected()
        ours, theirs = channel_pair()
        channel: AsyncChannel[Any] = AsyncChannel(ours, incoming)
        self._children[number] = expected
        try:
            with theirs:
                if self._control is None:
                    raise ForkError(f"the {self._name} just died")
                spawn = Spawn(number, msgspec.msgpack.encode(opening))
                await self._control.send(spawn, [theirs.fileno(), *fds])
            async with asyncio.timeout(_FORK_SECONDS):
                pid, handle = await expected.spawned
        except BaseException as error:
            channel.close()
            self._give_up(number, expected)
            if isinstance(error, ChannelClosedError):
                raise ForkError(f"the {self._name} just died") from error
            if isinstance(error, TimeoutError):
                if self._process is not None:
                    self._process.kill()  # stopped, or worse: another one is started, which the next fork waits for
                    self._ready.clear()
                raise ForkError(f"the {self._name} did not answer") from error
            raise
        return ChildProcess(pid, handle, channel, expected.exit_status)

    def _give_up(self, number: int, expected: _Expected) -> None:
        """See to it that a child that nobody wants any more does not stay: its channel is closed, and its handle is too."""
        if expected.spawned.done() and not expected.spawned.cancelled() and expected.spawned.exception() is None:
            os.close(expected.spawned.result()[1])
        elif not expected.spawned.done():
            expected.spawned.cancel()
        if self._control is None:
            self._children.pop(number, None)

    async def _keep(self) -> None:
        backoff = Backoff(time.monotonic)
        while True:
            backoff.begun()
            try:
                await self._live()
            except (ChannelClosedError, TimeoutError, ValueError, OSError) as error:
                _log.error("zygote-died", zygote=self._name, problem=str(error) or type(error).__name__)
            await asyncio.sleep(backoff.ended())

    async def _live(self) -> None:
        """Start the process and listen to it until it is dead."""
        ours, theirs = channel_pair()
        control: AsyncChannel[_Answer] = AsyncChannel(ours, _Answer)
        try:
            with theirs:
                self._process = self._spawn(theirs.fileno())
            async with asyncio.timeout(_START_SECONDS):
                await control.receive()
            self._control = control
            self._ready.set()
            while True:
                self._handle(await control.receive())
        finally:
            self._ready.clear()
            self._control = None
            control.close()
            process, self._process = self._process, None
            if process is not None:
                process.kill()
                process.wait()
            children, self._children = self._children, {}
            for expected in children.values():
                expected.exited(LOST, f"the {self._name} died")

    def _spawn(self, control_fd: int) -> subprocess.Popen[bytes]:
        module, arguments = self._command
        return subprocess.Popen(
            [sys.executable, "-P", "-m", module, str(control_fd), *arguments],
            pass_fds=[control_fd],
            env={**os.environ, **self._environment},
            stdin=subprocess.DEVNULL,
        )

    def _handle(self, received: Received[_Answer]) -> None:
        """Hand out a child that has been forked, or the news that one has ended."""
        message = received.message
        try:
            if isinstance(message, Spawned):
                expected = self._children.get(message.number)
                if expected is not None and not expected.spawned.done() and received.fds:
                    expected.spawned.set_result((message.pid, received.fds.pop(0)))
            elif isinstance(message, Exited):
                expected = self._children.pop(message.number, None)
                if expected is not None:
                    expected.exited(message.status, message.problem)
        finally:
            received.close_fds()

    async def close(self) -> None:
        """End it, and with it what it has forked."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
