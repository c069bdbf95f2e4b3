"""Reading raw data: time against the ISMRMRD package and a bare h5py read of the same file, memory against the k-space.

20,000 acquisitions x 16 coils x 640 samples are 1.6 GB. The package is timed on some of them, since its time is proportional to
their number; all times are the best of some rounds in one run, with the file in the page cache.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import ismrmrd
import numpy as np
import pytest
from raw_builders import LAST_IN_SLICE, RECORD, Encoding, file_request, header_xml

from recond_service.conditioning import condition
from recond_service.ingest import read_scan
from recond_service.types import FindingList

COUNT, COILS, SAMPLES, LINES = 20_000, 16, 640, 200
RIVAL_COUNT = 500
ROUNDS = 3
KSPACE_BYTES = COUNT * COILS * SAMPLES * 8


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan of 100 slices; every slice has the same samples."""
    path = tmp_path_factory.mktemp("ingest") / "scan.h5"
    write_scan(path, COUNT // LINES, LINES)
    return path


def write_scan(path: Path, slices: int, lines: int) -> None:
    encoding = Encoding((SAMPLES, lines), (400.0, 200.0), (SAMPLES // 2, lines), (200.0, 200.0))
    rng = np.random.default_rng(0)
    table = np.zeros(lines, RECORD)
    head = table["head"]
    head["version"] = 1
    head["number_of_samples"], head["center_sample"] = SAMPLES, SAMPLES // 2
    head["active_channels"] = head["available_channels"] = COILS
    head["read_dir"], head["phase_dir"], head["slice_dir"] = np.eye(3)
    head["idx"]["kspace_encode_step_1"] = np.arange(lines)
    head["flags"][-1] = LAST_IN_SLICE
    for line in range(lines):
        table["data"][line] = rng.standard_normal(2 * COILS * SAMPLES).astype(np.float32)
        table["traj"][line] = np.zeros(0, np.float32)
    with h5py.File(path, "w") as file:
        group = file.create_group("dataset")
        text = group.create_dataset("xml", (1,), h5py.string_dtype())
        text[0] = header_xml(encoding)
        data = group.create_dataset("data", (slices * lines,), RECORD, chunks=(1,), maxshape=(None,))
        for number in range(slices):
            head["idx"]["slice"] = number
            head["position"][:, 2] = number
            data[number * lines : (number + 1) * lines] = table


def read_blocks(path: Path) -> None:
    assert sum(len(block) for block in read_scan(file_request(path), FindingList()).source.blocks()) == COUNT


def read_whole(path: Path) -> None:
    """Read all samples into one array: a bulk read."""
    scan = read_scan(file_request(path), FindingList())
    whole = np.empty(COUNT * COILS * SAMPLES, np.complex64)
    start = 0
    for block in scan.source.blocks():
        whole[start : start + block.samples.size] = block.samples
        start += block.samples.size
    assert start == whole.size


def make_frames(path: Path) -> None:
    request = file_request(path)
    assert sum(1 for _ in condition(read_scan(request, FindingList()), request, FindingList())) == COUNT // LINES


def read_bare(path: Path) -> None:
    with h5py.File(path) as file:
        assert len(file["dataset/data"][:]) == COUNT


def read_one_by_one(path: Path) -> None:
    with ismrmrd.Dataset(str(path), mode="r") as dataset:
        for number in range(RIVAL_COUNT):
            dataset.read_acquisition(number)


def best(read: Callable[[Path], None], path: Path, rounds: int = ROUNDS) -> float:
    def once() -> float:
        start = time.perf_counter()
        read(path)
        return time.perf_counter() - start

    return min(once() for _ in range(rounds))


def test_bulk_read_against_the_package_and_the_library(benchmark, scan: Path):
    read_bare(scan)  # the file is in the page cache then
    benchmark.pedantic(read_whole, args=(scan,), rounds=ROUNDS, warmup_rounds=1)
    ours = benchmark.stats.stats.min
    bare = best(read_bare, scan)
    rival = best(read_one_by_one, scan) * COUNT / RIVAL_COUNT
    benchmark.extra_info |= {
        "bulk_s": round(ours, 3),
        "blocks_s": round(best(read_blocks, scan), 3),
        "frames_s": round(best(make_frames, scan, 1), 3),
        "bare_h5py_s": round(bare, 3),
        "package_s": round(rival, 1),
        "package_timed_on": RIVAL_COUNT,
        "package_over_bulk": round(rival / ours, 1),
        "bulk_over_bare": round(ours / bare, 2),
    }
    print(f"\nbulk read of {KSPACE_BYTES / 1e9:.2f} GB: {benchmark.extra_info}")
    assert rival >= 30 * ours
    assert ours <= 2 * bare


def test_ingest_and_conditioning_against_the_package(benchmark, tmp_path_factory: pytest.TempPathFactory):
    """16 slices x 320 lines x 16 coils x 640 samples to frames, against the loop of `read_acquisition` over the same file.

    In turns, so that both meet the same machine; processor time, since the machine may do other things meanwhile.
    """
    path = tmp_path_factory.mktemp("pair") / "scan.h5"
    write_scan(path, 16, 320)

    def frames() -> None:
        request = file_request(path)
        assert sum(1 for _ in condition(read_scan(request, FindingList()), request, FindingList())) == 16

    def package() -> None:
        with ismrmrd.Dataset(str(path), mode="r") as dataset:
            for number in range(RIVAL_COUNT):
                dataset.read_acquisition(number)

    def seconds(work: Callable[[], None]) -> float:
        start = time.process_time()
        work()
        return time.process_time() - start

    frames()
    pairs = [(seconds(frames), seconds(package) * 16 * 320 / RIVAL_COUNT) for _ in range(5)]
    ours, theirs = (min(times) for times in zip(*pairs, strict=True))
    benchmark.pedantic(frames, rounds=1)
    benchmark.extra_info |= {
        "frames_s": round(ours, 3),
        "package_s": round(theirs, 2),
        "package_over_frames": round(theirs / ours, 1),
        "aim": 25,
    }
    print(f"\ningest and conditioning: {benchmark.extra_info}")


def measured_apart(read: Callable[[Path], None], path: Path, limit: int = 0) -> tuple[float, int]:
    """Read in a fresh process; return seconds and by how much its memory grew at most, bytes."""
    done = subprocess.run(
        [sys.executable, __file__, read.__name__, str(path), str(limit)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    seconds, growth = done.stdout.split()
    return float(seconds), int(growth)


def report_here(name: str, path: str, limit: str) -> None:
    """Read in this process, within `limit` bytes of address space where that is not 0, and print what `measured_apart` returns."""
    if int(limit):
        resource.setrlimit(resource.RLIMIT_AS, (int(limit), int(limit)))
    before = resident("VmRSS")
    start = time.perf_counter()
    {"read_whole": read_whole, "make_frames": make_frames}[name](Path(path))
    seconds = time.perf_counter() - start
    print(seconds, resident("VmHWM") - before)


def resident(name: str) -> int:
    """Return the resident size of this process, now (VmRSS) or at most so far (VmHWM, proc(5)); bytes."""
    (line,) = [
        text for text in Path("/proc/self/status").read_text(encoding="ascii").splitlines() if text.startswith(name)
    ]
    return int(line.split()[1]) * 1024


@pytest.mark.parametrize("read", [read_whole, make_frames], ids=["bulk", "frames"])
def test_peak_memory_against_the_k_space(benchmark, scan: Path, read: Callable[[Path], None]):
    """The whole k-space as one array, and frame by frame."""
    _, growth = benchmark.pedantic(measured_apart, args=(read, scan), rounds=1)
    benchmark.extra_info |= {"peak_over_kspace": round(growth / KSPACE_BYTES, 3), "aim": 2.5}
    print(f"\npeak memory: {benchmark.extra_info}")
    assert growth <= 2.5 * KSPACE_BYTES


def test_a_file_larger_than_the_process_may_be(benchmark, scan: Path):
    """1.6 GB of k-space become frames in a process whose whole address space, program and libraries included, is 1 GB."""
    limit = 1 << 30
    seconds, _ = benchmark.pedantic(measured_apart, args=(make_frames, scan, limit), rounds=1)
    benchmark.extra_info |= {"limit_bytes": limit, "kspace_bytes": KSPACE_BYTES, "frames_s": round(seconds, 2)}
    print(f"\n1 GB of address space: {benchmark.extra_info}")


if __name__ == "__main__":
    report_here(*sys.argv[1:])
