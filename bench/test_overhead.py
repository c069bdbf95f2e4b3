"""What the service costs on top of the model: time from end to end, and memory of the front end.

Each input is also reconstructed by a plain script in this process (h5py, numpy, root sum of squares), the way toolkits do it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
from recond_testing import Answer, Service, collect, fastmri_file, random_kspace, requests_for, rss_of, running

from recond.v1 import reconstruction_pb2_grpc as pb_grpc

ROUNDS = 9
SHAPES = {"1 MB": (1, 8, 128, 128), "8 MB": (1, 16, 256, 256), "32 MB": (1, 16, 640, 400)}
AIMS_MS = {"1 MB": 10, "8 MB": 25, "32 MB": 60}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running(tmp_path_factory.mktemp("bench") / "log") as one:
        yield one


@pytest.fixture(scope="module")
def stub(service: Service) -> Iterator[pb_grpc.ReconstructionServiceStub]:
    with grpc.insecure_channel(service.address) as channel:
        yield pb_grpc.ReconstructionServiceStub(channel)


@pytest.mark.parametrize("size", SHAPES)
def test_overhead_over_compute(benchmark, stub, size, tmp_path: Path):
    data = fastmri_file(random_kspace(*SHAPES[size]))
    path = tmp_path / "scan.h5"
    path.write_bytes(data)
    overheads: list[float] = []
    stages: list[dict[str, float]] = []

    def call() -> Answer:
        start = time.perf_counter()
        answer = collect(stub.Reconstruct(requests_for(data, model="rss"), timeout=60))
        assert answer.summary is not None
        seconds = answer.summary.seconds
        overheads.append(time.perf_counter() - start - seconds.compute)
        stages.append({field.name: getattr(seconds, field.name) for field in seconds.DESCRIPTOR.fields})
        return answer

    benchmark.pedantic(call, rounds=ROUNDS, warmup_rounds=2)
    script = statistics.median(_script_seconds(path) for _ in range(ROUNDS))
    middle = {name: round(1000 * statistics.median(stage[name] for stage in stages), 2) for name in stages[0]}
    benchmark.extra_info |= {
        "overhead_ms": round(1000 * statistics.median(overheads), 1),
        "aim_ms": AIMS_MS[size],
        "stages_ms": middle,
        "script_ms": round(1000 * script, 1),
        "service_over_script": round(benchmark.stats.stats.median / script, 2),
    }
    print(f"\n{size}: {benchmark.extra_info}")


def _script_seconds(path: Path) -> float:
    import h5py

    start = time.perf_counter()
    with h5py.File(path) as file:
        rss_of(file["kspace"][:])
    return time.perf_counter() - start


def test_front_end_memory_against_the_scan(benchmark, service: Service, stub):
    kspace = np.concatenate([random_kspace(1, 16, 320, 320, seed=seed) for seed in range(10)])
    data = fastmri_file(kspace)
    front_end = psutil.Process(service.process.pid)
    before = _peak_bytes(front_end.pid)

    def call() -> Answer:
        return collect(stub.Reconstruct(requests_for(data, model="rss"), timeout=120))

    benchmark.pedantic(call, rounds=3, warmup_rounds=1)
    growth = _peak_bytes(front_end.pid) - before
    benchmark.extra_info |= {
        "scan_bytes": len(data),
        "front_end_before_bytes": before,
        "front_end_growth_over_scan": round(growth / len(data), 3),
        "aim": 3,
    }
    print(f"\nfront end: {benchmark.extra_info}")


def _peak_bytes(pid: int) -> int:
    """Return the largest resident size that a process has had so far (VmHWM of proc(5))."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
