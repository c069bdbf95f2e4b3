"""The real Triton Inference Server of the wheel nvidia-pytriton, on loopback, as a child process."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import psutil
from tritonclient.grpc import service_pb2, service_pb2_grpc

ROOT = Path(__file__).resolve().parents[2]
HOME = Path(os.environ.get("RECOND_TRITON", ROOT / ".venv-triton"))
_FOUND = sorted(HOME.glob("lib/python*/site-packages/pytriton/tritonserver"))
_STUB = Path("python_backend_stubs", f"{sys.version_info.major}.{sys.version_info.minor}", "triton_python_backend_stub")
_GLIBC = tuple(map(int, platform.libc_ver()[1].split("."))) if platform.libc_ver()[0] == "glibc" else ()
INSTALLED = bool(_FOUND) and (_FOUND[0] / _STUB).exists() and _GLIBC >= (2, 35)
MEMORY = Path("/dev/shm")  # noqa: S108 - where shm_open(3) of Linux keeps them
MISSING = f"no Triton for this Python and glibc in {HOME}: make triton-venv (needs Python 3.8 to 3.13, glibc 2.35)"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class TritonServer:
    """A Triton server that runs Python models with the Python of this process.

    Parameters
    ----------
    repository
        Model repository.
    log
        File that its output is appended to.
    port
        Of its gRPC service; 0 takes a free one.
    options
        More options of tritonserver.
    ca
        PEM file of the authority that vouches for it, if it serves with TLS.
    """

    def __init__(
        self, repository: Path, log: Path, port: int = 0, options: tuple[str, ...] = (), ca: Path | None = None
    ) -> None:
        self.ca = ca
        self.repository, self.log, self.options = repository, log, options
        self.port = port or free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._backends = tempfile.TemporaryDirectory(prefix="triton-backends-")
        self.process: subprocess.Popen[bytes] | None = None
        self._memory: set[str] = set()

    def _link_backend(self) -> None:
        """The Python backend looks for its stub, which the wheel has for several versions of Python, in its own folder."""
        python = Path(self._backends.name) / "python"
        if python.exists():
            return
        python.mkdir()
        for file in (*(_FOUND[0] / "backends" / "python").glob("*.*"), _FOUND[0] / _STUB):
            (python / file.name).symlink_to(file)

    def start(self, wait_seconds: float = 60.0) -> None:
        """Start it, and wait until it is ready; with 0 seconds, do not wait."""
        self._link_backend()
        environment = {
            **os.environ,
            # The stub takes the first python3 of PATH, and has to find the libpython that belongs to it.
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR")),
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(str(_FOUND[0] / "bin" / "tritonserver"), f"--model-repository={self.repository}"),
                    *(f"--backend-directory={self._backends.name}", f"--cache-directory={_FOUND[0] / 'caches'}"),
                    *("--grpc-address=127.0.0.1", f"--grpc-port={self.port}", "--allow-http=false"),
                    *("--allow-metrics=false", "--allow-gpu-metrics=false", "--exit-timeout-secs=5", *self.options),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )
        if wait_seconds:
            self.wait_ready(wait_seconds)

    def channel(self) -> grpc.Channel:
        if self.ca is None:
            return grpc.insecure_channel(self.address)
        return grpc.secure_channel(self.address, grpc.ssl_channel_credentials(self.ca.read_bytes()))

    def says_ready(self) -> bool:
        with self.channel() as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            return bool(stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=5).ready)

    def wait_ready(self, seconds: float) -> None:
        assert self.process is not None
        end = time.monotonic() + seconds
        with self.channel() as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            while time.monotonic() < end and self.process.poll() is None:
                with contextlib.suppress(grpc.RpcError):
                    if stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=1, wait_for_ready=True).ready:
                        return
                time.sleep(0.1)
        text = self.log.read_text(errors="replace")[-4000:]
        self.stop()
        raise AssertionError(f"Triton did not become ready:\n{text}")

    def stubs(self, model: str) -> list[psutil.Process]:
        """Return the processes that run a model's Python."""
        assert self.process is not None
        children = psutil.Process(self.process.pid).children(recursive=True)
        self._note_memory(children)
        return [child for child in children if any(f"/{model}/" in word for word in child.cmdline())]

    def _note_memory(self, processes: list[psutil.Process]) -> None:
        """Remember the shared memory of Python processes, which nobody removes if they are killed."""
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                self._memory |= {word for word in process.cmdline() if word.startswith("triton_python_backend_shm")}

    def kill(self) -> None:
        """End the server and its Python processes at once, as a crash of the machine would."""
        if self.process is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess):
            processes = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
            self._note_memory(processes)
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGKILL)
            psutil.wait_procs(processes, timeout=10)
        self.process.wait(10)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()
        self._backends.cleanup()
        for name in self._memory:
            (MEMORY / name).unlink(missing_ok=True)


@contextlib.contextmanager
def triton_server(
    repository: Path,
    log: Path,
    port: int = 0,
    options: tuple[str, ...] = (),
    ca: Path | None = None,
    *,
    wait: bool = True,
) -> Iterator[TritonServer]:
    server = TritonServer(repository, log, port, options, ca)
    try:
        server.start(60.0 if wait else 0.0)
        yield server
    finally:
        server.kill()  # shutting down takes seconds, and nothing is left to be shut down
        server.stop()
