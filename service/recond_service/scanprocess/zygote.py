"""The process that scan processes are forked from: parsers loaded, no threads, no torch.

Started as ``python -P -m recond_service.scanprocess.zygote FD``; see `recond_service.transport.forking` for what it does. With a
``spawn`` comes the child's end of a channel, and whether there is time to get ready before the request comes.
"""

from __future__ import annotations

import socket
import sys
import traceback

from recond_service.scanprocess.confine import code_ruleset
from recond_service.scanprocess.process import run_scan
from recond_service.scanprocess.warm_up import warm_up
from recond_service.transport import BlockingChannel, Message, serve_forks


def _scan(message: Message) -> None:
    """Be a scan process."""
    channel = BlockingChannel(socket.socket(fileno=message.fds.pop(0)))
    try:
        run_scan(channel, warm=bool(message.body["warm"]))
    finally:
        problem = sys.exc_info()
        if problem[0] is not None:
            channel.send("defect", {"traceback": "".join(traceback.format_exception(*problem))})


def _prepare() -> None:
    warm_up()
    code_ruleset()


if __name__ == "__main__":
    serve_forks(int(sys.argv[1]), _prepare, _scan)
