"""Simulated scans as ISMRMRD HDF5 files (Inati et al. 2017, doi:10.1002/mrm.26089)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ismrmrd import constants
from ismrmrd.hdf5 import acquisition_dtype, acquisition_header_dtype
from numpy.typing import NDArray

from recond_models.simulate import header
from recond_models.simulate.scan import NOISE_DWELL_US, READOUT_DWELL_US, SimulatedScan

Headers = NDArray[np.void]

_VERSION = 1
_TICK_MS = 2.5  # of time stamps, as Siemens scanners count


def write(
    scan: SimulatedScan, path: Path, *, interleaved: bool = False, group: str = "dataset", line_ms: float = 10.0
) -> None:
    """Write a scan.

    Noise readouts (flag 19) come first, then the measured lines slice by slice; lines of the calibration block carry flag 21.
    The true images are beside the group, in the dataset ``truth``: float32 (slices, rows, columns), of whitened coils if there are
    noise readouts, ordered by position along the slice direction.

    Parameters
    ----------
    scan
        What to write.
    path
        The file; it is replaced if it exists.
    interleaved
        Measure every second slice first, and number the slices in that order, as scanners do.
    group
        HDF5 group of the acquisitions.
    line_ms
        Time from one readout to the next in ms; their time stamps count steps of 2.5 ms, from 0 on.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    order = np.arange(scan.settings.slices)
    interleaved = interleaved and not scan.settings.volume
    if interleaved:
        order = np.concatenate([order[::2], order[1::2]])
    noise_headers, noise_data = _noise_readouts(scan)
    imaging_headers, imaging_data = _imaging_readouts(scan, order)
    heads = np.concatenate([noise_headers, imaging_headers])
    heads["scan_counter"] = np.arange(heads.size)
    heads["acquisition_time_stamp"] = np.round(np.arange(heads.size) * (line_ms / _TICK_MS))
    records = np.empty(heads.size, dtype=acquisition_dtype)
    records["head"] = heads
    no_trajectory = np.empty(0, dtype=np.float32)
    for number, samples in enumerate([*noise_data, *imaging_data]):
        records["traj"][number] = no_trajectory
        records["data"][number] = np.ascontiguousarray(samples, dtype=np.complex64).view(np.float32).reshape(-1)
    with h5py.File(path, "w") as file:
        file.create_dataset(
            f"{group}/xml",
            data=np.array([header.to_xml(scan)], dtype=object),
            dtype=h5py.special_dtype(vlen=bytes),
            maxshape=(None,),
        )
        file.create_dataset(f"{group}/data", data=records, maxshape=(None,), chunks=(1,))
        truth = file.create_dataset("truth", data=scan.whitened_truth)
        truth.attrs["description"] = "root sum of squares of the noise-free, fully sampled, whitened coil images"


def _noise_readouts(scan: SimulatedScan) -> tuple[Headers, list[NDArray[Any]]]:
    """Return headers and data (coils, samples) of the noise readouts."""
    samples = scan.settings.oversampling * scan.settings.rows
    count = scan.noise_samples.shape[1] // samples
    heads = _headers(scan, count)
    heads["flags"] = _bit(constants.ACQ_IS_NOISE_MEASUREMENT)
    heads["sample_time_us"] = NOISE_DWELL_US
    return heads, [scan.noise_samples[:, start * samples : (start + 1) * samples] for start in range(count)]


def _imaging_readouts(scan: SimulatedScan, order: NDArray[np.int64]) -> tuple[Headers, list[NDArray[Any]]]:
    """Return headers and data (coils, samples) of the measured lines, slices or partitions in the given order."""
    settings = scan.settings
    order = order[scan.partitions[order]]
    columns = np.flatnonzero(scan.lines)
    first_column, _, _ = header.encoding_limits(scan)
    shape = (settings.repetitions, settings.contrasts, settings.averages, order.size, columns.size)
    heads = _headers(scan, int(np.prod(shape)))
    heads["sample_time_us"] = READOUT_DWELL_US
    table = heads.reshape(shape)
    counters = np.indices(shape)
    table["idx"]["kspace_encode_step_1"] = columns[counters[4]] - first_column
    for name, axis in (("repetition", 0), ("contrast", 1), ("average", 2)):
        table["idx"][name] = counters[axis]
    table["flags"][..., scan.calibration[columns]] |= _bit(constants.ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING)
    if settings.volume:
        table["idx"]["kspace_encode_step_2"] = order[counters[3]] - order.min()
        table["position"] = scan.positions[settings.slices // 2]
        table["flags"][:, :, :, 0, 0] |= _bit(constants.ACQ_FIRST_IN_SLICE)
        table["flags"][:, :, :, -1, -1] |= _bit(constants.ACQ_LAST_IN_SLICE)
    else:
        table["idx"]["slice"] = counters[3]
        table["position"] = scan.positions[order[counters[3]]]
        table["flags"][..., 0] |= _bit(constants.ACQ_FIRST_IN_SLICE)
        table["flags"][..., -1] |= _bit(constants.ACQ_LAST_IN_SLICE)
    table["flags"][..., 0] |= _bit(constants.ACQ_FIRST_IN_ENCODE_STEP1)
    table["flags"][..., -1] |= _bit(constants.ACQ_LAST_IN_ENCODE_STEP1)
    table["flags"][:, -1, -1, -1, -1] |= _bit(constants.ACQ_LAST_IN_REPETITION)
    heads["flags"][-1] |= _bit(constants.ACQ_LAST_IN_MEASUREMENT)
    kspace = scan.kspace.reshape(-1, settings.slices, *scan.kspace.shape[1:])
    return heads, [
        kspace[number, place, :, :, column] for number in range(len(kspace)) for place in order for column in columns
    ]


def _headers(scan: SimulatedScan, count: int) -> Headers:
    """Return headers with what all readouts share."""
    settings = scan.settings
    heads = np.zeros(count, dtype=acquisition_header_dtype)
    heads["version"] = _VERSION
    heads["measurement_uid"] = 1
    heads["number_of_samples"] = settings.oversampling * settings.rows
    heads["center_sample"] = settings.oversampling * settings.rows // 2
    heads["available_channels"] = heads["active_channels"] = settings.coils
    heads["channel_mask"][:, 0] = np.uint64((1 << settings.coils) - 1)
    heads["read_dir"] = scan.read_direction
    heads["phase_dir"] = scan.phase_direction
    heads["slice_dir"] = scan.slice_direction
    return heads


def _bit(flag: int) -> np.uint64:
    """Return the bit of a flag: flags count from 1."""
    return np.uint64(1 << (flag - 1))
