"""The front end's side of sandboxes: has them forked ahead, keeps them for the next request of a client, says why one died."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Generic, TypeVar

import structlog

from recond_models.confinement import landlock_version
from recond_service.processes import LOST, ChannelClosedError, ChildProcess, ForkError, Message, Received, Zygote
from recond_service.sandbox.death import cause_of_death
from recond_service.sandbox.messages import OpenSandbox, SandboxDefect, SandboxError
from recond_service.types import DefectError, OverloadedError, RecondError, UnavailableError

_START_SECONDS = 60.0
_REAP_SECONDS = 10.0
_KEPT_SECONDS = 5.0  # a client that sends one request after another sends the next within this time
_MOST_KEPT = 8
_SPARES = 2  # processes that wait, warm, for their request

_log = structlog.get_logger(__name__)

Incoming = TypeVar("Incoming")


class Sandbox(Generic[Incoming]):
    """One confined process. An asynchronous context manager: leaving it ends the process, or keeps it for the same client.

    Parameters
    ----------
    pool
        Where it comes from.
    process
        The process.

    Attributes
    ----------
    done_well
        Set when a request was served without an error: then the process may serve another of the same client.
    """

    def __init__(self, pool: SandboxPool, process: ChildProcess[Any]) -> None:
        self._pool = pool
        self._process = process
        self.client = ""
        self.served = 0
        self.done_well = False

    @property
    def dead(self) -> bool:
        """The process has ended."""
        return self._process.exit_status.done()

    async def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Send a message. If the process is gone this does nothing: `receive` says why."""
        with contextlib.suppress(ChannelClosedError):
            await self._process.channel.send(message, fds)

    async def receive(self) -> Received[Incoming]:
        """Wait for a message.

        Raises
        ------
        RecondError
            What the process reported, or why it died.
        """
        try:
            received = await self._process.channel.receive()
        except ChannelClosedError:
            raise await self._cause_of_death() from None
        except ValueError as error:
            raise DefectError(
                f"the scan process sent nonsense: {error}; report the request id", reason="SCAN_PROCESS"
            ) from error
        match received.message:
            case SandboxDefect(text):
                received.close_fds()
                _log.error("sandbox-defect", traceback=text)
                raise DefectError(
                    "a defect in the scan process; report the request id to the administrator", reason="SCAN_PROCESS"
                )
            case SandboxError(report):
                received.close_fds()
                raise report.to_error()
        return received

    async def _cause_of_death(self) -> RecondError:
        try:
            status = await asyncio.wait_for(asyncio.shield(self._process.exit_status), _REAP_SECONDS)
        except TimeoutError:
            status = LOST
        return cause_of_death(status)

    async def __aenter__(self) -> Sandbox[Incoming]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.done_well and error is None and self._pool.keep(self):
            return
        self.close()
        self._pool.refill()

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.close()


class SandboxPool:
    """Has sandboxes forked from a zygote.

    Parameters
    ----------
    zygote
        What they are forked from. The pool starts and ends it.
    incoming
        What a sandbox may say beside errors: a class of messages, or a union of classes.
    idle
        Tells whether there is time for spare processes to touch all memory that a request needs, which takes as much computing as
        some requests. A busy machine has better things to do.
    most_requests
        Requests of one client that a process may serve.
    """

    def __init__(
        self,
        zygote: Zygote,
        incoming: Any,  # noqa: ANN401 - a union of classes has no type of its own
        idle: Callable[[], bool] = lambda: True,
        most_requests: int = 1,
    ) -> None:
        self._zygote = zygote
        self._incoming = incoming | SandboxError | SandboxDefect
        self._idle = idle
        self._most_requests = most_requests
        self._kept: dict[Sandbox[Any], asyncio.TimerHandle] = {}  # the one unused longest first
        self._spares: deque[Sandbox[Any]] = deque()
        self._filling: asyncio.Task[None] | None = None
        self._open = True

    @property
    def pid(self) -> int | None:
        """Process id of the zygote, None while there is none."""
        return self._zygote.pid

    @property
    def running(self) -> int:
        """How many processes have not been reaped."""
        return self._zygote.children

    async def start(self) -> None:
        """Start the zygote, and wait until it is ready.

        Raises
        ------
        UnavailableError
            It does not come up.
        """
        self._zygote.start()
        if landlock_version() < 1:
            _log.warning(
                "no-landlock", effect="only the readers' own checks keep a scan from naming files of this machine"
            )
        await self._wait_for_zygote()
        self.refill()

    async def _wait_for_zygote(self) -> None:
        try:
            async with asyncio.timeout(_START_SECONDS):
                await self._zygote.wait_ready()
        except TimeoutError:
            raise UnavailableError(
                "the process that starts parsers did not come up; see the log of the service",
                reason="NO_SCAN_PROCESS",
                retry_after=10.0,
            ) from None

    async def open(self, client: str = "") -> Sandbox[Any]:
        """Return a sandbox that has served nobody but this client: one that is kept or spare, if there is one.

        Parameters
        ----------
        client
            Whose request it is for.

        Raises
        ------
        UnavailableError
            None can be started.
        OverloadedError
            This process has no file descriptor left.
        """
        sandbox = self._take_kept(client) or self._take_spare()
        if sandbox is None:
            await self._wait_for_zygote()
            sandbox = await self._fork()
        sandbox.client = client
        sandbox.served += 1
        sandbox.done_well = False
        return sandbox

    def _take_kept(self, client: str) -> Sandbox[Any] | None:
        for sandbox in [kept for kept in self._kept if kept.client == client]:
            self._kept.pop(sandbox).cancel()
            if not sandbox.dead:
                return sandbox
            sandbox.close()
        return None

    def _take_spare(self) -> Sandbox[Any] | None:
        while self._spares:
            spare = self._spares.popleft()
            if not spare.dead:
                return spare
            spare.close()
        return None

    def keep(self, sandbox: Sandbox[Any]) -> bool:
        """Keep a sandbox for the next request of its client, for a while; tell whether that is done."""
        if sandbox.served >= self._most_requests or sandbox.dead or not self._open:
            return False
        self._kept[sandbox] = asyncio.get_running_loop().call_later(_KEPT_SECONDS, self._expire, sandbox)
        while len(self._kept) > _MOST_KEPT:
            self._expire(next(iter(self._kept)))
        self.refill()
        return True

    def _expire(self, sandbox: Sandbox[Any]) -> None:
        timer = self._kept.pop(sandbox, None)
        if timer is not None:
            timer.cancel()
            sandbox.close()

    async def _fork(self) -> Sandbox[Any]:
        try:
            return Sandbox(self, await self._zygote.fork(OpenSandbox(self._idle()), self._incoming))
        except ForkError as error:
            raise UnavailableError(f"{error}; try again", reason="NO_SCAN_PROCESS", retry_after=1.0) from error
        except OSError as error:
            raise OverloadedError(
                f"this service has no file descriptor left for another request ({error.strerror}); come back later, and have "
                "its limit of open files raised",
                reason="NO_DESCRIPTORS",
                retry_after=1.0,
            ) from error

    def refill(self) -> None:
        """See to it that there are spare sandboxes."""
        if self._open and len(self._spares) < _SPARES and (self._filling is None or self._filling.done()):
            self._filling = asyncio.get_running_loop().create_task(self._fork_spares(), name="spare-sandboxes")

    async def _fork_spares(self) -> None:
        try:
            while len(self._spares) < _SPARES:
                self._spares.append(await self._fork())
        except RecondError as error:
            _log.warning("no-spare-sandbox", problem=error.message)  # the next request starts what is missing

    async def close(self) -> None:
        """End the zygote and all its processes."""
        self._open = False
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.gather(self._filling, return_exceptions=True)
        for sandbox in list(self._kept):
            self._expire(sandbox)
        while self._spares:
            self._spares.popleft().close()
        await self._zygote.close()
