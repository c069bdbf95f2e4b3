"""The SDK against the real service."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import h5py
import ismrmrd
import nibabel
import numpy as np
import pytest

import recond_client
from recond_client import AcquisitionBatch, InputError, batches_of
from recond_client.embedded import EmbeddedService
from recond_models.simulate import write_fastmri, write_ismrmrd
from recond_models.simulate.scan import ScanSettings, SimulatedScan, simulate


@pytest.fixture(scope="module")
def target() -> Iterator[str]:
    with EmbeddedService() as service, recond_client.Client(service.target) as client:
        client.wait_until_ready()
        yield service.target


@pytest.fixture(scope="module")
def client(target: str) -> Iterator[recond_client.Client]:
    with recond_client.Client(target) as client:
        yield client


def scan_of(**settings: object) -> SimulatedScan:
    return simulate(
        ScanSettings(**{"phantom": "shepp-logan", "coils": 4, "slices": 2, "rows": 64, "columns": 48, **settings})
    )  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> tuple[SimulatedScan, Path]:
    scan = scan_of(acceleration=1, noise=0.0, oversampling=1)
    path = tmp_path_factory.mktemp("scans") / "full.h5"
    write_fastmri.write(scan, path)
    return scan, path


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> tuple[SimulatedScan, Path]:
    scan = scan_of(acceleration=2, noise=0.002, slices=3)
    path = tmp_path_factory.mktemp("scans") / "raw.h5"
    write_ismrmrd.write(scan, path)
    return scan, path


def test_file(client: recond_client.Client, full: tuple[SimulatedScan, Path]) -> None:
    scan, path = full
    result = client.reconstruct(path, model="rss")
    assert result.shape == (2, 64, 48)
    np.testing.assert_allclose(result.images, scan.truth, atol=1e-4 * scan.truth.max())
    assert result.reference == "file"
    assert result.figures.ssim == pytest.approx(1, abs=1e-3)
    assert result.request_id


def test_arrays_equal_file(client: recond_client.Client, full: tuple[SimulatedScan, Path]) -> None:
    scan, path = full
    from_file = client.reconstruct(path, model="rss")
    from_arrays = client.reconstruct(kspace=scan.kspace, mask=np.ones(48), reference=scan.truth, model="rss")
    np.testing.assert_allclose(from_arrays.images, from_file.images, rtol=1e-5, atol=1e-6 * scan.truth.max())
    assert from_arrays.reference == "reference file"
    assert from_arrays.figures.ssim == pytest.approx(from_file.figures.ssim, abs=1e-5)


def test_undersampling_and_outputs(
    client: recond_client.Client, full: tuple[SimulatedScan, Path], tmp_path: Path
) -> None:
    _, path = full
    result = client.reconstruct(path, undersample="equispaced:2:0.16", outputs=(".h5", ".nii.gz", ".mrd", ".png"))
    assert result.reference == "undersampling"
    assert result.figures.ssim is not None
    assert result.figures.ssim > 0.6
    with h5py.File(result.save(tmp_path / "out.h5")) as file:
        np.testing.assert_array_equal(file["reconstruction"][()], result.images)
    assert nibabel.load(result.save(tmp_path / "out.nii.gz")).shape[-1] == 2  # type: ignore[attr-defined]
    assert result.save(tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    assert h5py.is_hdf5(result.save(tmp_path / "out.mrd"))


def test_figures_alone(client: recond_client.Client, full: tuple[SimulatedScan, Path]) -> None:
    result = client.reconstruct(full[1], model="rss", images=False)
    assert result.images.shape == (0, 0, 0)
    assert result.shape == (2, 64, 48)
    assert result.figures.ssim is not None


def test_geometry_and_findings(client: recond_client.Client, raw: tuple[SimulatedScan, Path]) -> None:
    scan, path = raw
    result = client.reconstruct(path, model="rss")
    positions = [geometry.position for geometry in result.geometry if geometry is not None]
    np.testing.assert_allclose(sorted(positions), sorted(map(tuple, scan.positions)), atol=1e-3)
    assert result.findings
    assert {finding.severity for finding in result.findings} <= {"info", "warning"}


def acquisitions_of(path: Path) -> tuple[bytes, list[ismrmrd.Acquisition]]:
    dataset = ismrmrd.Dataset(str(path), "dataset", create_if_needed=False)
    header = dataset.read_xml_header()
    acquisitions = [dataset.read_acquisition(number) for number in range(dataset.number_of_acquisitions())]
    dataset.close()
    return header, acquisitions


def test_image_of_the_first_slice_before_the_last_is_sent(
    client: recond_client.Client, raw: tuple[SimulatedScan, Path]
) -> None:
    header, acquisitions = acquisitions_of(raw[1])
    first_seen = threading.Event()
    last_slice = max(acquisition.idx.slice for acquisition in acquisitions)

    def scanner() -> Iterator[AcquisitionBatch]:
        yield from batches_of(a for a in acquisitions if a.idx.slice != last_slice)
        assert first_seen.wait(30)
        yield from batches_of(a for a in acquisitions if a.idx.slice == last_slice)

    with client.stream(header, scanner(), model="rss", timeout=60) as stream:
        next(stream)
        first_seen.set()
        result = stream.result()
    whole = client.reconstruct(raw[1], model="rss")
    np.testing.assert_allclose(result.images, whole.images, rtol=1e-4, atol=1e-5 * whole.images.max())


async def test_asyncio(target: str, raw: tuple[SimulatedScan, Path]) -> None:
    header, acquisitions = acquisitions_of(raw[1])
    async with recond_client.aio.Client(target) as client:
        assert await client.health() == "SERVING"
        assert "rss" in [model.name for model in await client.models()]
        results = await asyncio.gather(*(client.reconstruct(raw[1], model="rss") for _ in range(3)))
        async with client.stream(header, batches_of(acquisitions), model="rss") as stream:
            streamed = await stream.result()
    for result in results:
        np.testing.assert_allclose(result.images, streamed.images, rtol=1e-4, atol=1e-5 * streamed.images.max())


@pytest.mark.parametrize(
    ("source", "options", "status"),
    [
        (b"not a scan at all", {}, "INVALID_ARGUMENT"),
        (None, {"model": "no-such-model"}, "NOT_FOUND"),
        (None, {"heads": ("no-such-head",)}, "NOT_FOUND"),
    ],
)
def test_errors(
    client: recond_client.Client, full: tuple[SimulatedScan, Path], source: bytes | None, options: dict, status: str
) -> None:
    with pytest.raises(InputError) as caught:
        client.reconstruct(source or full[1], **options)
    error = caught.value
    assert error.status == status
    assert error.reason
    assert error.field or source
    assert client.reconstruct(full[1], model="rss").shape == (2, 64, 48)


def test_early_rejection_of_a_large_upload(client: recond_client.Client) -> None:
    sent = []
    with pytest.raises(InputError):
        client.reconstruct(
            bytes(48 << 20), model="no-such-model", on_progress=lambda each: sent.append(each.sent_bytes)
        )
    assert not any(sent)
