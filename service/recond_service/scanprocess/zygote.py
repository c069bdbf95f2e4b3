"""The process that scan processes are forked from: parsers loaded, no threads, no torch.

Started as ``python -P -m recond_service.scanprocess.zygote FD``. On the control channel come ``spawn`` (with the child's end of a
channel) and ``kill``; back go ``spawned`` and, when the child has been reaped, ``exited`` with its status.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import traceback
from types import FrameType
from typing import NoReturn

from recond_service.scanprocess.process import run_scan
from recond_service.scanprocess.warm_up import warm_up
from recond_service.transport import BlockingChannel, ChannelClosedError, Message, die_with_parent


class Zygote:
    """Forks a scan process on request and reports how it ended.

    Parameters
    ----------
    control
        Channel to the front end.
    """

    def __init__(self, control: BlockingChannel) -> None:
        self._control = control
        self._children: dict[int, int] = {}  # process id -> the front end's number for it
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, self._on_child)
        signal.set_wakeup_fd(self._wake_write)

    @staticmethod
    def _on_child(number: int, frame: FrameType | None) -> None:
        """Let the wake-up descriptor interrupt `select`."""

    def serve(self) -> None:
        """Serve until the front end closes the channel."""
        warm_up()
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
            self._become_scan_process(parent, message)
        self._children[pid] = number
        self._control.send("spawned", {"number": number, "pid": pid})

    def _become_scan_process(self, parent: int, message: Message) -> NoReturn:
        status = 1
        channel = BlockingChannel(socket.socket(fileno=message.fds.pop(0)))
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            die_with_parent(parent)
            self._control.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
            run_scan(channel)
            status = 0
        finally:  # whatever happens: this process must never return into the zygote's loop
            problem = sys.exc_info()
            if problem[0] is not None:
                channel.send("defect", {"traceback": "".join(traceback.format_exception(*problem))})
            os._exit(status)

    def _reap(self) -> None:
        while self._children:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            number = self._children.pop(pid)
            self._control.send("exited", {"number": number, "status": os.waitstatus_to_exitcode(status)})


def main() -> None:
    """Run the zygote on the channel whose descriptor is the only argument."""
    die_with_parent(os.getppid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal reaches the whole group; the front end drains
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        Zygote(BlockingChannel(socket.socket(fileno=int(sys.argv[1])))).serve()
    except ChannelClosedError:
        return  # the front end is gone, and with this process its children


if __name__ == "__main__":
    main()
