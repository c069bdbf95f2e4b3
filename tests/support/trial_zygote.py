"""A zygote whose children do what they are told; started as ``python -P -m trial_zygote FD``."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time

import msgspec

from recond_service.processes import BlockingChannel, Message, serve_forks


class Begin(Message, frozen=True):
    """What a child is to do: "answer", "exit", "die", or "sleep"."""

    what: str


class Tell(Message, frozen=True):
    """Asks a child to answer."""

    text: str


class Told(Message, frozen=True):
    """What a child says."""

    text: str
    descriptors: int = 0


def child(opening: bytes, fds: list[int]) -> None:
    what = msgspec.msgpack.decode(opening, type=Begin).what
    channel: BlockingChannel[Tell] = BlockingChannel(socket.socket(fileno=fds.pop(0)), Tell)
    if what == "exit":
        os._exit(7)
    if what == "die":
        os.kill(os.getpid(), signal.SIGABRT)
    if what == "sleep":
        channel.send(Told("asleep"))
        time.sleep(60)
    while True:
        channel.send(Told(channel.receive().message.text.upper(), len(fds)))


if __name__ == "__main__":
    serve_forks(int(sys.argv[1]), lambda: None, child)
