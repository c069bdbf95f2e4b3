"""Raw data that the ISMRMRD tools made, conditioned here and compared with the truth in the same file."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import h5py
import ismrmrd
import numpy as np
import pytest
from raw_builders import Encoding, Phantom, cartesian, centred_ifft, file_request, header_xml, write_mrd

from recond_service.conditioning import condition
from recond_service.ingest import read_scan
from recond_service.types import FindingList, Frame

_GENERATOR = "ismrmrd_generate_cartesian_shepp_logan"
needs_generator = pytest.mark.skipif(
    shutil.which(_GENERATOR) is None, reason=f"{_GENERATOR} (Debian ismrmrd-tools) is not installed"
)


def generate(tmp_path: Path, *options: str) -> Path:
    path = tmp_path / "shepp.h5"
    subprocess.run([_GENERATOR, *options, "-o", str(path)], check=True, capture_output=True, timeout=60)
    return path


def frames_of(path: Path) -> tuple[list[Frame], FindingList]:
    findings, request = FindingList(), file_request(path)
    return list(condition(read_scan(request, findings), request, findings)), findings


def combined(path: Path, kspace: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Image combined with the sensitivities of the file, and its phantom; (y, x)."""
    with h5py.File(path) as file:
        maps, truth = (file[f"dataset/{name}"][0] for name in ("csm", "phantom"))
    start = (maps["real"].shape[2] - kspace.shape[1]) // 2
    maps, truth = (array[..., start : start + kspace.shape[1]] for array in (maps, truth))
    maps, truth = maps["real"] + 1j * maps["imag"], np.abs(truth["real"] + 1j * truth["imag"])
    images = centred_ifft(kspace).transpose(0, 2, 1)
    weight = (np.abs(maps) ** 2).sum(0)
    return np.abs((maps.conj() * images).sum(0) / np.maximum(weight, 1e-6 * weight.max())), truth


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


@needs_generator
@pytest.mark.parametrize("oversampling", ["1", "2"])
@pytest.mark.parametrize("coils", ["1", "8", "32"])
@pytest.mark.parametrize("noise_scan", [True, False])
def test_a_full_scan_shows_the_phantom_unflipped(
    tmp_path: Path, oversampling: str, coils: str, *, noise_scan: bool
) -> None:
    options = ["-m", "128", "-c", coils, "-O", oversampling, "-a", "1", "-n", "0.02"]
    path = generate(tmp_path, *options, *(["-C"] if noise_scan else []))
    frames, findings = frames_of(path)
    (frame,) = frames
    # Without oversampling the generator still writes an encoded field of view of 600 mm: by its own header, the middle half.
    assert frame.kspace.shape == (int(coils), 64 * int(oversampling), 128)
    image, truth = combined(path, frame.kspace)
    assert correlation(image, truth) >= (0.995 if coils != "1" else 0.98)
    for flipped in (image[::-1], image[:, ::-1], image.T):
        assert correlation(flipped, truth) < 0.95
    assert frame.whitened == noise_scan
    assert "geometry-missing" in findings


@needs_generator
def test_accelerated_repetitions_are_frames_of_their_own(tmp_path: Path) -> None:
    path = generate(tmp_path, "-m", "128", "-c", "4", "-O", "2", "-a", "2", "-r", "2", "-w", "24", "-n", "0.02", "-C")
    frames, _ = frames_of(path)
    assert [frame.index.repetition for frame in frames] == [0, 1, 2, 3]
    for frame in frames:
        measured = frame.mask[0]
        assert measured.sum() == 64 + 12
        assert frame.calibration_extent[1] >= 24
    first, second = frames[0].mask[0], frames[1].mask[0]
    assert (first | second).all()
    whole = np.where(first, frames[0].kspace / frames[0].scale, frames[1].kspace / frames[1].scale)
    image, truth = combined(path, whole)
    assert correlation(image, truth) >= 0.995


@needs_generator
def test_trajectories_of_the_generator_do_not_matter(tmp_path: Path) -> None:
    path = generate(tmp_path, "-m", "64", "-c", "2", "-O", "2", "-a", "1", "-n", "0.02", "-k")
    frames, _ = frames_of(path)
    image, truth = combined(path, frames[0].kspace)
    assert correlation(image, truth) >= 0.98


def test_a_file_of_the_ismrmrd_package_is_read(tmp_path: Path) -> None:
    encoding = Encoding((16, 12), (200.0, 200.0), (16, 12), (200.0, 200.0))
    full = encoding.kspace(Phantom())
    path = tmp_path / "package.h5"
    with ismrmrd.Dataset(str(path), mode="w") as dataset:
        dataset.write_xml_header(header_xml(encoding).encode())
        for readout in cartesian(full, encoding):
            acquisition = ismrmrd.Acquisition.from_array(readout.data, center_sample=8)
            acquisition.idx.kspace_encode_step_1 = readout.step
            acquisition.read_dir[:], acquisition.phase_dir[:], acquisition.slice_dir[:] = (
                (1, 0, 0),
                (0, 1, 0),
                (0, 0, 1),
            )
            dataset.append_acquisition(acquisition)
    (frame,), findings = frames_of(path)
    np.testing.assert_array_equal(frame.kspace / np.float32(frame.scale), full)
    assert frame.geometry is not None
    assert {finding.code for finding in findings} == {"noise-scan-missing"}


def test_our_file_is_read_by_the_ismrmrd_package(tmp_path: Path) -> None:
    """The builders of these tests write what the package reads: otherwise the other tests would prove little."""
    encoding = Encoding((16, 12), (200.0, 200.0), (16, 12), (200.0, 200.0))
    readouts = cartesian(encoding.kspace(Phantom()), encoding)
    path = write_mrd(tmp_path / "ours.h5", header_xml(encoding), readouts)
    with ismrmrd.Dataset(str(path), mode="r") as dataset:
        assert dataset.number_of_acquisitions() == 12
        np.testing.assert_array_equal(dataset.read_acquisition(5).data, readouts[5].data)
        assert ismrmrd.xsd.CreateFromDocument(dataset.read_xml_header()).encoding[0].encodedSpace.matrixSize.x == 16
