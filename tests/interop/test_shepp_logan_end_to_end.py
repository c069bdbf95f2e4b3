"""Files of the reference C++ library through the whole service, against the truth that lies in the same file."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
from recond_testing import Answer, reconstruct

GENERATOR = shutil.which("ismrmrd_generate_cartesian_shepp_logan")
pytestmark = pytest.mark.skipif(
    GENERATOR is None, reason="ismrmrd_generate_cartesian_shepp_logan (Debian ismrmrd-tools) is missing"
)


def generate(path: Path, *options: str) -> np.ndarray:
    """Write a file and return the magnitude of its phantom, (readout, phase encode)."""
    command = [str(GENERATOR), "-m", "128", "-c", "8", "-n", "0.02", "-C", *options, "-o", str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    with h5py.File(path) as file:
        phantom = file["dataset/phantom"][:].squeeze()
    return np.abs(phantom["real"] + 1j * phantom["imag"]).T


def correlation(image: np.ndarray, truth: np.ndarray) -> float:
    return float(np.corrcoef(image.ravel(), truth.ravel())[0, 1])


def best_of_flips(image: np.ndarray, truth: np.ndarray) -> tuple[int, int]:
    flips = {(row, column): image[::row, ::column] for row in (1, -1) for column in (1, -1)}
    return max(flips, key=lambda flip: correlation(flips[flip], truth))


def volume(answer: Answer) -> np.ndarray:
    assert answer.summary is not None
    return answer.volume


def test_fully_sampled_file_gives_its_phantom(stub, tmp_path):
    truth = generate(tmp_path / "full.h5", "-O", "2")
    answer = reconstruct(stub, (tmp_path / "full.h5").read_bytes())
    images = volume(answer)
    assert answer.plan[0].model == "cg-sense"
    assert images.shape == (1, 128, 128)
    assert best_of_flips(images[0], truth) == (1, 1)
    assert correlation(images[0], truth) >= 0.995


def test_twofold_undersampled_file_gives_its_phantom_by_sense(stub, tmp_path):
    truth = generate(tmp_path / "half.h5", "-O", "2", "-a", "2", "-w", "24")
    answer = reconstruct(stub, (tmp_path / "half.h5").read_bytes(), model="cg-sense")
    images = volume(answer)
    assert images.shape == (2, 128, 128)  # the tool writes one repetition for every shift of the lines
    for image in images:
        assert best_of_flips(image, truth) == (1, 1)
        assert correlation(image, truth) >= 0.98
    assert any(finding.code == "coils-whitened" for finding in answer.summary.findings)
    assert any(
        finding.code == "geometry-missing" for finding in answer.summary.findings
    )  # its direction vectors are zero
