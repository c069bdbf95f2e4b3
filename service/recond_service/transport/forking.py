"""A process that does nothing but fork others: what they need is loaded in it once, and it has no threads.

On its control channel come ``spawn`` (a number, what the child has to know, and descriptors that become the child's) and ``kill``;
back go ``ready``, ``spawned`` with the child's process id and, when the child has been reaped, ``exited`` with its status.
"""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from recond_service.transport.channel import BlockingChannel, ChannelClosedError, Message
from recond_service.transport.lifetime import die_with_parent

Child = Callable[[Message], None]
"""What a child does; the message is that which asked for it, and the child owns its descriptors."""


class ForkServer:
    """Forks a process on request and reports how it ended.

    Parameters
    ----------
    control
        Channel to the process that asks.
    child
        What every child does. If it raises, nobody is told but by the child's status, 1.
    handles
        Send a pidfd with ``spawned``: a handle of the child that cannot come to mean another process.
    """

    def __init__(self, control: BlockingChannel, child: Child, *, handles: bool = False) -> None:
        self._control = control
        self._child = child
        self._handles = handles
        self._children: dict[int, int] = {}  # process id -> the other side's number for it
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, self._on_child)
        signal.set_wakeup_fd(self._wake_write)

    @staticmethod
    def _on_child(number: int, frame: FrameType | None) -> None:
        """Let the wake-up descriptor interrupt `select`."""

    def serve(self) -> None:
        """Serve until the other side closes the channel."""
        self._control.send("ready")
        while True:
            readable, _, _ = select.select([self._control.fileno(), self._wake_read], [], [])
            if self._wake_read in readable:
                os.read(self._wake_read, 4096)
                self._reap()
            if self._control.fileno() in readable:
                self._handle(self._control.receive())

    def _handle(self, message: Message) -> None:
        if message.op == "spawn":
            self._spawn(message)
        elif message.op == "kill":
            for pid, number in self._children.items():
                if number == message.body["number"]:
                    os.kill(pid, signal.SIGKILL)
        message.close_fds()

    def _spawn(self, message: Message) -> None:
        number = int(message.body["number"])
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._control.send("exited", {"number": number, "status": -1, "problem": f"cannot fork: {error}"})
            return
        if pid == 0:
            self._become_child(parent, message)
        self._children[pid] = number
        handles = [os.pidfd_open(pid)] if self._handles else []  # not yet reaped, so it is still this process
        try:
            self._control.send("spawned", {"number": number, "pid": pid}, handles)
        finally:
            for handle in handles:
                os.close(handle)

    def _become_child(self, parent: int, message: Message) -> NoReturn:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            die_with_parent(parent)
            self._control.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
            self._child(message)
            status = 0
        finally:  # whatever happens: this process must never return into the loop of its parent
            os._exit(status)

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            number = self._children.pop(pid)
            self._control.send("exited", {"number": number, "status": os.waitstatus_to_exitcode(status)})


def serve_forks(control_fd: int, prepare: Callable[[], None], child: Child, *, handles: bool = False) -> None:
    """Be a fork server until the process that started this one closes the channel or dies.

    Parameters
    ----------
    control_fd
        Descriptor of the control channel.
    prepare
        Called first: loads what the children need.
    child, handles
        As for `ForkServer`.
    """
    die_with_parent(os.getppid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches the whole group; the front end drains
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    control = BlockingChannel(socket.socket(fileno=control_fd))
    server = ForkServer(control, child, handles=handles)
    prepare()
    try:
        server.serve()
    except ChannelClosedError:
        return  # the front end is gone, and with this process its children
