"""pulserver, a third-party virtual scanner: spheres at known places come out at these places, whatever the slices' orientation.

It lives in an environment of its own (`make interop-venv`). The physical axes of its scanner point to the patient's left, to the
back and to the head, which are the axes of MRD (LPS); those of NIfTI point to the right, to the front and to the head.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest
from recond_testing import Service
from scipy import ndimage

import recond_client

ROOT = Path(__file__).parents[2]
HOME = Path(os.environ.get("RECOND_PULSERVER", ROOT / ".venv-pulserver"))
PYTHON = HOME / "bin" / "python"
pytestmark = pytest.mark.skipif(
    not (HOME / "bin" / "pulserver").exists(), reason=f"pulserver is not installed in {HOME}: make interop-venv"
)

LIMITS = {
    "B0": 3.0,
    "max_grad": 40,
    "grad_unit": "mT/m",
    "max_slew": 150,
    "slew_unit": "T/m/s",
    "design_max_grad": 20,
    "design_max_slew": 80,
}
SPHERES = (((20, -10, 5), 18), ((-35, 25, -8), 13), ((10, 40, 12), 10), ((-20, -45, -4), 8))
"""Centre in mm along the physical axes, and radius in mm."""


def rotation(axis: Sequence[float], degrees: float) -> np.ndarray:
    """The matrix of a right-handed rotation (Rodrigues)."""
    x, y, z = np.asarray(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


@dataclass(frozen=True)
class Protocol:
    """What is scanned.

    `rotation` has the directions of readout, phase encode and slice as its columns; `center` is in mm.
    """

    plugin: str
    values: dict[str, float]
    rotation: np.ndarray
    center: tuple[float, float, float]
    spacing: float


GRE = {
    "nx": 64,
    "ny": 48,
    "nslices": 16,
    "slice_thickness": 5.0,
    "slice_spacing": 1.0,
    "fov": 200.0,
    "phase_fov": 150.0,
}
MPRAGE = {"nx": 48, "ny": 40, "nslices": 32, "slice_thickness": 4.0, "fov": 192.0, "phase_fov": 160.0}
SAGITTAL = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
SCANS = {
    "oblique gradient echo": Protocol("gre2d", {**GRE, "TR": 150000}, rotation((1, 2, 3), 25), (7, -6, 4), 2.0),
    "mprage": Protocol("mprage3d", MPRAGE, SAGITTAL, (4, -6, 3), 2.0),
    "oblique mprage": Protocol("mprage3d", MPRAGE, rotation((1, -1, 2), 15) @ SAGITTAL, (-5, 3, 2), 2.0),
}


@dataclass(frozen=True)
class Scan:
    """Files of a scan: as the scanner streams it, and with what its proxy adds."""

    protocol: Protocol
    bare: Path
    whole: Path


def block(name: str, values: dict) -> str:
    return "\n".join([f"[{name}]", *(f"{key}: {value}" for key, value in values.items()), f"[{name} End]"]) + "\n"


def phantom() -> dict:
    """Spheres as stacks of the thin disks that the scanner's phantoms are made of, one for every millimetre."""
    disks = [
        {
            "centre": [x / 1e3, y / 1e3, (z + height) / 1e3],
            "semi_axes": [np.sqrt(radius**2 - height**2) / 1e3] * 2,
            "t1": 0.5,
            "t2": 0.1,
        }
        for (x, y, z), radius in SPHERES
        for height in range(-radius + 1, radius)
    ]
    return {"ellipses": disks}


def scanned(folder: Path, protocol: Protocol) -> Scan:
    (folder / "limits").write_text(block("Limits", LIMITS))
    (folder / "protocol").write_text(block("Protocol", protocol.values))
    (folder / "phantom.json").write_text(json.dumps(phantom()))
    where = subprocess.run(
        [PYTHON, "-c", "import pulserver, pathlib; print(pathlib.Path(pulserver.__file__).parent)"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    command = [
        *(HOME / "bin" / "pulserver", "scan", "--plugin", protocol.plugin, "--plugins", f"{where}/_zoo/sequences"),
        *("--protocol", "protocol", "--limits", "limits", "--store", "store", "--mrd", "bare.h5", "--device", "cpu"),
        *("--phantom", "phantom.json", "--coils", "2", "--spacing", str(protocol.spacing)),
        *("--rotation", *(f"{value:.9f}" for value in protocol.rotation.ravel())),
        *("--center", *map(str, protocol.center)),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    for each in (command, [PYTHON, Path(__file__).with_name("pulserver_scan.py"), "bare.h5", "store", "whole.h5"]):
        done = subprocess.run(
            [str(word) for word in each],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
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
