"""pulserver, a third-party virtual scanner: spheres at known places come out at these places, whatever the slices' orientation.

It lives in an environment of its own (`make interop-venv`). The physical axes of its scanner point to the patient's left, to the
back and to the head, which are the axes of MRD (LPS); those of NIfTI point to the right, to the front and to the head.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pulserver_scans import PYTHON, SCANS, SPHERES, Protocol, needs_pulserver, run, scan_command
from recond_testing import Service
from scipy import ndimage

import recond_client

pytestmark = needs_pulserver


@dataclass(frozen=True)
class Scan:
    """Files of a scan: as the scanner streams it, and with what its proxy adds."""

    protocol: Protocol
    bare: Path
    whole: Path


def scanned(folder: Path, protocol: Protocol) -> Scan:
    run(folder, *scan_command(folder, protocol), "--mrd", "bare.h5")
    run(folder, PYTHON, Path(__file__).with_name("pulserver_scan.py"), "bare.h5", "store", "whole.h5")
    return Scan(protocol, folder / "bare.h5", folder / "whole.h5")


@pytest.fixture(scope="module", params=list(SCANS))
def scan(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scan:
    return scanned(tmp_path_factory.mktemp("pulserver"), SCANS[request.param])


def places(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Volumes (voxels) and centres of mass (LPS, mm) of the spheres in a NIfTI file, the largest first."""
    image = nibabel.load(path)
    values = np.asarray(image.dataobj)
    labels, count = ndimage.label(values > 0.35 * values.max())
    sizes = ndimage.sum_labels(labels > 0, labels, range(1, count + 1))
    order = np.argsort(sizes)[::-1][: len(SPHERES)]
    voxels = np.array(ndimage.center_of_mass(values, labels, order + 1))
    world = nibabel.affines.apply_affine(image.affine, voxels)
    return sizes[order], world * (-1, -1, 1)


def test_spheres_are_where_they_are(service: Service, scan: Scan, tmp_path: Path) -> None:
    with recond_client.Client(service.address) as client:
        result = client.reconstruct(scan.whole, model="rss", outputs=(".nii.gz",))
    path = result.save(tmp_path / "out.nii.gz")
    _, found = places(path)
    expected = np.array([center for center, _ in SPHERES], float)
    assert found.shape == expected.shape
    # The phantom is sampled every 2 mm, and voxels are 4 mm: half a voxel, or a flip, would be seen.
    np.testing.assert_allclose(found, expected, atol=0.8)
    spacing = nibabel.affines.voxel_sizes(nibabel.load(path).affine)
    values = scan.protocol.values
    thickness = values["slice_thickness"] + values.get("slice_spacing", 0)
    pixels = [values["fov"] / values["nx"], values["phase_fov"] / values["ny"], thickness]
    np.testing.assert_allclose(sorted(spacing), sorted(pixels), rtol=1e-3)
    assert not {finding.code for finding in result.findings} & {"geometry-missing"}


def test_the_bare_stream_is_refused(service: Service, scan: Scan) -> None:
    """The scanner's own stream: no flags, no counters, a matrix of 1 x 1 x 1."""
    with recond_client.Client(service.address) as client, pytest.raises(recond_client.InputError) as caught:
        client.reconstruct(scan.bare)
    assert caught.value.reason == "MATRIX_MISSING"
    assert "1 x 1 x 1" in caught.value.message
