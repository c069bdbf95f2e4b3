"""A service of one's own for one call: a child process that ends with its context, or with this process."""

from __future__ import annotations

import importlib.util
import os
import re
import selectors
import subprocess
import sys
import tempfile
import time
from types import TracebackType
from typing import IO, Final, Self

from recond_client.errors import RetryLaterError

_READY: Final = re.compile(rb"recond: listening on (\S+)\s*\n")
_NEEDS: Final = ("recond_service", "msgspec", "structlog", "torch")
_SHOWN_LINES: Final = 20
_SHOWN_BYTES: Final = 1 << 16


class EmbeddedService:
    """Runs ``recond serve`` on a free port of this machine.

    The child watches its standard input, so that it also ends when this process is killed.

    Parameters
    ----------
    command
        How to start the service; for tests of what goes wrong.
    start_seconds
        How long it may take until it is ready.
    stop_seconds
        How long it may take to end before it is killed.

    Raises
    ------
    RetryLaterError
        On entering, if the server extra is not installed, or the service does not become ready.
    """

    def __init__(
        self, command: list[str] | None = None, *, start_seconds: float = 150.0, stop_seconds: float = 10.0
    ) -> None:
        self._command = command
        self._start_seconds = start_seconds
        self._stop_seconds = stop_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self.target = ""

    def __enter__(self) -> Self:
        command = self._command or _command()
        # Certificates in the environment are for a service that others reach.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RECOND_TLS_")}
        environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, env=environment
        )
        try:
            self.target = self._wait_for_ready_line(self._process)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    def died(self) -> bool:
        """Tell whether the service has ended."""
        return self._process is None or self._process.poll() is not None

    def last_words(self) -> str:
        """Return the last lines that the service wrote to its standard error."""
        if self._log is None or self._log.closed:
            return ""
        # The service writes at the position of this same open file, which reading must not move.
        number = self._log.fileno()
        size = os.fstat(number).st_size
        end = os.pread(number, _SHOWN_BYTES, max(0, size - _SHOWN_BYTES))
        return "\n".join(end.decode(errors="replace").splitlines()[-_SHOWN_LINES:])

    def _wait_for_ready_line(self, process: subprocess.Popen[bytes]) -> str:
        end = time.monotonic() + self._start_seconds
        written = b""
        assert process.stdout is not None  # noqa: S101 - opened as a pipe above
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not (ready := _READY.search(written)):
                if not selector.select(max(0.0, end - time.monotonic())):
                    raise self._failure(f"was not ready after {self._start_seconds:g} s")
                piece = os.read(process.stdout.fileno(), 4096)
                if not piece:
                    process.wait()
                    raise self._failure(f"ended with code {process.returncode} before it was ready")
                written += piece
        return ready[1].decode()

    def _failure(self, what: str) -> RetryLaterError:
        msg = f"the embedded service {what}. Its last words:\n{self.last_words() or '(none)'}"
        return RetryLaterError(msg, status="UNAVAILABLE", reason="EMBEDDED_SERVICE_FAILED")

    def _stop(self) -> None:
        process, log = self._process, self._log
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()
            process.terminate()
            try:
                process.wait(self._stop_seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        if log is not None:
            log.close()


def _command() -> list[str]:
    """Return how to start the service with this interpreter."""
    for module in _NEEDS:
        if importlib.util.find_spec(module) is None:
            msg = (
                f"without --server this command runs a service of its own, which needs {module!r}: "
                "pip install 'recond[server]', or name a service with --server HOST:PORT"
            )
            raise RetryLaterError(msg, status="UNAVAILABLE", reason="SERVER_EXTRA_MISSING")
    return [
        *(sys.executable, "-m", "recond_service", "serve", "--stop-with-stdin"),
        *("--listen", "127.0.0.1:0", "--metrics-listen", "", "--drain-seconds", "2", "--log-level", "warning"),
    ]
