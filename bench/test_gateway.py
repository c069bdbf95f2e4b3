"""The gateway: from the last readout of a slice to its image at the console, and how many readouts a core takes.

Latency is compared with the SDK's own stream to the same service, without a gateway in between; `minus_compute_ms` is what is left
without the time that the model took. The load is compared with a program that receives the same bytes and drops them.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from gateway_process import gateway_process
from gateway_scans import Wire
from recond_testing import Service, running

import recond_client
from recond_gateway.mrd import writer
from recond_gateway.mrd.layouts import ACQUISITION_HEADER, AcquisitionFlag

COILS, ROWS, COLUMNS, SLICES = 16, 320, 320, 12
LOAD_COILS, LOAD_SAMPLES, LOAD_LINES, LOAD_IMAGES = 16, 640, 256, 64
SUPPORT = Path(__file__).parents[1] / "tests" / "support"
CONFIG = '[spool]\nmin_free_bytes = 0\n[pipelines.default]\nmodel = "rss"\nslice_deadline = 600.0\n'
_SPACE = (
    "<matrixSize><x>{x}</x><y>{y}</y><z>1</z></matrixSize><fieldOfView_mm><x>220</x><y>220</y><z>5</z></fieldOfView_mm>"
)


def header_of(samples: int, rows: int, lines: int) -> bytes:
    limits = "".join(
        f"<{name}><minimum>0</minimum><maximum>{last}</maximum><center>{centre}</center></{name}>"
        for name, last, centre in (("kspace_encoding_step_1", lines - 1, lines // 2), ("slice", SLICES - 1, 0))
    )
    return (
        '<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD"><experimentalConditions>'
        "<H1resonanceFrequency_Hz>128000000</H1resonanceFrequency_Hz></experimentalConditions><encoding>"
        f"<encodedSpace>{_SPACE.format(x=samples, y=lines)}</encodedSpace><reconSpace>{_SPACE.format(x=rows, y=lines)}</reconSpace>"
        f"<encodingLimits>{limits}</encodingLimits><trajectory>cartesian</trajectory></encoding></ismrmrdHeader>"
    ).encode()


def slice_headers(coils: int, samples: int, lines: int) -> np.ndarray:
    headers = np.zeros(lines, ACQUISITION_HEADER)
    headers["version"], headers["number_of_samples"], headers["center_sample"] = 1, samples, samples // 2
    headers["active_channels"] = headers["available_channels"] = coils
    headers["read_dir"], headers["phase_dir"], headers["slice_dir"] = (1, 0, 0), (0, 1, 0), (0, 0, 1)
    headers["sample_time_us"] = 5
    headers["idx"]["kspace_encode_step_1"] = np.arange(lines)
    headers["flags"][-1] = int(AcquisitionFlag.LAST_IN_SLICE)
    return headers


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("service") / "log") as service:
        yield service


@pytest.fixture(scope="module")
def slices() -> tuple[bytes, list[tuple[np.ndarray, np.ndarray]]]:
    random = np.random.default_rng(0)
    headers = slice_headers(COILS, ROWS, COLUMNS)
    made = []
    for number in range(SLICES):
        own = headers.copy()
        own["idx"]["slice"] = number
        own["position"] = (0, 0, 5 * number)
        samples = random.standard_normal((COLUMNS, COILS, ROWS, 2), np.float32)
        made.append((own, samples.view("<c8").reshape(-1)))
    return header_of(ROWS, ROWS, COLUMNS), made


def compute_seconds(service: Service) -> float:
    return service.metrics()['recond_stage_seconds_sum{stage="compute"}']


def through_gateway(address: str, xml: bytes, slices: list[tuple[np.ndarray, np.ndarray]]) -> list[float]:
    """Seconds from the last readout of each slice until its image is there."""
    wire = Wire(address)
    wire.send(writer.config_file("default"), writer.header(xml))
    waited = []
    for number, (headers, samples) in enumerate(slices):
        body = samples.reshape(len(headers), -1)
        wire.send(writer.acquisitions(headers[:-1], body[:-1].reshape(-1)))
        last = writer.acquisitions(headers[-1:], body[-1])
        time.sleep(0.05)
        sent = time.perf_counter()
        wire.send(last)
        wire.wait_for(lambda number=number: len(wire.images()) > number)
        waited.append(time.perf_counter() - sent)
    wire.send(writer.close())
    wire.finish()
    return waited


def through_sdk(address: str, xml: bytes, slices: list[tuple[np.ndarray, np.ndarray]]) -> list[float]:
    """The same without a gateway."""
    waited: list[float] = []
    ready = threading.Semaphore(0)
    sent = [0.0]

    def batches() -> Iterator[recond_client.AcquisitionBatch]:
        for headers, samples in slices:
            body = samples.reshape(len(headers), -1)
            for start in range(0, len(headers) - 1, 16):
                stop = min(start + 16, len(headers) - 1)
                yield recond_client.AcquisitionBatch(headers[start:stop], body[start:stop].reshape(-1))
            time.sleep(0.05)
            sent[0] = time.perf_counter()
            yield recond_client.AcquisitionBatch(headers[-1:], body[-1])
            ready.acquire()

    with (
        recond_client.Client(address) as client,
        client.stream(xml, batches(), model="rss", priority="stat") as stream,
    ):
        for _ in stream:
            waited.append(time.perf_counter() - sent[0])
            ready.release()
    return waited


@pytest.mark.parametrize("way", ["gateway", "sdk"])
def test_latency_of_a_slice(benchmark, service, slices, tmp_path, way):
    xml, made = slices
    with contextlib.ExitStack() as stack:
        if way == "gateway":
            _, address = stack.enter_context(gateway_process(tmp_path, service.address, CONFIG))
            through_gateway(address, xml, made[:2])
        else:
            address = service.address
        play = through_gateway if way == "gateway" else through_sdk
        before = compute_seconds(service)
        waited: list[float] = []
        benchmark.pedantic(lambda: waited.extend(play(address, xml, made)), rounds=3)
        compute = (compute_seconds(service) - before) / len(waited)
    benchmark.extra_info["latency_ms"] = round(1e3 * float(np.median(waited)), 2)
    benchmark.extra_info["latency_p90_ms"] = round(1e3 * float(np.percentile(waited, 90)), 2)
    benchmark.extra_info["compute_ms"] = round(1e3 * compute, 2)
    benchmark.extra_info["minus_compute_ms"] = round(1e3 * (float(np.median(waited)) - compute), 2)


class Sink:
    """A service that takes readouts and answers at once, on a core of its own where there are two."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [*pinned(-1), sys.executable, str(SUPPORT / "gateway_sink.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.address = f"127.0.0.1:{self.process.stdout.readline().strip()}"

    def close(self) -> None:
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()
        self.process.wait(30)


def pinned(number: int) -> tuple[str, ...]:
    cores = sorted(os.sched_getaffinity(0))
    return ("taskset", "-c", str(cores[number])) if len(cores) > 1 else ()


def pour(address: str) -> int:
    """Send a scan as fast as it is taken; return the number of readouts."""
    headers = slice_headers(LOAD_COILS, LOAD_SAMPLES, LOAD_LINES)
    samples = (
        np.random.default_rng(0).standard_normal(2 * LOAD_LINES * LOAD_COILS * LOAD_SAMPLES, np.float32).view("<c8")
    )
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port))) as connection:
        reader = threading.Thread(target=lambda: list(iter(lambda: connection.recv(1 << 20), b"")))
        reader.start()
        connection.sendall(writer.config_file("default") + writer.header(header_of(LOAD_SAMPLES, ROWS, LOAD_LINES)))
        for number in range(LOAD_IMAGES):
            headers["idx"]["repetition"] = number
            connection.sendall(writer.acquisitions(headers, samples))
        connection.sendall(writer.close())
        reader.join()
    return LOAD_LINES * LOAD_IMAGES


def test_readouts_a_core_takes(benchmark, tmp_path):
    sink = Sink()
    with gateway_process(tmp_path, sink.address, CONFIG, prefix=pinned(0)) as (process, address):
        watched = psutil.Process(process.pid)
        pour(address)
        before, resident = sum(watched.cpu_times()[:2]), watched.memory_info().rss
        counts: list[int] = []
        benchmark.pedantic(lambda: counts.append(pour(address)), rounds=3)
        cpu = sum(watched.cpu_times()[:2]) - before
        grown = watched.memory_info().rss - resident
    sink.close()
    benchmark.extra_info["readouts_per_core_second"] = round(sum(counts) / cpu)
    benchmark.extra_info["grown_mb"] = round(grown / 1e6, 1)


def test_the_same_bytes_received_and_dropped(benchmark):
    code = (
        "import socket\n"
        "server = socket.create_server(('127.0.0.1', 0))\n"
        "print(server.getsockname()[1], flush=True)\n"
        "buffer = bytearray(1 << 21)\n"
        "while True:\n"
        "    connection, _ = server.accept()\n"
        "    with connection:\n"
        "        last = b''\n"
        "        while count := connection.recv_into(buffer):\n"
        "            last = (last + bytes(buffer[:count][-2:]))[-2:]\n"
        "            if last == b'\\x04\\0' and count < len(buffer):\n"
        "                break\n"
    )
    process = subprocess.Popen([*pinned(0), sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    address = f"127.0.0.1:{process.stdout.readline().strip()}"
    try:
        benchmark.pedantic(lambda: pour(address), rounds=3)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
