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

    Datasets ``kspace`` complex64 (images, coils, oversampled rows, columns), ``mask`` (columns,) where lines are missing,
    ``reconstruction_rss`` float32 (images, rows, columns): the truth without whitening, because this layout has no noise readouts.
    Contrasts and repetitions follow one another, averages are combined. A volume is stored as its readout positions: rows = phase
    encode, columns = partition, and no header, which could not describe them.

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
        kspace, mask = _planes(scan)
        file.create_dataset("kspace", data=kspace)
        if not mask.all():
            file.create_dataset("mask", data=mask)
            file.attrs["acceleration"] = scan.settings.acceleration
            file.attrs["num_low_frequency"] = int(scan.calibration.sum())
        _add_truth(file, scan, _as_planes(scan) if scan.settings.volume else scan.truth)


def _as_planes(scan: SimulatedScan) -> NDArray[np.float32]:
    """Return the true images of volumes at their readout positions, as `_planes` has their k-space: rows = phase encode."""
    slices, (rows, columns) = scan.settings.slices, scan.truth.shape[1:]
    volumes = scan.truth.reshape(-1, slices, rows, columns)
    return np.ascontiguousarray(volumes.transpose(0, 2, 3, 1)).reshape(-1, columns, slices)


def _planes(scan: SimulatedScan) -> tuple[NDArray[np.complex64], NDArray[np.bool_]]:
    """Return k-space (images, coils, rows, columns) in the order of the images, and its mask, (columns,) or (rows, columns).

    Averages are combined. A volume is transformed along the readout, and its oversampling is removed: rows are then the phase
    encode, columns the partitions.
    """
    settings = scan.settings
    measured = scan.kspace.reshape(
        settings.repetitions, settings.contrasts, settings.averages, settings.slices, *scan.kspace.shape[1:]
    )
    combined = measured.mean(axis=2).swapaxes(0, 1).reshape(-1, *measured.shape[3:])
    if not settings.volume:
        return combined.reshape(-1, *combined.shape[2:]).astype(np.complex64), scan.lines
    readout = np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(combined, axes=3), axis=3, norm="ortho"), axes=3)
    start = readout.shape[3] // 2 - settings.rows // 2
    planes = readout[:, :, :, start : start + settings.rows].transpose(0, 3, 2, 4, 1)
    mask = np.logical_and.outer(scan.lines, scan.partitions)
    return planes.reshape(-1, *planes.shape[2:]).astype(np.complex64), mask


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
    if not scan.settings.volume:
        file.create_dataset("ismrmrd_header", data=header.to_xml(scan))
    file.attrs["acquisition"] = _ACQUISITION
    file.attrs["max"] = float(truth.max())
    file.attrs["norm"] = float(np.linalg.norm(truth.astype(np.float64)))
    file.attrs["patient_id"] = f"simulated-{scan.settings.phantom}-{scan.settings.seed}"
