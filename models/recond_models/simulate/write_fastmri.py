"""Simulated scans and true images in the HDF5 layout of fastMRI (Zbontar et al. 2018, arXiv:1811.08839)."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from recond_models.simulate import header
from recond_models.simulate.scan import SimulatedScan

_ACQUISITION = "AXT1"


def write(scan: SimulatedScan, path: Path) -> None:
    """Write k-space, mask and true images.

    Datasets ``kspace`` complex64 (slices, coils, oversampled rows, columns), ``mask`` (columns,) where lines are missing,
    ``reconstruction_rss`` float32 (slices, rows, columns): the truth without whitening, because this layout has no noise readouts.

    Parameters
    ----------
    scan
        What to write.
    path
        The file; it is replaced if it exists.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    with h5py.File(path, "w") as file:
        file.create_dataset("kspace", data=scan.kspace)
        if not scan.lines.all():
            file.create_dataset("mask", data=scan.lines)
            file.attrs["acceleration"] = scan.settings.acceleration
            file.attrs["num_low_frequency"] = int(scan.calibration.sum())
        _add_truth(file, scan, scan.truth)


def write_truth(scan: SimulatedScan, path: Path, *, whitened: bool) -> None:
    """Write the true images alone, to score reconstructions against.

    Parameters
    ----------
    scan
        Whose truth.
    path
        The file; it is replaced if it exists.
    whitened
        The truth for a reconstruction that whitens the coils with the noise readouts: other weights of the coils, other units.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    with h5py.File(path, "w") as file:
        _add_truth(file, scan, scan.whitened_truth if whitened else scan.truth)


def _add_truth(file: h5py.File, scan: SimulatedScan, truth: NDArray[np.float32]) -> None:
    """Write the true images, the header and the attributes."""
    file.create_dataset("reconstruction_rss", data=truth)
    file.create_dataset("ismrmrd_header", data=header.to_xml(scan))
    file.attrs["acquisition"] = _ACQUISITION
    file.attrs["max"] = float(truth.max())
    file.attrs["norm"] = float(np.linalg.norm(truth.astype(np.float64)))
    file.attrs["patient_id"] = f"simulated-{scan.settings.phantom}-{scan.settings.seed}"
