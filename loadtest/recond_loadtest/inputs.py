"""What is sent, made once before the run and held in memory: simulated scans, files, and what is wrong with some of them."""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from recond_loadtest.planned import Fault
from recond_loadtest.request_class import InputSettings
from recond_loadtest.scenario import Scenario
from recond_loadtest.toml_reader import ScenarioError
from recond_models.simulate import write_fastmri, write_ismrmrd
from recond_models.simulate.head import HeadNotFoundError
from recond_models.simulate.scan import ScanSettings, SimulatedScan, simulate

_KEPT_OF_TRUNCATED: Final = 0.6


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """One input.

    Parameters
    ----------
    settings
        What it was made from.
    kspace
        complex64 (slices, coils, rows, columns), centred, zero where nothing was measured; None for a file of unknown content.
    lines
        bool (columns,), the measured lines; None as above.
    file
        The bytes of a raw file to send in place of the arrays, or None.
    file_name
        Name that the file is sent under.
    """

    settings: InputSettings
    kspace: NDArray[np.complex64] | None
    lines: NDArray[np.bool_] | None
    file: bytes | None = None
    file_name: str = ""

    @property
    def frames(self) -> int:
        """Number of images to expect; 0 if that is not known."""
        return 0 if self.kspace is None else len(self.kspace)

    @property
    def size(self) -> int:
        """Bytes that are uploaded."""
        if self.file is not None or self.kspace is None or self.lines is None:
            return len(self.file or b"")
        return self.kspace.nbytes + self.lines.nbytes


Inputs = dict[InputSettings, Scan]


def prepare_inputs(scenario: Scenario) -> Inputs:
    """Make every input of a scenario once.

    Raises
    ------
    ScenarioError
        An input cannot be simulated or read.
    """
    inputs: Inputs = {}
    for kind in scenario.classes:
        for number, settings in enumerate(kind.inputs):
            if settings not in inputs:
                try:
                    inputs[settings] = _make(settings)
                except (ValueError, OSError, HeadNotFoundError) as error:
                    raise ScenarioError(f"classes.{kind.name}.inputs[{number}]: {error}") from error
    return inputs


def faulty(scan: Scan, fault: Fault) -> Scan:
    """Return what is sent in place of a scan with a fault: values that are not numbers, or a file that was cut off."""
    if fault == "poison" and scan.kspace is not None and scan.lines is not None:
        kspace = scan.kspace.copy()
        # One readout of one coil: as a broken receive chain would leave it.
        kspace[0, 0, :, int(np.flatnonzero(scan.lines)[0])] = np.nan
        return dataclasses.replace(scan, kspace=kspace, file=None)
    if fault in {"poison", "truncate"}:
        file = scan.file if scan.file is not None else _fastmri_bytes(_simulate(scan.settings))
        return dataclasses.replace(
            scan, file=file[: int(_KEPT_OF_TRUNCATED * len(file))], file_name=scan.file_name or "scan.h5"
        )
    return scan


def _make(settings: InputSettings) -> Scan:
    if settings.file is not None:
        return Scan(settings, None, None, settings.file.read_bytes(), settings.file.name)
    scan = _simulate(settings)
    if settings.format == "array":
        return Scan(settings, scan.kspace, scan.lines)
    file = _fastmri_bytes(scan) if settings.format == "fastmri" else _ismrmrd_bytes(scan)
    return Scan(settings, scan.kspace, scan.lines, file, "scan.h5")


def _simulate(settings: InputSettings) -> SimulatedScan:
    return simulate(
        ScanSettings(
            coils=settings.coils,
            slices=settings.slices,
            rows=settings.rows,
            columns=settings.columns,
            acceleration=settings.acceleration,
            calibration_lines=settings.calibration_lines,
            pattern=settings.pattern,
            noise=settings.noise,
            phantom=settings.phantom,
            seed=settings.seed,
            oversampling=1,
        )
    )


def _fastmri_bytes(scan: SimulatedScan) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.h5"
        write_fastmri.write(scan, path)
        return path.read_bytes()


def _ismrmrd_bytes(scan: SimulatedScan) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.h5"
        write_ismrmrd.write(scan, path, interleaved=False)
        return path.read_bytes()
