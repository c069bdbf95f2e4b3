"""Scans of the ISMRMRD library's own generator over coils, oversampling, acceleration, noise scans and trajectories.

The noise-free coil images are in the same file, so that every measured sample of every frame is known up to its noise.
"""

from __future__ import annotations

import itertools
import shutil
import subprocess
from pathlib import Path

import h5py
import ismrmrd
import numpy as np
import pytest
from raw_builders import centred_ifft, file_request

from recond_service.conditioning import condition
from recond_service.ingest import read_scan
from recond_service.types import FindingList

GENERATOR = shutil.which("ismrmrd_generate_cartesian_shepp_logan")
pytestmark = pytest.mark.skipif(
    GENERATOR is None, reason="ismrmrd_generate_cartesian_shepp_logan (Debian ismrmrd-tools) is missing"
)

NOISE = 0.01  # of real and imaginary part of a sample, by the generator's own definition
MATRIX, CALIBRATION = 96, 20
BANDWIDTH = 0.793
GRID = list(itertools.product((1, 2, 3, 5, 8, 12, 16, 20, 32), (1, 2), range(1, 7), (False, True), (False, True)))
# The corners of the grid, and a seeded sample of the rest.
CORNERS = [case for case in GRID if case[0] in {1, 32} and case[2] in {1, 6} and not case[4]]
SAMPLE = [GRID[number] for number in np.random.default_rng(20).choice(len(GRID), 24, replace=False)]


def generate(path: Path, *options: object) -> None:
    command = [str(GENERATOR), "-m", str(MATRIX), "-n", str(NOISE), *map(str, options), "-o", str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def complex_of(dataset: h5py.Dataset) -> np.ndarray:
    values = dataset[0]
    return values["real"] + 1j * values["imag"]


def true_kspace(path: Path, rows: int) -> np.ndarray:
    """Noise-free k-space (coils, rows, columns) of the middle rows of the coil images."""
    with h5py.File(path) as file:
        images = complex_of(file["dataset/coil_images"]).transpose(0, 2, 1)
    start = images.shape[1] // 2 - rows // 2
    images = images[:, start : start + rows]
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(images, axes=axes), norm="ortho"), axes=axes)


def acquisitions_of(path: Path) -> list[ismrmrd.Acquisition]:
    with ismrmrd.Dataset(str(path), mode="r") as dataset:
        return [dataset.read_acquisition(number) for number in range(dataset.number_of_acquisitions())]


def whitening_of(acquisitions: list[ismrmrd.Acquisition], coils: int) -> np.ndarray:
    """The whitening matrix by the formula, from what the ISMRMRD package reads; identity without noise readouts."""
    noise = [a for a in acquisitions if a.is_flag_set(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)]
    if not noise:
        return np.eye(coils)
    samples = np.concatenate([a.data for a in noise], axis=1).astype(np.complex128)
    lower = np.linalg.cholesky(samples @ samples.conj().T / (samples.shape[1] - 1))
    dwell, ours = noise[0].sample_time_us, acquisitions[-1].sample_time_us
    return np.sqrt(2 * BANDWIDTH * (ours / dwell if dwell and ours else 1)) * np.linalg.inv(lower)


@pytest.mark.parametrize(
    ("coils", "oversampling", "acceleration", "noise_scan", "trajectory"), sorted({*CORNERS, *SAMPLE})
)
def test_samples_are_where_they_belong(
    tmp_path: Path, coils: int, oversampling: int, acceleration: int, *, noise_scan: bool, trajectory: bool
) -> None:
    path = tmp_path / "shepp.h5"
    width = CALIBRATION if acceleration > 1 else 0
    flags = ["-C"] * noise_scan + ["-k"] * trajectory
    generate(path, "-c", coils, "-O", oversampling, "-a", acceleration, "-w", width, *flags)
    findings, request = FindingList(), file_request(path)
    frames = list(condition(read_scan(request, findings), request, findings))
    acquisitions = acquisitions_of(path)
    assert [frame.index.repetition for frame in frames] == list(range(acceleration))
    matrix = whitening_of(acquisitions, coils)
    truth = np.tensordot(matrix, true_kspace(path, frames[0].kspace.shape[1]), axes=1)
    # Complex noise of the samples: whitened, that of the formula; what the fit of the covariance leaves is within a few percent.
    level = np.sqrt(np.trace(matrix @ matrix.conj().T).real / coils) * NOISE * np.sqrt(2)
    for frame in frames:
        steps = {
            a.idx.kspace_encode_step_1
            for a in acquisitions
            if a.idx.repetition == frame.index.repetition and not a.is_flag_set(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)
        }
        assert set(np.flatnonzero(frame.mask.all(axis=0))) == steps == set(np.flatnonzero(frame.mask.any(axis=0)))
        assert frame.calibration_extent[1] >= (width or MATRIX)
        difference = (frame.kspace / frame.scale - truth)[:, frame.mask]
        assert np.sqrt((np.abs(difference) ** 2).mean()) == pytest.approx(level, rel=0.06)
        assert np.abs(difference).max() < 8 * level
    assert np.logical_or.reduce([frame.mask for frame in frames]).all()
    assert frames[0].whitened == noise_scan
    assert noise_scan or "noise-check" not in findings
    assert ("trajectory-ignored" in findings) == trajectory
    if acceleration == 1:
        image, phantom = combined(path, frames[0].kspace, matrix)
        assert np.corrcoef(image.ravel(), phantom.ravel())[0, 1] >= 0.995


def combined(path: Path, kspace: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The image combined by the sensitivities of the file, whitened as the coils were, and the phantom; (rows, columns)."""
    with h5py.File(path) as file:
        maps, phantom = complex_of(file["dataset/csm"]), complex_of(file["dataset/phantom"])
    start = (maps.shape[2] - kspace.shape[1]) // 2
    maps, phantom = (array[..., start : start + kspace.shape[1]] for array in (maps, phantom))
    maps = np.tensordot(matrix, maps.transpose(0, 2, 1), axes=1)
    weight = (np.abs(maps) ** 2).sum(0)
    image = (maps.conj() * centred_ifft(kspace)).sum(0) / np.maximum(weight, 1e-6 * weight.max())
    return np.abs(image), np.abs(phantom).T
