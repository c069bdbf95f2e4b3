"""The folder of the spool: what it tells, what it keeps, its bounds, its lock and its key."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from recond_gateway.spool import (
    Recording,
    Spool,
    SpoolError,
    SpoolFullError,
    SpoolKeyError,
    SpoolLockedError,
    frames,
    key_for,
    recording,
)

KEY = bytes(range(32))
PLENTY = 1 << 30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def open_spool(folder: Path, key: bytes = KEY, most: int = PLENTY, free: int = 0) -> Spool:
    return Spool(folder, key, most, free)


def fill(held: Recording) -> None:
    for _ in range(400):
        held.append(1, bytes(3000))


def test_nothing_readable_is_on_the_disk(folder: Path) -> None:
    marker = "DOE^JANE-19700101"
    with open_spool(folder) as spool:
        for part in ("scan", "images"):
            held = spool.begin("f00d", {"patient": marker, "config": "openrecon"}, part)
            held.append(7, marker.encode(), marker.encode("utf-16-le"), (marker * 5000).encode())
            held.finish(part == "scan")
        assert spool.open("f00d").about == {"patient": marker, "config": "openrecon"}
        assert marker not in repr(spool.open("f00d"))
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"lock", "key-check", "f00d.scan", "f00d.images"}
    for path in files:
        raw = path.read_bytes()
        assert not any(text in raw for text in (marker.encode(), marker.encode("utf-16-le"), b"openrecon", b"patient"))
        assert KEY not in raw
        assert path.stat().st_mode & 0o077 == 0
    assert folder.stat().st_mode & 0o077 == 0


def test_what_it_holds(folder: Path) -> None:
    with open_spool(folder) as spool:
        spool.begin("whole", {"n": 1}).finish(True)
        cut = spool.begin("cut", {"n": 2})
        cut.append(1, bytes(1000))
        spool.begin("whole", {"n": 3}, "images").finish(True)
        spool.begin("only-images", {"n": 4}, "images").finish(True)
        assert {scan.scan_id for scan in spool.scans()} == {"whole", "only-images"}  # the other is being written
        used = spool.used_bytes
    with open_spool(folder) as spool:
        found = {scan.scan_id: scan for scan in spool.scans()}
        assert {
            name: (scan.held, scan.complete, scan.images_held, scan.about["n"]) for name, scan in found.items()
        } == {
            "whole": (True, True, True, 1),
            "cut": (True, False, False, 2),
            "only-images": (False, False, True, 4),
        }
        assert not any(scan.damaged for scan in found.values())
        assert sum(scan.size for scan in found.values()) == spool.used_bytes == used - frames.END_BYTES
        assert all(0 <= scan.age_s < 60 for scan in found.values())
        spool.remove("whole", "images")
        assert not next(scan for scan in spool.scans() if scan.scan_id == "whole").images_held
        for name in (*found, "never-there"):
            spool.remove(name)
        assert spool.used_bytes == 0
        assert not spool.scans()


def test_images_of_an_earlier_try_are_replaced(folder: Path) -> None:
    with open_spool(folder) as spool:
        spool.begin("scan", {}, "images").append(1, b"half")
        second = spool.begin("scan", {}, "images")
        second.append(2, b"whole")
        second.finish(True)
        assert [record.kind for record in spool.open("scan", "images").read()] == [2]
        with pytest.raises(KeyError):
            spool.open("scan")


def test_a_scan_is_not_overwritten(folder: Path) -> None:
    with open_spool(folder) as spool:
        spool.begin("scan", {})
        used = spool.used_bytes
        with pytest.raises(SpoolError, match="remove it first"):
            spool.begin("scan", {})
        assert spool.used_bytes == used


@pytest.mark.parametrize("name", ["", "../escape", "a/b", "a.scan", "-x", "x" * 65, "ä", "a b", "a\n"])
def test_ids_that_are_no_names_are_refused(folder: Path, name: str) -> None:
    with open_spool(folder) as spool:
        with pytest.raises(ValueError, match="letters, digits"):
            spool.begin(name, {})
        with pytest.raises(ValueError, match="letters, digits"):
            spool.remove(name)


def test_old_scans_expire(folder: Path) -> None:
    with open_spool(folder) as spool:
        for name in ("old", "read", "new"):
            held = spool.begin(name, {})
            held.append(0)
            held.append(1)
            held.finish(True)
        spool.begin("written", {})
        for name in ("old", "read", "written"):
            os.utime(folder / f"{name}.scan", (0, 0))
        reader = spool.open("read").read()
        next(reader)
        assert spool.expire(3600) == ["old"]
        reader.close()
        assert spool.expire(3600) == ["read"]
        assert [scan.scan_id for scan in spool.scans()] == ["new"]


# Bounds


def test_the_bound_holds_and_the_recording_stays(folder: Path) -> None:
    with open_spool(folder, most=100_000) as spool:
        held = spool.begin("scan", {})
        with pytest.raises(SpoolFullError, match="bring the service back") as full:
            fill(held)
        assert full.value.scan_id == "scan"
        count = held.count
        assert 30 < count < 34
        assert held.append(1, bytes(10)) == count  # what is smaller may still fit
        held.finish(False)  # its end has its place
        assert len([*held.read()]) == count + 1
        assert sum(path.stat().st_size for path in folder.glob("*.scan")) == spool.used_bytes <= 100_000
        with pytest.raises(SpoolFullError):
            spool.begin("next", {"long": "x" * 10_000})
        assert not (folder / "next.scan").exists()
        spool.remove("scan")
        spool.begin("next", {"long": "x" * 10_000})


def test_the_bound_counts_what_was_left(folder: Path) -> None:
    with open_spool(folder) as spool:
        spool.begin("scan", {}).append(1, bytes(50_000))
    with open_spool(folder, most=60_000) as spool, pytest.raises(SpoolFullError):
        spool.begin("next", {}).append(1, bytes(20_000))


def test_some_of_the_disk_stays_free(folder: Path) -> None:
    with open_spool(folder, free=1 << 60) as spool, pytest.raises(SpoolFullError, match="have to stay free"):
        spool.begin("scan", {})


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small disk needs root")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("foreseen", [True, False])
def test_a_disk_that_is_really_full(small_disk: Path, monkeypatch: pytest.MonkeyPatch, foreseen: bool) -> None:
    """Seen before the write, or, where others fill the disk in between, by the write that fails."""
    if not foreseen:
        plenty = os.statvfs("/proc/self")
        monkeypatch.setattr(os, "statvfs", lambda place: os.statvfs_result((*plenty[:1], 1 << 20, *[1 << 40] * 8)))
    with open_spool(small_disk / "spool") as spool:
        held = spool.begin("scan", {})
        (small_disk / "other").write_bytes(bytes(500_000))
        with pytest.raises(SpoolFullError, match=r"The disk of the spool .* (left|is full)"):
            fill(held)
        count = held.count
        assert 50 < count < 350
        assert [record.kind for record in held.read(wait=False)] == [1] * count
        (small_disk / "other").unlink()
        held.append(2, bytes(3000))
        held.finish(True)
    with open_spool(small_disk / "spool") as spool:
        assert [record.kind for record in spool.open("scan").read()] == [*[1] * count, 2]
        assert spool.open("scan").complete


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_write_that_fails_halfway(folder: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    with open_spool(folder) as spool:
        held = spool.begin("scan", {})
        held.append(0, b"first")
        used = spool.used_bytes

        def half(file: int, offset: int, pieces: tuple[bytes, ...]) -> None:
            os.pwrite(file, b"".join(pieces)[:30], offset)
            raise OSError(code, os.strerror(code))

        with monkeypatch.context() as patch:
            patch.setattr(recording, "write_all", half)
            with pytest.raises(SpoolError) as failed:
                held.append(1, b"second")
            assert isinstance(failed.value, SpoolFullError) is (code != errno.EIO)
        assert spool.used_bytes == used
        held.append(2, b"third")
        held.finish(True)
        assert [record.kind for record in held.read()] == [0, 2]
    with open_spool(folder) as spool:
        assert [record.kind for record in spool.open("scan").read()] == [0, 2]


def test_an_end_that_finds_no_room_is_seen_by_readers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int, offset: int, pieces: tuple[bytes, ...]) -> None:
        raise OSError(errno.ENOSPC, "full")

    with open_spool(folder) as spool:
        held = spool.begin("scan", {})
        held.append(0, b"first")
        seen: list[int] = []
        reader = threading.Thread(target=lambda: seen.extend(record.kind for record in held.read()))
        reader.start()
        monkeypatch.setattr(recording, "write_all", full)
        held.finish(True)
        reader.join()
        assert seen == [0]
        assert held.complete
        assert spool.used_bytes == (folder / "scan.scan").stat().st_size
        spool.remove("scan")
        assert spool.used_bytes == 0


# Lock and key


def test_one_process_at_a_time(folder: Path) -> None:
    code = (
        "import sys, pathlib; from recond_gateway.spool import Spool;"
        "spool = Spool(pathlib.Path(sys.argv[1]), bytes(range(32)), 1 << 30, 0); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(SpoolLockedError, match=str(other.pid)):
            open_spool(folder)
        other.kill()
    open_spool(folder).close()  # what is killed holds no lock


def test_one_spool_of_a_folder_in_a_process(folder: Path) -> None:
    with open_spool(folder), pytest.raises(SpoolLockedError):
        open_spool(folder)


def test_another_key_is_refused(folder: Path) -> None:
    with open_spool(folder) as spool:
        spool.begin("scan", {}).finish(True)
    with pytest.raises(SpoolKeyError, match="another key"):
        open_spool(folder, key=bytes(32))
    with open_spool(folder) as spool:  # the refusal let go of the lock
        assert spool.scans()[0].complete


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_key_of_another_size_is_refused(folder: Path, size: int) -> None:
    with pytest.raises(SpoolKeyError, match="32"):
        open_spool(folder, key=bytes(size))


def test_the_key_is_made_with_the_folder_and_kept(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "keys" / "spool.key"
    key = key_for(folder, path)
    assert len(key) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    open_spool(folder, key).close()
    assert key_for(folder, path) == key
    path.unlink()
    with pytest.raises(SpoolKeyError, match="bring the file back"):
        key_for(folder, path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, folder: Path, mode: int) -> None:
    path = tmp_path / "spool.key"
    key_for(folder, path)
    path.chmod(mode)
    with pytest.raises(SpoolKeyError, match=rf"mode {mode:04o}\): chmod 600"):
        key_for(folder, path)


@pytest.mark.parametrize("held", [b"", b"short", b"z" * 64, b"0" * 63, b"0" * 65, bytes(64)])
def test_a_file_that_holds_no_key_is_refused(tmp_path: Path, folder: Path, held: bytes) -> None:
    path = tmp_path / "spool.key"
    path.touch(0o600)
    path.write_bytes(held)
    with pytest.raises(SpoolKeyError, match="holds no key") as refused:
        key_for(folder, path)
    assert not held or held.decode("latin1") not in str(refused.value)


def test_keys_as_bytes_and_as_digits(tmp_path: Path, folder: Path) -> None:
    for held in (KEY, KEY.hex().encode(), KEY.hex().upper().encode() + b"\n"):
        path = tmp_path / "spool.key"
        path.touch(0o600)
        path.write_bytes(held)
        assert key_for(folder, path) == KEY


def test_a_key_inside_the_folder_or_that_is_no_file_is_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(SpoolKeyError, match="somewhere else"):
        key_for(folder, folder / "spool.key")
    (tmp_path / "spool.key").mkdir()
    with pytest.raises(SpoolKeyError, match="is no file"):
        key_for(folder, tmp_path / "spool.key")


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpoolError, match="cannot be used"):
        open_spool(tmp_path / "file")


def test_files_of_others_are_left_alone(folder: Path) -> None:
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / ".hidden.scan").write_text("mine")
    with open_spool(folder) as spool:
        assert not spool.scans()
        assert spool.used_bytes == 0
    assert (folder / "notes.txt").read_text() == "mine"
