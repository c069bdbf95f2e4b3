"""Shared memory with names: nothing stays behind, whoever dies."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from recond_service.backends.triton import regions
from recond_service.backends.triton.regions import Region, left_behind, remove_left_behind, rounded


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(regions, "FOLDER", tmp_path)
    return tmp_path


def test_a_region_is_seen_by_others_under_its_name_and_gone_when_it_is_closed(folder):
    region = Region(3 << 20)
    path = folder / region.name
    assert path.stat().st_size == region.size == 3 << 20
    assert path.stat().st_mode & 0o777 == 0o600
    view = np.frombuffer(region.memory, np.uint8)
    view[5] = 7
    assert path.read_bytes()[5] == 7
    region.close()
    region.close()
    assert not path.exists()
    assert view[5] == 7


def test_a_forgotten_region_is_gone(folder):
    region = Region(1)
    del region
    assert list(folder.iterdir()) == []


def test_only_regions_of_dead_processes_are_left_behind(folder):
    mine = Region(1)
    assert not left_behind(mine.name)
    code = (
        "import os, pathlib, sys; from recond_service.backends.triton import regions; "
        "regions.FOLDER = pathlib.Path(sys.argv[1]); r = regions.Region(1); print(r.name, flush=True); os._exit(1)"
    )
    died = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, timeout=60, check=False
    )
    name = died.stdout.strip()
    assert (folder / name).exists(), died.stderr
    (folder / "someone-elses").write_bytes(b"")
    assert remove_left_behind() == [name]
    assert {path.name for path in folder.iterdir()} == {mine.name, "someone-elses"}
    assert left_behind(name)  # it is not there any more: nobody has it
    mine.close()


def test_sizes_are_rounded_so_that_regions_serve_again():
    for size in (1, 1 << 20, (1 << 20) + 1, 5 << 20, 13_107_200, 100_000_001):
        assert size <= rounded(size) <= max(1 << 20, size * 1.5)
    assert rounded(13_107_200) == rounded(13_500_000)


def test_no_room_is_an_error_and_leaves_nothing(folder):
    with pytest.raises(OSError, match=r"No space|File too large|Invalid"):
        Region(1 << 62)
    assert list(folder.iterdir()) == []
