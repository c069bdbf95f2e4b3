"""`recond doctor` on every format that the service reads, from files of independent writers where there are some."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from recond_models.simulate import write_fastmri, write_ismrmrd
from recond_models.simulate.scan import ScanSettings, simulate
from recond_service.commands.doctor import doctor


def run(*command: str, folder: Path | None = None) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=120, cwd=folder)


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def ismrmrd(folder: Path) -> Path:
    run(tool("ismrmrd_generate_cartesian_shepp_logan"), "-m", "64", "-c", "4", "-C", "-o", str(folder / "scan.h5"))
    return folder / "scan.h5"


def own_ismrmrd(folder: Path) -> Path:
    path = folder / "scan.mrd"
    settings = ScanSettings(phantom="shepp-logan", coils=4, slices=2, rows=64, columns=48, acceleration=2, noise=0.01)
    write_ismrmrd.write(simulate(settings), path)
    return path


def mrd2(folder: Path) -> Path:
    path = folder / "scan.bin"
    options = ("-m", "64", "-c", "4", "-s", "2", "-n", "0.02", "-o", str(path))
    run(sys.executable, "-m", "mrd.tools.phantom", *options)
    return path


def named_mrd2(folder: Path) -> Path:
    return mrd2(folder).rename(folder / "scan.mrd2")


def fastmri(folder: Path) -> Path:
    path = folder / "scan.h5"
    settings = ScanSettings(phantom="shepp-logan", coils=4, slices=2, rows=64, columns=48, acceleration=1, noise=0.0)
    write_fastmri.write(simulate(settings), path)
    return path


def bart(folder: Path) -> Path:
    run(tool("bart"), "phantom", "-k", "-s", "4", "-x", "64", "scan", folder=folder)
    return folder / "scan.cfl"


def bart_header(folder: Path) -> Path:
    return bart(folder).with_suffix(".hdr")


@pytest.mark.parametrize(
    ("write", "kind", "images"),
    [
        (ismrmrd, "readouts", 1),
        (own_ismrmrd, "readouts", 2),
        (mrd2, "readouts", 1),
        (named_mrd2, "readouts", 1),
        (fastmri, "sorted k-space", 2),
        (bart, "sorted k-space", 1),
        (bart_header, "sorted k-space", 1),
    ],
)
def test_doctor(tmp_path: Path, write: Callable[[Path], Path], kind: str, images: int) -> None:
    path = write(tmp_path)
    result = CliRunner().invoke(doctor, [str(path), "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["refused"] is None
    assert report["kind"] == kind
    assert report["frames"]["images"] == images
    assert report["frames"]["coils"] == 4
    assert report["model"]
    assert (report["header"] is not None) == (kind == "readouts")
    assert bool(report["readouts"]) == (kind == "readouts")
    assert "John Doe" not in result.stdout


def test_doctor_says_why_a_stream_is_refused(tmp_path: Path) -> None:
    path = mrd2(tmp_path)
    path.write_bytes(path.read_bytes()[:-5])
    command = [sys.executable, "-m", "recond_client", "doctor", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 3
    assert "MRD2_TRUNCATED" in result.stdout
