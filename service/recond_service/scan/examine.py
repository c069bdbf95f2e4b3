"""The doctor's examination in a confined process, started as ``python -P -m recond_service.scan.examine FD``."""

from __future__ import annotations

import dataclasses
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from recond_models.confinement import address_space, forbid_files_and_network, limit_resources
from recond_service.doctor import Report, examine
from recond_service.processes import BlockingChannel, ChannelClosedError, Message, channel_pair
from recond_service.sandbox.death import cause_of_death
from recond_service.types import ErrorReport, LimitExceededError, PartRole, RecondError, ScanRequest

_MEMORY_BYTES = 4 << 30
_CPU_SECONDS = 120


class Examine(Message, frozen=True):
    """A scan to examine; its parts are at the paths of files."""

    request: ScanRequest


class Examined(Message, frozen=True):
    """What was found."""

    report: Report


def examine_confined(request: ScanRequest) -> Report:
    """Do what `examine` does, in a process that sees no file but the parts and has bounded memory and time.

    Parameters
    ----------
    request
        Its parts are at the paths of files.
    """
    ours, theirs = channel_pair()
    channel: BlockingChannel[Examined] = BlockingChannel(ours, Examined)
    with theirs, ExitStack() as opened:
        sent, fds = _sendable(request, opened)
        command = [sys.executable, "-P", "-m", "recond_service.scan.examine", str(theirs.fileno())]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno(), *fds], stdin=subprocess.DEVNULL)
    try:
        channel.send(Examine(sent))
        return channel.receive().message.report
    except ChannelClosedError:
        return _refusal(request, cause_of_death(process.wait()))
    finally:
        channel.close()
        process.wait()


def _sendable(request: ScanRequest, opened: ExitStack) -> tuple[ScanRequest, list[int]]:
    """Return the request with descriptors of `opened` for paths that are no Unicode, which messages cannot hold."""
    parts, fds = [], []
    for part in request.parts:
        if part.path.isprintable() or not Path(part.path).exists():
            parts.append(part)
            continue
        fd = os.open(part.path, os.O_RDONLY | os.O_CLOEXEC)
        opened.callback(os.close, fd)
        fds.append(fd)
        parts.append(dataclasses.replace(part, path=f"/proc/self/fd/{fd}"))
    return dataclasses.replace(request, parts=tuple(parts)), fds


def _refusal(request: ScanRequest, error: RecondError) -> Report:
    name = next((part.name for part in request.parts if part.role is PartRole.KSPACE), "")
    return Report(name, sum(part.size_bytes for part in request.parts), refused=ErrorReport.of(error))


def main() -> None:
    """Examine one request from the channel whose descriptor is the only argument."""
    channel: BlockingChannel[Examine] = BlockingChannel(socket.socket(fileno=int(sys.argv[1])), Examine)
    request = channel.receive().message.request
    base = address_space()
    forbid_files_and_network(*(part.path for part in request.parts))
    limit_resources(base + _MEMORY_BYTES, _CPU_SECONDS)
    try:
        report = examine(request)
    except MemoryError:
        error = LimitExceededError(
            "reading this scan takes more than 4 GiB; send it in smaller pieces", reason="SCAN_MEMORY"
        )
        report = _refusal(request, error)
    channel.send(Examined(report))


if __name__ == "__main__":
    main()
