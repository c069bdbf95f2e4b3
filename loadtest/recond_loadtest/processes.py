"""The target as a tree of processes: started, measured, hurt and ended."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from recond_loadtest.target_settings import EventAction, TargetSettings
from recond_loadtest.wires import WireError

_SIGNALS: Final = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "continue": signal.SIGCONT}
_STOP_SECONDS: Final = 45.0
_LOG_TAIL: Final = 2000


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tree of processes has used.

    Parameters
    ----------
    cpu_seconds
        User and system time, with that of children that have ended.
    rss_bytes
        Resident memory, summed over processes: what they share counts for each.
    pss_bytes
        The same with what is shared divided by its sharers; 0 where the system does not tell.
    processes
        How many there are.
    """

    cpu_seconds: float = 0.0
    rss_bytes: int = 0
    pss_bytes: int = 0
    processes: int = 0


class TargetProcess:
    """A target that this run starts and ends.

    Parameters
    ----------
    settings
        With a command.

    Raises
    ------
    WireError
        The command cannot be started.
    """

    def __init__(self, settings: TargetSettings) -> None:
        ports = {"port": free_port(), "metrics_port": free_port()}
        self.address = settings.address.format(**ports)
        self.metrics = settings.metrics.format(**ports)
        self._folder = tempfile.TemporaryDirectory(prefix="recond-loadtest-")  # closed with this, as the log
        self._command = _resolved(shlex.split((settings.command or "").format(**ports, folder=self._folder.name)))
        self._environment = {**os.environ, **settings.environment}
        self._cpus = settings.cpus
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with this
        self._spent_cpu = 0.0
        self._nice = os.getpriority(os.PRIO_PROCESS, 0)
        self._start()

    @property
    def running(self) -> bool:
        """Whether the process that was started is still there."""
        return self._process.poll() is None

    def log_tail(self) -> str:
        """Return the last lines that the target wrote."""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(size - _LOG_TAIL, 0))
        return self._log.read().decode(errors="replace")

    def usage(self, *, shared: bool = False) -> Usage:
        """Measure the tree.

        Parameters
        ----------
        shared
            Also find the proportional memory, which takes milliseconds per process.
        """
        cpu, rss, pss, count = self._spent_cpu, 0, 0, 0
        for process in self._tree():
            with contextlib.suppress(psutil.Error):
                # Children that were waited for are in the times of their parent: short-lived ones are not missed.
                cpu += sum(process.cpu_times()[:4])
                rss += process.memory_info().rss
                count += 1
                if shared:
                    pss += getattr(process.memory_full_info(), "pss", 0)
        return Usage(cpu, rss, pss, count)

    def hurt(self, action: EventAction, pattern: str) -> int:
        """Send a signal to the oldest process below the target that fits a pattern.

        Returns
        -------
        int
            Its process id.

        Raises
        ------
        WireError
            No process fits.
        """
        fitting = [process for process in self._tree()[1:] if _fits(process, pattern)]
        if not fitting:
            raise WireError(f"{action}: no process of the target fits {pattern!r}")
        victim = min(fitting, key=lambda process: process.create_time())
        os.kill(victim.pid, _SIGNALS[action])
        return int(victim.pid)

    def restart(self) -> int:
        """End the target with SIGTERM, let it drain, and start it again on the same ports; return the new process id."""
        self.end()
        self._start()
        return self._process.pid

    def end(self) -> None:
        """End the target: SIGTERM, and SIGKILL for whatever is left of its tree."""
        tree = self._tree()
        self._spent_cpu = self.usage().cpu_seconds
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._close_stdin()
        for process in tree[1:]:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(tree[1:], timeout=5)

    def close(self) -> None:
        """End the target and forget its log."""
        if self.running:
            self.end()
        self._close_stdin()
        self._log.close()
        self._folder.cleanup()

    def _close_stdin(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()

    def _start(self) -> None:
        self.started_at = time.monotonic()
        try:
            # stdin is a pipe that closes with this process, so that a target which watches it ends even if this one is killed.
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )
        except OSError as error:
            self._log.close()
            self._folder.cleanup()
            raise WireError(f"cannot start {shlex.join(self._command)}: {error.strerror}") from error
        # The generator may have raised its own priority.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, self._process.pid, self._nice)
        if self._cpus:
            os.sched_setaffinity(self._process.pid, self._cpus)

    def _tree(self) -> list[psutil.Process]:
        try:
            root = psutil.Process(self._process.pid)
            return [root, *root.children(recursive=True)]
        except psutil.Error:
            return []


def _fits(process: psutil.Process, pattern: str) -> bool:
    with contextlib.suppress(psutil.Error, OSError):
        name = Path(f"/proc/{process.pid}/comm").read_text(encoding="utf-8", errors="replace")
        return re.search(pattern, " ".join(process.cmdline()) + "\n" + name) is not None
    return False


def free_port() -> int:
    """Return a TCP port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _resolved(command: Sequence[str]) -> list[str]:
    """Return the command with its program looked for beside this interpreter first: the same installation."""
    if not command:
        raise WireError("the command of the target is empty")
    beside = shutil.which(command[0], path=str(Path(sys.executable).parent))
    return [beside or command[0], *command[1:]]
