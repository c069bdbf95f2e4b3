"""Partial Fourier and coil compression on request: from the SDK and the command through the real service."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

import ismrmrd
import numpy as np
import pytest
from click.testing import CliRunner
from recond_testing import Service

import recond_client
from recond_client import batches_of
from recond_client.cli import main
from recond_models.simulate import write_ismrmrd
from recond_models.simulate.scan import ScanSettings, SimulatedScan, simulate


@pytest.fixture(scope="module")
def partial(tmp_path_factory: pytest.TempPathFactory) -> tuple[SimulatedScan, Path]:
    """A scan of which a quarter of the lines was left out."""
    settings = ScanSettings(
        phantom="shepp-logan", coils=6, slices=1, rows=64, columns=64, acceleration=1, partial_fourier=0.75, noise=0.0
    )
    scan = simulate(settings)
    path = tmp_path_factory.mktemp("partial") / "scan.h5"
    write_ismrmrd.write(scan, path)
    return scan, path


def codes(result: recond_client.Result) -> set[str]:
    return {finding.code for finding in result.findings}


def test_file(service: Service, partial: tuple[SimulatedScan, Path]) -> None:
    scan, path = partial
    with recond_client.Client(service.address) as client:
        plain = client.reconstruct(path, model="rss")
        completed = client.reconstruct(path, model="rss", partial_fourier="pocs")
        fewer = client.reconstruct(path, model="rss", virtual_coils=4)
        energy = client.reconstruct(path, model="rss", coil_energy=0.9)
    assert "partial-fourier-completed" not in codes(plain)
    assert "partial-fourier-completed" in codes(completed)
    assert "coils-compressed" in codes(fewer) & codes(energy)
    assert "coils-compressed" not in codes(plain)

    def error(result: recond_client.Result) -> float:
        image, truth = (values / np.linalg.norm(values) for values in (result.images[0], scan.truth[0]))
        return float(np.linalg.norm(image - truth))

    assert error(completed) < 0.8 * error(plain)
    assert np.corrcoef(fewer.images.ravel(), plain.images.ravel())[0, 1] > 0.98


def test_stream_of_both_clients(service: Service, partial: tuple[SimulatedScan, Path]) -> None:
    with contextlib.closing(ismrmrd.Dataset(str(partial[1]), "dataset", create_if_needed=False)) as dataset:
        xml = dataset.read_xml_header()
        readouts = [dataset.read_acquisition(number) for number in range(dataset.number_of_acquisitions())]
    options = {"model": "rss", "partial_fourier": "pocs", "virtual_coils": 4, "coil_energy": 0.99}
    with recond_client.Client(service.address) as client, client.stream(xml, batches_of(readouts), **options) as images:
        ours = images.result()

    async def twin() -> recond_client.Result:
        async with (
            recond_client.aio.Client(service.address) as client,
            client.stream(xml, batches_of(readouts), **options) as images,
        ):
            return await images.result()

    theirs = asyncio.run(twin())
    assert {"partial-fourier-completed", "coils-compressed"} <= codes(ours)
    assert codes(ours) == codes(theirs)
    np.testing.assert_allclose(ours.images, theirs.images, rtol=1e-4, atol=1e-5 * ours.images.max())


def test_command(
    service: Service, partial: tuple[SimulatedScan, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["reconstruct", str(partial[1]), "--model", "rss", "--json", "--server", service.address]
    arguments += ["--partial-fourier", "pocs", "--virtual-coils", "4", "--coil-energy", "0.95"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    found = {finding["code"] for finding in json.loads(result.stdout)["findings"]}
    assert {"partial-fourier-completed", "coils-compressed"} <= found
