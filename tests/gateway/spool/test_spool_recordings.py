"""Recordings: what goes in comes out, for any number of readers at any pace, from memory or from the disk."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recond_gateway.spool import ReadingStoppedError, Record, Recording, Spool, SpoolError

KEY = bytes(range(32))
PLENTY = 1 << 30


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    with Spool(tmp_path / "spool", KEY, PLENTY, 0) as spool:
        yield spool


def contents(record: Record) -> tuple[int, tuple[bytes, ...]]:
    return record.kind, tuple(map(bytes, record.buffers))


def in_thread(action: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=action, daemon=True)
    thread.start()
    return thread


def read_all(recording: Recording, into: list[tuple[int, tuple[bytes, ...]]]) -> None:
    into += map(contents, recording.read())


records = st.lists(
    st.tuples(
        st.integers(-(2**63), 2**63 - 1),
        st.lists(st.one_of(st.binary(max_size=64), st.integers(0, 70_000).map(bytes)), max_size=4).map(tuple),
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(written=records, complete=st.booleans(), start=st.integers(0, 13), tail=st.sampled_from([0, 2000, PLENTY]))
def test_any_records_come_back(
    tmp_path_factory: pytest.TempPathFactory,
    written: list[tuple[int, tuple[bytes, ...]]],
    complete: bool,
    start: int,
    tail: int,
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    with Spool(folder, KEY, PLENTY, 0, tail_bytes=tail) as spool:
        recording = spool.begin("scan", {"name": "any"})
        assert [recording.append(kind, *buffers) for kind, buffers in written] == list(range(len(written)))
        assert [*map(contents, recording.read(start, wait=False))] == written[start:]
        recording.finish(complete)
        assert [*map(contents, recording.read(start))] == written[start:]
        assert recording.complete is complete
    with Spool(folder, KEY, PLENTY, 0) as spool:
        again = spool.open("scan")
        assert [*map(contents, again.read(start))] == written[start:]
        assert (again.count, again.complete, again.about) == (len(written), complete, {"name": "any"})


def test_buffers_of_any_kind(spool: Spool) -> None:
    recording = spool.begin("scan", {})
    doubles = memoryview(bytearray(range(64))).cast("d")
    recording.append(3, bytearray(b"one"), doubles, b"", memoryview(b"xtwox")[1:4])
    assert contents(next(recording.read())) == (3, (b"one", bytes(range(64)), b"", b"two"))


def test_what_was_appended_does_not_change_with_the_buffer(spool: Spool) -> None:
    recording = spool.begin("scan", {})
    buffer = bytearray(b"before")
    recording.append(0, buffer)
    buffer[:] = b"after!"
    assert contents(next(recording.read())) == (0, (b"before",))


@pytest.mark.parametrize("tail", [0, 5000, PLENTY])
def test_readers_follow_the_writer(tmp_path: Path, tail: int) -> None:
    written = [(number, (bytes([number % 256]) * (number * 7 % 900), b"x")) for number in range(3000)]
    with Spool(tmp_path, KEY, PLENTY, 0, tail_bytes=tail) as spool:
        recording = spool.begin("scan", {})
        seen: list[list[tuple[int, tuple[bytes, ...]]]] = [[] for _ in range(3)]
        readers = [in_thread(lambda into=into: read_all(recording, into)) for into in seen]
        for kind, buffers in written:
            recording.append(kind, *buffers)
        late: list[tuple[int, tuple[bytes, ...]]] = []
        readers.append(in_thread(lambda: read_all(spool.open("scan"), late)))
        recording.finish(True)
        for reader in readers:
            reader.join()
    assert all(records == written for records in [*seen, late])


def test_a_reader_waits_for_the_next_record(spool: Spool) -> None:
    recording = spool.begin("scan", {})
    reader = recording.read()
    for number in range(3):
        recording.append(number, b"data")
        assert next(reader).kind == number
    got: list[Record | None] = []
    waiting = in_thread(lambda: got.append(next(reader, None)))
    time.sleep(0.05)
    assert waiting.is_alive()
    assert not got
    recording.append(9)
    waiting.join()
    assert [record and record.kind for record in got] == [9]


def test_reading_may_begin_anywhere(tmp_path: Path) -> None:
    with Spool(tmp_path, KEY, PLENTY, 0, tail_bytes=0) as spool:
        recording = spool.begin("scan", {})
        for number in range(5000):
            recording.append(number)
        recording.finish(True)
        for start in (0, 1, 1023, 1024, 1025, 4999):
            assert next(recording.read(start)).kind == start
        assert not [*recording.read(5000)]
        assert not [*recording.read(9000)]
    with Spool(tmp_path, KEY, PLENTY, 0) as spool:
        assert next(spool.open("scan").read(4999)).kind == 4999


def test_stopped_readers_wake_and_new_ones_come(spool: Spool) -> None:
    recording = spool.begin("scan", {})
    recording.append(1, b"data")
    stopped: list[Exception] = []

    def read() -> None:
        try:
            for _ in recording.read():
                pass
        except ReadingStoppedError as error:
            stopped.append(error)

    waiting = in_thread(read)
    while not recording._readers:
        time.sleep(0.001)
    recording.close_readers()
    waiting.join()
    assert len(stopped) == 1
    assert [record.kind for record in recording.read(wait=False)] == [1]


def test_removing_wakes_readers_and_refuses_more(spool: Spool) -> None:
    recording = spool.begin("scan", {})
    recording.append(1, b"data")
    reader = recording.read()
    next(reader)
    spool.remove("scan")
    with pytest.raises(ReadingStoppedError):
        next(reader)
    with pytest.raises(ReadingStoppedError):
        [*recording.read(wait=False)]
    with pytest.raises(SpoolError, match="was removed"):
        recording.append(2)
    recording.finish(True)
    assert spool.used_bytes == 0
    assert not spool.scans()
    with pytest.raises(KeyError):
        spool.open("scan")


def test_the_tail_is_bounded_for_each_and_for_all(tmp_path: Path) -> None:
    piece = bytes(1000)
    with Spool(tmp_path, KEY, PLENTY, 0, tail_bytes=20_000, tails_bytes=30_000) as spool:
        recordings = [spool.begin(f"scan{number}", {}) for number in range(4)]
        for _ in range(100):
            for recording in recordings:
                recording.append(0, piece)
                assert recording._tail._size <= 20_000
                assert spool._tail_room.taken <= 30_000
        assert spool._tail_room.taken > 20_000
        for recording in recordings:
            assert len([*recording.read(wait=False)]) == 100
            recording.finish(True)
        assert spool._tail_room.taken == 0


def test_a_reader_that_keeps_up_never_reads_the_disk(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = spool.begin("scan", {})
    monkeypatch.setattr(Recording, "_open", lambda recording: pytest.fail("the disk was read"))
    reader = recording.read()
    for number in range(200):
        recording.append(number, bytes(1 << 20))
        assert next(reader).kind == number
    recording.finish(True)
    assert next(reader, None) is None


def test_several_threads_append(spool: Spool) -> None:
    recording = spool.begin("scan", {})
    numbers: list[int] = []
    writers = [
        in_thread(lambda kind=kind: numbers.extend(recording.append(kind, bytes(100)) for _ in range(200)))
        for kind in range(4)
    ]
    for writer in writers:
        writer.join()
    recording.finish(True)
    assert sorted(numbers) == list(range(800))
    assert sorted(record.kind for record in recording.read()) == sorted([0, 1, 2, 3] * 200)


def test_memory_stays_flat(tmp_path: Path) -> None:
    """256 MB of records with a tail of 4 MB: what Python holds stays far below."""
    import tracemalloc

    piece = os.urandom(1 << 20)
    with Spool(tmp_path, KEY, PLENTY, 0, tail_bytes=4 << 20) as spool:
        recording = spool.begin("scan", {})
        tracemalloc.start()
        try:
            for _ in range(256):
                recording.append(0, piece)
            recording.finish(True)
            assert sum(len(record.buffers[0]) for record in recording.read()) == 256 << 20
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 12 << 20


def test_appending_to_a_finished_recording_is_refused(spool: Spool) -> None:
    recording = spool.begin("scan", {})
    recording.finish(False)
    recording.finish(True)  # the first counts
    assert recording.complete is False
    with pytest.raises(ValueError, match="is finished"):
        recording.append(0)


def test_a_record_that_is_too_large_is_refused(spool: Spool) -> None:
    recording = spool.begin("scan", {})
    with pytest.raises(ValueError, match="too large"):
        recording.append(0, *[bytes(1 << 26)] * 5)
    assert recording.append(0) == 0


def test_removal_does_not_wait_for_the_disk(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    syncing, go_on = threading.Event(), threading.Event()

    def slow(file: int) -> None:
        syncing.set()
        assert go_on.wait(60)

    monkeypatch.setattr(os, "fsync", slow)
    recording = spool.begin("scan", {})
    recording.append(0, b"data")
    finishing = in_thread(lambda: recording.finish(True))
    assert syncing.wait(60)
    assert [record.kind for record in recording.read()] == [0]  # readers see the end before the disk has it
    spool.remove("scan")
    spool.begin("scan", {}).append(0)
    go_on.set()
    finishing.join()


def test_appending_to_a_closed_spool_says_so(tmp_path: Path) -> None:
    with Spool(tmp_path, KEY, PLENTY, 0) as spool:
        recording = spool.begin("scan", {})
        recording.append(0)
        reader = recording.read(1)
    with pytest.raises(ReadingStoppedError):
        next(reader)
    with pytest.raises(SpoolError, match="was closed"):
        recording.append(1)
    recording.finish(True)
    with Spool(tmp_path, KEY, PLENTY, 0) as spool:
        assert not spool.scans()[0].complete
