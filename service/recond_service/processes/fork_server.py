"""A process that does nothing but fork others: what they need is loaded in it once, and it has no threads.

`recond_service.processes.zygote` is its other side. A `Spawn` brings what the child has to know and descriptors that become the
child's; back go `Ready`, `Spawned` with a pidfd of the child and, when the child has been reaped, `Exited` with its status.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from recond_service.processes.channel import BlockingChannel, ChannelClosedError, Message, Received
from recond_service.processes.lifetime import die_with_parent


class Spawn(Message, frozen=True):
    """Fork a child.

    Parameters
    ----------
    number
        The asker's number for it.
    opening
        What the child has to know: an encoded message, which only the child decodes.
    """

    number: int
    opening: bytes


class Ready(Message, frozen=True):
    """Everything that children need is loaded."""


class Spawned(Message, frozen=True):
    """A child was forked; its pidfd comes along.

    Parameters
    ----------
    number
        As in the `Spawn`.
    pid
        Process id of the child.
    """

    number: int
    pid: int


class Exited(Message, frozen=True):
    """A child has ended and was reaped, or could not be forked.

    Parameters
    ----------
    number
        As in the `Spawn`.
    status
        Exit status, or minus the number of the signal that killed it.
    problem
        Why it could not be forked; empty if it was.
    """

    number: int
    status: int
    problem: str = ""


Child = Callable[[bytes, list[int]], None]
"""What a child does, with its opening and the descriptors that came along, which it owns."""


class ForkServer:
    """Forks a process on request and reports how it ended.

    Parameters
    ----------
    control
        Channel to the process that asks.
    child
        What every child does. If it raises, the child ends with status 1 and nobody is told why.
    """

    def __init__(self, control: BlockingChannel[Spawn], child: Child) -> None:
        self._control = control
        self._child = child
        self._children: dict[int, int] = {}  # process id -> the other side's number for it
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, self._on_child)
        signal.set_wakeup_fd(self._wake_write)

    @staticmethod
    def _on_child(number: int, frame: FrameType | None) -> None:
        """Let the wake-up descriptor interrupt `select`."""

    def serve(self) -> None:
        """Serve until the other side closes the channel."""
        self._control.send(Ready())
        while True:
            readable, _, _ = select.select([self._control.fileno(), self._wake_read], [], [])
            if self._wake_read in readable:
                os.read(self._wake_read, 4096)
                self._reap()
            if self._control.fileno() in readable:
                received = self._control.receive()
                self._spawn(received)
                received.close_fds()

    def _spawn(self, received: Received[Spawn]) -> None:
        number = received.message.number
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._control.send(Exited(number, -1, f"cannot fork: {error}"))
            return
        if pid == 0:
            self._become_child(parent, received)
        self._children[pid] = number
        try:
            handle = os.pidfd_open(pid)  # not yet reaped, so it is still this process
        except OSError as error:
            os.kill(pid, signal.SIGKILL)
            self._control.send(Exited(number, -1, f"no handle for the new process: {error}"))
            return
        try:
            self._control.send(Spawned(number, pid), [handle])
        finally:
            os.close(handle)

    def _become_child(self, parent: int, received: Received[Spawn]) -> NoReturn:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            die_with_parent(parent)
            self._control.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
            self._child(received.message.opening, received.fds)
            status = 0
        finally:  # whatever happens: this process must never return into the loop of its parent
            os._exit(status)

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            number = self._children.pop(pid)
            self._control.send(Exited(number, os.waitstatus_to_exitcode(status)))


def serve_forks(control_fd: int, prepare: Callable[[], None], child: Child) -> None:
    """Be a fork server until the process that started this one closes the channel or dies.

    Signals that end a service reach its whole process group, from a terminal (SIGINT) or from systemd (SIGTERM): this process and
    its children ignore them, for accepted requests are still to be served. They end when the front end closes their channels, and
    at the latest with it.

    Parameters
    ----------
    control_fd
        Descriptor of the control channel.
    prepare
        Called first: loads what the children need.
    child
        What every child does.
    """
    die_with_parent(os.getppid())
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    control: BlockingChannel[Spawn] = BlockingChannel(socket.socket(fileno=control_fd), Spawn)
    server = ForkServer(control, child)
    prepare()
    try:
        server.serve()
    except ChannelClosedError:
        return  # the front end is gone, and with this process its children
