"""Files of independent tools through the SDK and the service, and our files through independent tools."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

import recond_client
from recond_client.embedded import EmbeddedService
from recond_models.simulate import write_ismrmrd
from recond_models.simulate.scan import ScanSettings, simulate


def needs(tool: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is not installed")


def run(folder: Path, *command: str) -> None:
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)


def correlation(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


@pytest.fixture(scope="module")
def client() -> Iterator[recond_client.Client]:
    with EmbeddedService() as service, recond_client.Client(service.target) as client:
        client.wait_until_ready()
        yield client


@needs("ismrmrd_recon_cartesian_2d")
def test_the_reference_library_reads_and_reconstructs_what_we_simulate(
    client: recond_client.Client, tmp_path: Path
) -> None:
    scan = simulate(
        ScanSettings(phantom="shepp-logan", coils=4, slices=1, rows=96, columns=64, acceleration=1, noise=0.0)
    )
    path = tmp_path / "ours.h5"
    write_ismrmrd.write(scan, path)
    ours = client.reconstruct(path, model="rss").images[0]
    run(tmp_path, "ismrmrd_recon_cartesian_2d", path.name)
    with h5py.File(path) as file:
        theirs = np.squeeze(file["dataset/cpp/data"][()]).T
    assert theirs.shape == ours.shape == (96, 64)
    assert correlation(theirs, ours) > 0.9999


@needs("bart")
def test_bart_pair(client: recond_client.Client, tmp_path: Path) -> None:
    run(tmp_path, "bart", "phantom", "-k", "-s", "8", "-x", "96", "scan")
    run(tmp_path, "bart", "fft", "-i", "-u", "3", "scan", "coils")
    run(tmp_path, "bart", "rss", "8", "coils", "rss")
    rows, columns = (int(length) for length in (tmp_path / "rss.hdr").read_text().split()[2:4])
    theirs = np.abs(np.fromfile(tmp_path / "rss.cfl", "<c8").reshape(columns, rows).T)
    ours = client.reconstruct(tmp_path / "scan.hdr", model="rss").images[0]
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * theirs.max())
