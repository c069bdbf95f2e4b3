"""Has an exported program tried out in a process of its own: what it holds is not known before."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from recond_models.contract import Contract
from recond_models.heads.contract import HeadContract
from recond_models.store import errors
from recond_models.store.errors import StoreError, TrialError

_START_SECONDS: Final = 60
_MOST_FACTS: Final = 1 << 20
_MOST_PART: Final = (2 << 30) + (80 << 20)
_PIECE: Final = 1 << 20
_REASONS: Final = {
    kind.reason: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, StoreError)
}


@dataclass(frozen=True, slots=True)
class TrialLimits:
    """What a trial may take.

    Parameters
    ----------
    seconds
        Of computing; in all twice that, and what it takes to start.
    memory_bytes
        Beside Python, torch and six times the size of the file.
    """

    seconds: int = 180
    memory_bytes: int = 4 << 30


@dataclass(frozen=True, slots=True)
class Tried:
    """A program that made images, or that answered as a head.

    Parameters
    ----------
    architecture
        What it takes and returns.
    contract
        What was stated about it, with the sizes that it takes.
    parameters
        Number of weights.
    data, pair
        Its file of weights, with the program, and its golden pair.
    seconds
        What one run took.
    """

    architecture: dict[str, Any]
    contract: Contract
    parameters: int
    data: bytes
    pair: bytes
    seconds: float


def try_out(
    path: Path,
    name: str,
    contract: Contract,
    limits: TrialLimits | None = None,
    head: tuple[HeadContract, dict[str, Any]] | None = None,
) -> Tried:
    """Read an exported program and run it on simulated frames or slices, in a process with limits: no other file, no network.

    Parameters
    ----------
    path
        A .pt2 archive, or a ``.safetensors`` file of weights with a program that recond wrote.
    name
        Of the model, for messages.
    contract
        What was stated about its training.
    limits
        What the trial may take.
    head
        Of a head its contract, and the arguments of `recond_models.heads.head.Head`; None for a reconstruction.

    Returns
    -------
    Tried
        The files of the model.

    Raises
    ------
    StoreError
        Why the program is refused: of the class that says so, or `TrialError` if the trial ended otherwise.
    """
    limits = limits or TrialLimits()
    path = path.resolve()
    memory = limits.memory_bytes + 6 * path.stat().st_size
    job = {
        "path": str(path),
        "name": name,
        "contract": contract.to_json(),
        "memory_bytes": memory,
        "cpu_seconds": limits.seconds,
    }
    if head is not None:
        job |= {"head": head[0].to_json(), "options": head[1]}
    ours, theirs = socket.socketpair()
    with ours:
        command = [sys.executable, "-P", "-m", "recond_models.store.trial_process", str(theirs.fileno())]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        with theirs:
            process = subprocess.Popen(
                command,
                pass_fds=[theirs.fileno()],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        try:
            return _follow(ours, job, time.monotonic() + _START_SECONDS + 2 * limits.seconds)
        except TimeoutError:
            raise TrialError(
                f"{name} was not done with two small frames after {limits.seconds} s: nobody would wait for it"
            ) from None
        except (EOFError, OSError):
            raise TrialError(_ended(name, process, limits.seconds, memory)) from None
        finally:
            process.kill()
            process.wait()


def _follow(channel: socket.socket, job: dict[str, Any], deadline: float) -> Tried:
    """Send what is to be tried and return what comes back."""
    channel.sendall(json.dumps(job).encode() + b"\n")
    buffer = bytearray()
    while b"\n" not in buffer:
        buffer += _receive(channel, _PIECE, deadline)
        if len(buffer) > _MOST_FACTS + _PIECE:
            raise EOFError
    line, _, rest = bytes(buffer).partition(b"\n")
    try:
        answer = json.loads(line)
        if "reason" in answer:
            raise _REASONS.get(answer["reason"], StoreError)(str(answer["message"])[:4000])
        if "memory" in answer:
            raise TrialError(
                f"{job['name']} needs more than the {job['memory_bytes'] >> 20} MiB that a trial on two small frames may take"
            )
        facts, sizes = answer["facts"], [int(size) for size in answer["sizes"]]
        contract, architecture = Contract.from_json(facts["contract"]), dict(facts["architecture"])
        parameters, seconds = int(facts["parameters"]), float(facts["seconds"])
    except (KeyError, TypeError, AttributeError) as error:
        raise EOFError from error
    if len(sizes) != 2 or not all(0 < size <= _MOST_PART for size in sizes):
        raise EOFError
    parts = bytearray(rest)
    while len(parts) < sum(sizes):
        parts += _receive(channel, _PIECE, deadline)
    data, pair = bytes(parts[: sizes[0]]), bytes(parts[sizes[0] : sum(sizes)])
    return Tried(architecture, contract, parameters, data, pair, seconds)


def _receive(channel: socket.socket, most: int, deadline: float) -> bytes:
    """Return some bytes; raise TimeoutError after the deadline and EOFError at the end."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    channel.settimeout(left)
    piece = channel.recv(most)
    if not piece:
        raise EOFError
    return piece


def _ended(name: str, process: subprocess.Popen[bytes], seconds: int, memory: int) -> str:
    """Return in words why a trial ended without an answer."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=5)
    if process.returncode == -signal.SIGXCPU:
        return f"{name} was not done with two small frames after {seconds} s of computing: nobody would wait for it"
    if process.returncode in {-signal.SIGKILL, -signal.SIGABRT, -signal.SIGSEGV}:
        return f"{name} ended the process that tried it out ({signal.Signals(-process.returncode).name}), within {memory >> 20} MiB"
    return (
        f"{name} cannot be tried out: the process ended with {process.returncode}; export it again, and report it if that does not "
        "help"
    )
