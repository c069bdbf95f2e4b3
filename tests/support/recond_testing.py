"""A real service in processes of its own, and bare stubs to speak the wire with."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import h5py
import numpy as np
import psutil
import pytest
from google.rpc import error_details_pb2, status_pb2
from waiting import eventually

from recond.v1 import reconstruction_pb2 as pb
from recond.v1 import reconstruction_pb2_grpc as pb_grpc


class Service:
    """`recond serve` as a child process, in a process group of its own.

    Parameters
    ----------
    log
        Where its log goes.
    options
        Of the command.
    most_files
        Limit of open files that it is started under.
    """

    def __init__(self, log: Path, *options: str, most_files: int | None = None) -> None:
        self.log = log
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [
                    *([] if most_files is None else limited(most_files)),
                    *(sys.executable, "-m", "recond_service", "serve", "--stop-with-stdin"),
                    *("--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0", "--compute-threads", "1"),
                    *(
                        "--preload",
                        "rss,cg-sense",
                        *options,
                    ),  # what most tests use: others are loaded at their first use
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                process_group=0,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("recond: listening on "), log.read_text()
        self.address = line.split()[-1]

    def events(self, name: str) -> list[dict]:
        return [event for event in map(json.loads, self.log.read_text().splitlines()) if event["message"] == name]

    def metrics(self) -> dict[str, float]:
        port = self.events("listening")[0]["metrics_port"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}

    @property
    def worker(self) -> psutil.Process:
        """The first worker, as soon as it is there: forked, so that its command line is that of the process it comes from."""
        return eventually(lambda: self._descendant(lambda process: process.name() == "recond-worker-0"))

    @property
    def zygote(self) -> psutil.Process:
        """The process that parsers are forked from, as soon as it is there."""
        return eventually(lambda: self._descendant(lambda process: "recond_service.scan.zygote" in process.cmdline()))

    def _descendant(self, fits: Callable[[psutil.Process], bool]) -> psutil.Process | None:
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                if fits(process):
                    return process
        return None

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(60)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


def limited(most_files: int) -> list[str]:
    """Return what goes before a command so that it may not open more files."""
    return ["sh", "-c", f'ulimit -n {most_files}; exec "$@"', "sh"]


@contextlib.contextmanager
def running(log: Path, *options: str, most_files: int | None = None) -> Iterator[Service]:
    service = Service(log, *options, most_files=most_files)
    try:
        yield service
    finally:
        service.stop()


@dataclass
class Answer:
    """Everything that came back from a call."""

    accepted: list[pb.Accepted] = field(default_factory=list)
    plan: list[pb.Plan] = field(default_factory=list)
    images: dict[int, np.ndarray] = field(default_factory=dict)
    messages: list[pb.Image] = field(default_factory=list)
    files: dict[int, bytes] = field(default_factory=dict)
    summary: pb.Summary | None = None

    def take(self, response: pb.ReconstructResponse) -> None:
        kind = response.WhichOneof("message")
        assert self.summary is None, "the summary is the last message"
        if kind == "image":
            image = response.image
            rows = np.frombuffer(image.pixels, "<f4").reshape(-1, image.columns)
            whole = self.images.setdefault(image.index.image, np.full((image.rows, image.columns), np.nan, np.float32))
            whole[image.first_row : image.first_row + len(rows)] = rows
            self.messages.append(image)
        elif kind == "file_chunk":
            chunk = response.file_chunk
            assert len(self.files.get(chunk.format, b"")) == chunk.offset
            self.files[chunk.format] = self.files.get(chunk.format, b"") + chunk.data
        elif kind == "summary":
            self.summary = response.summary
        else:
            getattr(self, kind).append(getattr(response, kind))

    @property
    def volume(self) -> np.ndarray:
        assert self.summary is not None
        return np.stack([self.images[number] for number in self.summary.order])


def collect(responses: Iterable[pb.ReconstructResponse]) -> Answer:
    answer = Answer()
    for response in responses:
        answer.take(response)
    return answer


def requests_for(data: bytes, chunk: int = 1 << 20, name: str = "scan.h5", **spec) -> Iterator[pb.ReconstructRequest]:
    part = pb.Part(role=pb.PART_ROLE_KSPACE, name=name, size_bytes=len(data))
    yield pb.ReconstructRequest(spec=pb.ReconstructSpec(parts=pb.Parts(parts=[part]), **spec))
    for offset in range(0, len(data), chunk):
        yield pb.ReconstructRequest(chunk=pb.Chunk(part=0, offset=offset, data=data[offset : offset + chunk]))


def reconstruct(stub: pb_grpc.ReconstructionServiceStub, data: bytes, timeout: float = 60, **spec) -> Answer:
    return collect(stub.Reconstruct(requests_for(data, **spec), timeout=timeout))


@dataclass
class Refusal:
    """A gRPC error with its details."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    field: str = ""
    retry_after: float | None = None
    request_id: str = ""


def refusal(error: grpc.RpcError) -> Refusal:
    found = Refusal(error.code(), error.details())
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for packed in status_pb2.Status.FromString(value).details:
                info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
                retry, request = error_details_pb2.RetryInfo(), error_details_pb2.RequestInfo()
                if packed.Unpack(info):
                    assert info.domain == "recond"
                    found.reason = info.reason
                elif packed.Unpack(bad):
                    found.field = bad.field_violations[0].field
                elif packed.Unpack(retry):
                    found.retry_after = retry.retry_delay.ToTimedelta().total_seconds()
                elif packed.Unpack(request):
                    found.request_id = request.request_id
    return found


def refused(responses: Iterable[pb.ReconstructResponse]) -> Refusal:
    with pytest.raises(grpc.RpcError) as caught:
        collect(responses)
    return refusal(caught.value)


def fastmri_file(kspace: np.ndarray, **datasets: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file["kspace"] = kspace
        for name, values in datasets.items():
            file[name] = values
    return buffer.getvalue()


def random_kspace(*shape: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return (random.standard_normal(shape) + 1j * random.standard_normal(shape)).astype(np.complex64)


def rss_of(kspace: np.ndarray) -> np.ndarray:
    """Root sum of squares of the centred orthonormal inverse DFT, (slices, coils, rows, columns) to (slices, rows, columns)."""
    axes = (-2, -1)
    images = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace, axes=axes), norm="ortho"), axes=axes)
    return np.sqrt((np.abs(images) ** 2).sum(1)).astype(np.float32)
