"""Scans in files, written by the PyPI package ismrmrd."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import ismrmrd
from mrd_streams import XML, acquisition, waveform

SLICES, LINES, COILS, SAMPLES = 3, 8, 2, 16


def noise(**fields: Any) -> ismrmrd.Acquisition:
    made = acquisition(COILS, 32, **fields)
    made.set_flag(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)
    return made


def slices(ticks: int = 1, begin: int = 100) -> list[ismrmrd.Acquisition]:
    """Return the lines of some slices, one after the other, `ticks` ticks apart."""
    made = []
    for number in range(SLICES * LINES):
        line = acquisition(COILS, SAMPLES, scan_counter=number, acquisition_time_stamp=begin + ticks * number)
        line.data[:] *= 1 + number
        line.idx.slice, line.idx.kspace_encode_step_1 = divmod(number, LINES)
        if line.idx.kspace_encode_step_1 == LINES - 1:
            line.set_flag(ismrmrd.ACQ_LAST_IN_SLICE)
        made.append(line)
    return made


def waves() -> list[ismrmrd.Waveform]:
    """Return waveforms before the scan, between its lines, and behind it."""
    return [
        waveform(2, 5, scan_counter=number, time_stamp=stamp) for number, stamp in enumerate((50, 104, 104, 110, 500))
    ]


def write_scan(
    path: Path,
    acquisitions: list[ismrmrd.Acquisition] | None = None,
    waveforms: list[ismrmrd.Waveform] | None = None,
    *,
    xml: str | None = XML,
    parameters: str = "",
) -> Path:
    """Write a file; without acquisitions given, of `slices`."""
    dataset = ismrmrd.Dataset(path, mode="w")
    if xml is not None:
        dataset.write_xml_header(xml.encode())
    for one in slices() if acquisitions is None else acquisitions:
        dataset.append_acquisition(one)
    for wave in waveforms or []:
        dataset.append_waveform(wave)
    dataset.close()
    if parameters:
        with h5py.File(path, "a") as file:
            file.create_dataset("dataset/configAdditional", (1,), h5py.string_dtype())[0] = parameters
    return path
