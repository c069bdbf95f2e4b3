"""The doctor's examination in a confined process, started as ``python -P -m recond_service.scanprocess.examine FD``."""

from __future__ import annotations

import socket
import subprocess
import sys
from dataclasses import asdict

from pydantic import TypeAdapter

from recond_service.doctor import Report, examine
from recond_service.scanprocess.codec import request_from_json, request_to_json
from recond_service.scanprocess.confine import address_space, forbid_files_and_network, limit_resources
from recond_service.scanprocess.death import cause_of_death
from recond_service.transport import BlockingChannel, ChannelClosedError, channel_pair
from recond_service.types import LimitExceededError, PartRole, RecondError, ScanRequest

_MEMORY_BYTES = 4 << 30
_CPU_SECONDS = 120


def examine_confined(request: ScanRequest) -> Report:
    """Do what `examine` does, in a process that sees no file but the parts and has bounded memory and time.

    Parameters
    ----------
    request
        Its parts are at the paths of files.
    """
    ours, theirs = channel_pair()
    channel = BlockingChannel(ours)
    with theirs:
        command = [sys.executable, "-P", "-m", "recond_service.scanprocess.examine", str(theirs.fileno())]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
    try:
        channel.send("examine", {"request": request_to_json(request), "paths": [part.path for part in request.parts]})
        return TypeAdapter(Report).validate_python(channel.receive().body)
    except ChannelClosedError:
        return _refusal(request, cause_of_death(process.wait()))
    finally:
        channel.close()
        process.wait()


def _refusal(request: ScanRequest, error: RecondError) -> Report:
    name = next((part.name for part in request.parts if part.role is PartRole.KSPACE), "")
    return Report(name, sum(part.size_bytes for part in request.parts), refused=error.to_json())


def main() -> None:
    """Examine one request from the channel whose descriptor is the only argument."""
    channel = BlockingChannel(socket.socket(fileno=int(sys.argv[1])))
    body = channel.receive().body
    request = request_from_json(body["request"], body["paths"])
    base = address_space()
    forbid_files_and_network(*body["paths"])
    limit_resources(base + _MEMORY_BYTES, _CPU_SECONDS)
    try:
        report = examine(request)
    except MemoryError:
        error = LimitExceededError(
            "reading this scan takes more than 4 GiB; send it in smaller pieces", reason="SCAN_MEMORY"
        )
        report = _refusal(request, error)
    channel.send("report", asdict(report))


if __name__ == "__main__":
    main()
