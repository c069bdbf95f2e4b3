"""The spool of the gateway against plain writes of the same bytes: what encryption and bookkeeping cost.

A scan of 16 coils x 640 samples at 4,000 acquisitions a second is 330 MB/s. Appending it is to take at most half a core; the ratio
to plain writes shows what of that the kernel's own copy is.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recond_gateway.spool import Spool

PIECE = os.urandom(1 << 20)
COUNT = 256
RATE = 330e6
ROUNDS = 5
LARGEST_SHARE, LARGEST_RATIO = 0.5, 4.0


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where there is such a folder: the disk of the machine is not what is measured."""
    place = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))  # noqa: S108
    yield place
    shutil.rmtree(place)


def cpu_time(action: Callable[[], None]) -> float:
    start = time.process_time()
    action()
    return time.process_time() - start


def plain(folder: Path) -> None:
    path = folder / "plain"
    with path.open("wb", buffering=0) as file:
        for _ in range(COUNT):
            file.write(PIECE)
    path.unlink()


def appended(spool: Spool) -> None:
    recording = spool.begin("scan", {})
    for _ in range(COUNT):
        recording.append(1008, PIECE)
    spool.remove("scan")


def followed(spool: Spool) -> None:
    recording = spool.begin("scan", {})
    count: list[int] = []
    reader = threading.Thread(target=lambda: count.append(sum(1 for _ in recording.read())))
    reader.start()
    for _ in range(COUNT):
        recording.append(1008, PIECE)
    recording.finish(True)
    reader.join()
    assert count == [COUNT]
    spool.remove("scan")


@pytest.mark.parametrize("what", [appended, followed], ids=lambda what: what.__name__)
def test_appending(benchmark, folder: Path, what: Callable[[Spool], None]) -> None:
    with Spool(folder / "spool", os.urandom(32), 1 << 40, 0) as spool:
        benchmark.pedantic(what, args=(spool,), rounds=ROUNDS, warmup_rounds=1)
        pairs = [(cpu_time(lambda: what(spool)), cpu_time(lambda: plain(folder))) for _ in range(ROUNDS)]
    ours, theirs = (min(times) for times in zip(*pairs, strict=True))
    share = ours * RATE / (COUNT * len(PIECE))
    ratio = ours / theirs
    benchmark.extra_info |= {"cores_at_330_MB_per_s": round(share, 3), "cpu_time_over_plain_writes": round(ratio, 2)}
    print(f"\n{what.__name__}: {share:.2f} cores at 330 MB/s, {ratio:.2f} times plain writes")
    assert share < LARGEST_SHARE
    assert ratio < LARGEST_RATIO


def test_reading_from_the_disk(benchmark, folder: Path) -> None:
    with Spool(folder / "spool", os.urandom(32), 1 << 40, 0) as spool:
        recording = spool.begin("scan", {})
        for _ in range(COUNT):
            recording.append(1008, PIECE)
        recording.finish(True)
        assert benchmark.pedantic(lambda: sum(1 for _ in recording.read()), rounds=ROUNDS) == COUNT
        benchmark.extra_info["MB_per_s"] = round(COUNT * len(PIECE) / benchmark.stats.stats.min / 1e6)
