"""Simulated scans in both file formats, conditioned and compared with the true images that the simulation knows."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from field_scans import outcome_of
from raw_builders import codes, file_request

from recond_models.simulate import write_fastmri, write_ismrmrd
from recond_models.simulate.scan import ScanSettings, SimulatedScan, simulate
from recond_service.conditioning import condition
from recond_service.ingest import read_scan
from recond_service.types import ConditioningOptions, FindingList

SMALL = {
    "coils": 4,
    "slices": 6,
    "rows": 40,
    "columns": 36,
    "acceleration": 1,
    "calibration_lines": 8,
    "phantom": "shepp-logan",
    "noise": 0,
}
VARIANTS = {
    "plain": {},
    "volume": {"volume": True},
    "odd volume": {"volume": True, "slices": 7, "rows": 41, "columns": 35},
    "no oversampling": {"volume": True, "oversampling": 1},
    "contrasts": {"contrasts": 3},
    "repetitions": {"repetitions": 2, "contrasts": 2},
    "averages": {"averages": 3},
    "all": {"volume": True, "contrasts": 2, "repetitions": 2, "averages": 2},
}


def reconstruct(path: Path, **options: object) -> tuple[np.ndarray, FindingList]:
    """Root-sum-of-squares images in the order of the output volume."""
    findings = FindingList()
    request = file_request(path, conditioning=ConditioningOptions(**options))
    found = outcome_of(condition(read_scan(request, findings), request, findings), request, findings)
    return found.images, findings


def written(scan: SimulatedScan, folder: Path, kind: str, *, interleaved: bool = False) -> Path:
    path = folder / f"{kind}.h5"
    if kind == "ismrmrd":
        write_ismrmrd.write(scan, path, interleaved=interleaved)
    else:
        write_fastmri.write(scan, path)
    return path


def truth_in(path: Path, scan: SimulatedScan) -> np.ndarray:
    """The true images as a file has them: a fastMRI file of a volume stores its readout positions."""
    with h5py.File(path) as file:
        return file["reconstruction_rss"][()] if "reconstruction_rss" in file else scan.truth


@pytest.mark.parametrize("kind", ["ismrmrd", "fastmri"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_full_scans_give_the_truth(tmp_path: Path, kind: str, variant: str) -> None:
    scan = simulate(ScanSettings(**{**SMALL, **VARIANTS[variant]}))
    path = written(scan, tmp_path, kind)
    images, findings = reconstruct(path)
    truth = truth_in(path, scan)
    assert images.shape == truth.shape
    np.testing.assert_allclose(images, truth, atol=2e-5 * truth.max())
    if kind == "ismrmrd":
        assert codes(findings) <= {"noise-scan-missing", "averages-combined"}


@pytest.mark.parametrize("variant", ["plain", "volume", "averages"])
def test_noisy_scans_give_the_whitened_truth(tmp_path: Path, variant: str) -> None:
    scan = simulate(ScanSettings(**{**SMALL, **VARIANTS[variant], "noise": 0.05}))
    images, findings = reconstruct(written(scan, tmp_path, "ismrmrd", interleaved=True))
    averages = scan.settings.averages
    # In units of the noise, so that the difference has a standard deviation near 1 where there is signal.
    bright = scan.whitened_truth > 0.3 * scan.whitened_truth.max()
    # The root sum of squares adds the power of the noise of 2 x coils parts, one of which lies along the signal.
    unbiased = np.sqrt(np.maximum(images.astype(float) ** 2 - (2 * scan.settings.coils - 1) / averages, 0))
    difference = (unbiased - scan.whitened_truth)[bright]
    assert difference.std() == pytest.approx(1 / np.sqrt(averages), rel=0.1)
    assert abs(difference.mean()) < 0.2
    message = next(f.message for f in findings if f.code == "noise-check")
    level = float(message.split("deviation of ")[1].split(";")[0])
    assert 0.85 < level < 1.6


@pytest.mark.parametrize("change", ["dwell", "bandwidth"])
def test_a_noise_scan_that_does_not_fit_is_said(tmp_path: Path, change: str) -> None:
    scan = simulate(ScanSettings(**{**SMALL, "noise": 0.05}))
    path = written(scan, tmp_path, "ismrmrd")
    with h5py.File(path, "a") as file:
        if change == "dwell":
            table = file["dataset/data"][:]
            table["head"]["sample_time_us"][table["head"]["sample_time_us"] == 5] = 20
            file["dataset/data"][...] = table
        else:
            xml = file["dataset/xml"][0].replace(b"0.793", b"0.1")
            file["dataset/xml"][0] = xml
    _, findings = reconstruct(path)
    (check,) = [f for f in findings if f.code == "noise-check"]
    assert "does not fit" in check.message


@pytest.mark.parametrize("kind", ["ismrmrd", "fastmri"])
@pytest.mark.parametrize("volume", [False, True])
def test_partial_fourier_files(tmp_path: Path, kind: str, *, volume: bool) -> None:
    partitions = {"partial_fourier_partitions": 0.75, "slices": 24} if volume else {}
    scan = simulate(ScanSettings(**{**SMALL, **partitions, "volume": volume, "partial_fourier": 0.7}))
    path = written(scan, tmp_path, kind)
    errors = []
    for method in ("zero-fill", "pocs"):
        images, findings = reconstruct(path, partial_fourier=method)
        truth = truth_in(path, scan)
        errors.append(np.linalg.norm(images - truth) / np.linalg.norm(truth))
        assert ("partial-fourier-completed" in findings) == (method == "pocs")
    assert errors[1] < 0.8 * errors[0]
