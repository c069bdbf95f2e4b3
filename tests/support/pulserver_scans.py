"""What pulserver's virtual scanner scans: spheres at known places, in slices of any orientation.

It lives in an environment of its own (`make interop-venv`). The physical axes of its scanner point to the patient's left, to the
back and to the head, which are the axes of MRD (LPS).
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
HOME = Path(os.environ.get("RECOND_PULSERVER", ROOT / ".venv-pulserver"))
PYTHON = HOME / "bin" / "python"
PULSERVER = HOME / "bin" / "pulserver"
needs_pulserver = pytest.mark.skipif(
    not PULSERVER.exists(), reason=f"pulserver is not installed in {HOME}: make interop-venv"
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


def environment() -> dict[str, str]:
    """Variables to run it with."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}


def run(folder: Path, *command: object) -> str:
    """Run a command of its environment in a folder; return what it prints."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def scan_command(folder: Path, protocol: Protocol) -> list[object]:
    """Write what a scan is prescribed by into a folder; return the command that scans it, without where the series goes."""
    (folder / "limits").write_text(block("Limits", LIMITS))
    (folder / "protocol").write_text(block("Protocol", protocol.values))
    (folder / "phantom.json").write_text(json.dumps(phantom()))
    where = run(folder, PYTHON, "-c", "import pulserver, pathlib; print(pathlib.Path(pulserver.__file__).parent)")
    return [
        *(PULSERVER, "scan", "--plugin", protocol.plugin, "--plugins", f"{where.strip()}/_zoo/sequences"),
        *("--protocol", "protocol", "--limits", "limits", "--store", "store", "--device", "cpu"),
        *("--phantom", "phantom.json", "--coils", "2", "--spacing", protocol.spacing),
        *("--rotation", *(f"{value:.9f}" for value in protocol.rotation.ravel())),
        *("--center", *protocol.center),
    ]
