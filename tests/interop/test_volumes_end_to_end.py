"""Simulated 3-D scans through the whole service: frames with two-dimensional masks reach the models, images come back in order."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
from recond_testing import reconstruct

from recond.v1 import reconstruction_pb2 as pb
from recond_models.simulate import write_ismrmrd
from recond_models.simulate.scan import ScanSettings, simulate


@pytest.mark.parametrize(("acceleration", "model"), [(1, "rss"), (1, "auto"), (2, "cg-sense")])
def test_a_volume_gives_its_truth(stub, tmp_path: Path, acceleration: int, model: str) -> None:
    settings = ScanSettings(
        coils=6,
        slices=32,
        rows=40,
        columns=48,
        acceleration=acceleration,
        calibration_lines=16,
        phantom="shepp-logan",
        volume=True,
        noise=0.002,
    )
    scan = simulate(settings)
    path = tmp_path / "volume.h5"
    write_ismrmrd.write(scan, path)
    answer = reconstruct(stub, path.read_bytes(), model=model, outputs=[pb.OUTPUT_FORMAT_NIFTI])
    assert answer.summary is not None
    images = answer.volume
    assert images.shape == scan.whitened_truth.shape == (32, 40, 48)
    middle = slice(4, 28)
    assert np.corrcoef(images[middle].ravel(), scan.whitened_truth[middle].ravel())[0, 1] > 0.98
    (data,) = answer.files.values()
    nifti = nibabel.Nifti1Image.from_bytes(gzip.decompress(bytes(data)))
    assert nifti.shape == (40, 48, 32)
    # Readout to the back, phase encode to the left, partitions downwards.
    np.testing.assert_allclose(nifti.affine[:3, 0] / 6.0, [0, -1, 0], atol=1e-5)
    np.testing.assert_allclose(nifti.affine[:3, 1] / 5.0, [-1, 0, 0], atol=1e-5)
    np.testing.assert_allclose(nifti.affine[:3, 2] / scan.slice_spacing, [0, 0, -1], atol=1e-5)
