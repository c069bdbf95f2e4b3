"""What is found after a crash, and after the disk changed what was written."""

from __future__ import annotations

import itertools
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recond_gateway.spool import Spool, SpoolDamagedError, frames

KEY = bytes(range(32))
PLENTY = 1 << 30

WRITER = """
import pathlib, sys
from recond_gateway.spool import Spool
spool = Spool(pathlib.Path(sys.argv[1]), bytes(range(32)), 1 << 32, 0)
recording = spool.begin("scan", {"config": "openrecon"})
while True:
    number = recording.append(recording.count, recording.count.to_bytes(8, "little") * 40_000)
    print(number, flush=True)
"""


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.3])
def test_a_killed_process_loses_nothing_it_reported(tmp_path: Path, delay: float) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "0\n"
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        reported = [0, *(int(line) for line in writer.stdout.read().split("\n")[:-1])]
    with Spool(tmp_path, KEY, PLENTY << 2, 0) as spool:
        (left,) = spool.scans()
        assert (left.held, left.complete, left.damaged, left.about) == (True, False, False, {"config": "openrecon"})
        recording = spool.open("scan")
        assert recording.complete is False
        kinds = []
        for record in recording.read():
            assert bytes(record.buffers[0][:8]) == record.kind.to_bytes(8, "little")
            assert len(record.buffers[0]) == 320_000
            kinds.append(record.kind)
        assert kinds == list(range(len(kinds)))
        assert len(kinds) in {reported[-1] + 1, reported[-1] + 2}  # one may be written and not yet reported
        assert spool.used_bytes == (tmp_path / "scan.scan").stat().st_size


def write(folder: Path, count: int = 5, finish: bool = True) -> Path:
    with Spool(folder, KEY, PLENTY, 0) as spool:
        recording = spool.begin("scan", {"n": 1})
        for number in range(count):
            recording.append(number, bytes([number]) * 100)
        if finish:
            recording.finish(True)
    return folder / "scan.scan"


def read(folder: Path) -> tuple[list[int], bool | None, int]:
    with Spool(folder, KEY, PLENTY, 0) as spool:
        recording = spool.open("scan")
        return [record.kind for record in recording.read()], recording.complete, recording.torn_bytes


def offsets(path: Path) -> list[int]:
    """Where frames begin, and where the last one ends."""
    places = [frames.PREAMBLE_BYTES]
    with path.open("rb") as file:
        while (head := frames.read_head(file.fileno(), places[-1])) is not None:
            places.append(places[-1] + frames.HEAD_BYTES + head.length)
    return places


def test_a_torn_record_is_cut_off_at_any_byte(tmp_path: Path) -> None:
    path = write(tmp_path, 3, finish=False)
    whole = path.read_bytes()
    begin, end = offsets(path)[-2:]
    for cut in range(begin, end):
        path.write_bytes(whole[:cut])
        assert read(tmp_path) == ([0, 1], False, cut - begin)
        assert path.stat().st_size == begin


def test_what_was_cut_at_its_end_is_not_complete(tmp_path: Path) -> None:
    path = write(tmp_path)
    whole = path.read_bytes()
    places = offsets(path)
    for number, place in enumerate(places[1:-1]):
        path.write_bytes(whole[:place])
        assert read(tmp_path) == (list(range(number)), False, 0)


def test_a_file_without_a_beginning_is_cleared(tmp_path: Path) -> None:
    path = write(tmp_path)
    whole = path.read_bytes()
    for cut in (0, 3, frames.PREAMBLE_BYTES - 1, frames.PREAMBLE_BYTES, frames.PREAMBLE_BYTES + 40):
        path.write_bytes(whole[:cut])
        with Spool(tmp_path, KEY, PLENTY, 0) as spool:
            assert not spool.scans()
            assert spool.used_bytes == 0
        assert not path.exists()


@pytest.mark.parametrize("finish", [True, False])
def test_every_flipped_bit_is_found(tmp_path: Path, finish: bool) -> None:
    path = write(tmp_path, finish=finish)
    whole = path.read_bytes()
    rng = random.Random(0)
    places = {rng.randrange(len(whole)) for _ in range(150)}
    places |= {place + byte for place in offsets(path)[:-1] for byte in range(frames.HEAD_BYTES + 3)}
    for place in sorted(places):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        with pytest.raises(SpoolDamagedError, match="scan scan") as damaged:
            read(tmp_path)
        assert damaged.value.scan_id == "scan"


def test_what_lies_before_the_damage_is_read(tmp_path: Path) -> None:
    path = write(tmp_path)
    raw = bytearray(path.read_bytes())
    raw[offsets(path)[4] + frames.HEAD_BYTES + 5] ^= 1
    path.write_bytes(raw)
    with Spool(tmp_path, KEY, PLENTY, 0) as spool:
        assert spool.scans()[0].complete
        reader = spool.open("scan").read()
        assert [next(reader).kind for _ in range(3)] == [0, 1, 2]
        with pytest.raises(SpoolDamagedError, match="Record 3 of the scan"):
            next(reader)


def test_a_scan_whose_beginning_is_damaged_is_listed_and_can_be_removed(tmp_path: Path) -> None:
    path = write(tmp_path)
    raw = bytearray(path.read_bytes())
    raw[frames.PREAMBLE_BYTES + frames.HEAD_BYTES] ^= 1
    path.write_bytes(raw)
    with Spool(tmp_path, KEY, PLENTY, 0) as spool:
        (left,) = spool.scans()
        assert left.damaged
        assert not left.about
        with pytest.raises(SpoolDamagedError, match="remove it"):
            spool.open("scan")
        spool.remove("scan")
        assert spool.used_bytes == 0


@pytest.mark.parametrize("finish", [True, False])
def test_frames_cannot_be_moved(tmp_path: Path, finish: bool) -> None:
    path = write(tmp_path, finish=finish)
    whole = path.read_bytes()
    places = offsets(path)
    pieces = [whole[begin:end] for begin, end in itertools.pairwise(places)]
    start = whole[: places[0]]
    exchanged = [pieces[0], pieces[2], pieces[1], *pieces[3:]]
    left_out = [*pieces[:2], *pieces[3:]]
    repeated = [*pieces[:2], pieces[1], *pieces[2:]]
    for order in (exchanged, left_out, repeated):
        path.write_bytes(start + b"".join(order))
        with pytest.raises(SpoolDamagedError):
            read(tmp_path)
    path.write_bytes(start + b"".join(pieces))
    assert read(tmp_path)[0] == [0, 1, 2, 3, 4]


def test_files_cannot_be_exchanged(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.rename(tmp_path / "other.scan")
    with Spool(tmp_path, KEY, PLENTY, 0) as spool, pytest.raises(SpoolDamagedError):
        spool.open("other")
    (tmp_path / "other.scan").rename(tmp_path / "scan.images")
    with Spool(tmp_path, KEY, PLENTY, 0) as spool:
        with pytest.raises(SpoolDamagedError):
            spool.open("scan", "images")
        assert spool.scans()[0].damaged


def test_frames_of_another_file_are_no_frames_of_this(tmp_path: Path) -> None:
    one, two = (write(tmp_path / name) for name in ("one", "two"))
    places = offsets(one)
    raw, other = one.read_bytes(), two.read_bytes()
    one.write_bytes(raw[: places[2]] + other[places[2] :])
    with pytest.raises(SpoolDamagedError):
        read(tmp_path / "one")
