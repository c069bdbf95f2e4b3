"""What a sandbox does first, before it sees untrusted bytes, and how it says what went wrong."""

from __future__ import annotations

import socket
import sys
import traceback
from collections.abc import Callable
from typing import Any

import msgspec

from recond_models.confinement import address_space, code_ruleset, forbid_files_and_network
from recond_service.processes import BlockingChannel, ChannelClosedError, serve_forks
from recond_service.sandbox.messages import FromSandbox, OpenSandbox, SandboxDefect, SandboxError
from recond_service.types import ErrorReport, LimitExceededError, RecondError

Serve = Callable[[BlockingChannel[Any], int], bool]
"""Serves one request that comes on a channel, and returns whether the process is fit for another; the number is the address space
of the process before that, bytes."""


def serve_sandboxes(control_fd: int, incoming: Any, serve: Serve, warm_up: Callable[[], None]) -> None:  # noqa: ANN401
    """Be the zygote of sandboxes until the front end is gone.

    Parameters
    ----------
    control_fd
        Descriptor of the channel to the front end.
    incoming
        What a sandbox may be told: a class of messages, or a union of classes.
    serve
        What it does with a request.
    warm_up
        Loads what every request needs.
    """

    def prepare() -> None:
        warm_up()
        code_ruleset()

    def child(opening: bytes, fds: list[int]) -> None:
        warm = msgspec.msgpack.decode(opening, type=OpenSandbox).warm
        channel: BlockingChannel[Any] = BlockingChannel(socket.socket(fileno=fds.pop(0)), incoming)
        try:
            _serve_requests(channel, serve, warm_up if warm else lambda: None)
        finally:
            if sys.exc_info()[0] is not None:
                _tell(channel, SandboxDefect(traceback.format_exc()))

    serve_forks(control_fd, prepare, child)


def _serve_requests(channel: BlockingChannel[Any], serve: Serve, warm_up: Callable[[], None]) -> None:
    """Serve requests that come on `channel` one after another, until one fails or nobody sends any more."""
    base = address_space()
    forbid_files_and_network()
    warm_up()
    try:
        while serve(channel, base):
            continue
    except ChannelClosedError:
        return  # the client is gone, or the front end
    except RecondError as error:
        _tell(channel, SandboxError(ErrorReport.of(error)))
    except MemoryError:
        message = (
            "reading this scan takes more memory than one request may have; send it in smaller pieces, or have "
            "scan_memory_bytes of the service raised"
        )
        _tell(channel, SandboxError(ErrorReport.of(LimitExceededError(message, reason="SCAN_MEMORY"))))


def _tell(channel: BlockingChannel[Any], message: FromSandbox) -> None:
    try:
        channel.send(message)
    except ChannelClosedError:
        return
