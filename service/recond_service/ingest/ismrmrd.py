"""ISMRMRD (MRD version 1) HDF5 files.

A file has one group for each measurement (`dataset`, or `dataset_1`, `dataset_2`, ...) with the XML header in `xml` and the
readouts in `data`, a compound of `head` (the 340-byte header), `traj` and `data` (float32 of variable length, real and imaginary
parts interleaved). The last measurement with imaging readouts is the scan; a measurement before it that has only noise readouts
is its noise scan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from recond_service.ingest.acquisitions import check_encodings, offsets_of, readout_lengths
from recond_service.ingest.hdf5 import (
    child_dataset,
    child_group,
    child_names,
    h5py_errors,
    has_child,
    is_group,
    open_file,
    read_text,
)
from recond_service.ingest.header import read_header
from recond_service.ingest.records import RecordReader, RecordTable
from recond_service.types import (
    ACQUISITION_HEADER,
    AcquisitionBlock,
    AcquisitionSource,
    FindingList,
    InvalidInputError,
    LimitExceededError,
    Limits,
    Part,
    RawScan,
)

_BLOCK_BYTES = 8 << 20
_FIRST_BLOCK = 16
_LARGEST_BLOCK = 256
_HEADS_AT_ONCE = 1024
_NOISE = np.uint64(1 << 18)
# Noise, calibration alone, navigators, phase correction, feedback and dummy readouts: a measurement of nothing else has no images.
_APART = np.uint64(sum(1 << (flag - 1) for flag in (19, 20, 23, 24, 26, 27, 28)))
_WITH_IMAGES = np.uint64(1 << 20)


def measurement_groups(file: h5py.File) -> list[str]:
    """Return the names of the groups that hold raw data, in the order in which they were measured."""
    names = [name for name in child_names(file) if is_group(file, name)]
    return [name for name in names if has_child(file[name], "xml") and has_child(file[name], "data")]


def read_ismrmrd(part: Part, limits: Limits, findings: FindingList) -> RawScan:
    """Find the scan, and its noise scan, in an ISMRMRD file. Readouts are read later.

    Raises
    ------
    InvalidInputError
        If the file is not ISMRMRD, damaged, or refers to other files.
    LimitExceededError
        If it claims more than the limits allow.
    """
    with open_file(part.path, part.name) as file:
        names = measurement_groups(file)
        if not names:
            _explain_missing(file)
        chosen = _imaging_group(file, names, limits)
        source = _source(file, chosen, part, limits, findings)
        earlier = names[: names.index(chosen)]
        noise_name = next((name for name in reversed(earlier) if _only_noise(file, name, limits)), None)
        noise = None if noise_name is None else _source(file, noise_name, part, limits, FindingList())
    ignored = [name for name in names if name not in (chosen, noise_name)]
    if ignored:
        findings.warn(
            "measurements-ignored",
            f"The file has {len(names)} measurements; {chosen} is reconstructed, {', '.join(ignored[:5])} not.",
            len(ignored),
        )
    return RawScan(source, noise, part.name)


def _explain_missing(file: h5py.File) -> None:
    for name in child_names(file):
        if is_group(file, name):
            if any(member.startswith("image_") for member in child_names(file[name])):
                continue  # images with their header
            for member in ("xml", "data"):
                if not has_child(file[name], member) and (
                    has_child(file[name], "xml") or has_child(file[name], "data")
                ):
                    raise InvalidInputError(
                        f"The group {name} has no {member}: an ISMRMRD measurement needs both `xml` and `data`.",
                        reason="HDF5_MISSING",
                        field=f"{name}/{member}",
                    )
        elif name.startswith("dataset"):
            child_group(file, name)
    raise InvalidInputError(
        "The file has no group with `xml` and `data` (ISMRMRD) and no dataset `kspace` (fastMRI): it is not raw data.",
        reason="NOT_RAW_DATA",
        field="dataset",
    )


def _data(file: h5py.File, name: str, limits: Limits) -> h5py.Dataset:
    group = child_group(file, name)
    dataset = child_dataset(group, "data", limits)
    place = f"{name}/data"
    with h5py_errors(place):
        dtype = dataset.dtype
        fields = dtype.fields or {}
        fits = (
            dataset.ndim == 1
            and {"head", "traj", "data"} <= set(fields)
            and h5py.check_vlen_dtype(fields["data"][0]) == np.dtype("<f4")
            and h5py.check_vlen_dtype(fields["traj"][0]) == np.dtype("<f4")
            and _same_header(fields["head"][0])
            and all(_is_sequence(dataset, name) for name in (b"traj", b"data"))
        )
    if not fits:
        raise InvalidInputError(
            f"{place} is not a list of ISMRMRD acquisitions (head, traj, data): write the file with an ISMRMRD library.",
            reason="ACQUISITION_LAYOUT",
            field=place,
        )
    return dataset


def _is_sequence(dataset: h5py.Dataset, name: bytes) -> bool:
    """Tell whether a member is stored as a sequence of variable length.

    The library does not check the kind in a damaged datatype, and crashes on reading one that does not exist. It is in the first
    byte of the class bit field, behind two bytes of the encoding and one of version and class (HDF5 file format, IV.A.2.d).
    """
    stored = dataset.id.get_type()
    return int(stored.get_member_type(stored.get_member_index(name)).encode()[3]) == 0


def _same_header(dtype: np.dtype[np.void]) -> bool:
    """Tell whether a stored header has the fields of `ACQUISITION_HEADER`, at whatever offsets."""
    if dtype.names != ACQUISITION_HEADER.names:
        return False
    pairs = [(dtype[name], ACQUISITION_HEADER[name]) for name in ACQUISITION_HEADER.names or ()]
    pairs += [
        (dtype["idx"][name], ACQUISITION_HEADER["idx"][name])
        for name in ACQUISITION_HEADER["idx"].names or ()
        if dtype["idx"].names == ACQUISITION_HEADER["idx"].names
    ]
    return dtype["idx"].names == ACQUISITION_HEADER["idx"].names and all(
        stored == packed for stored, packed in pairs if packed.names is None
    )


def _imaging_group(file: h5py.File, names: list[str], limits: Limits) -> str:
    """Return the last measurement that has imaging readouts; of several that have none, the last with anything but noise."""
    if len(names) == 1:
        return names[0]
    latest = list(reversed(names))
    with_images = (name for name in latest if _any_readout(file, name, limits, _is_imaging))
    return next(with_images, None) or next(
        (name for name in latest if _any_readout(file, name, limits, _is_no_noise)), names[-1]
    )


def _is_imaging(flags: NDArray[np.uint64]) -> NDArray[np.bool_]:
    return np.asarray(((flags & _APART) == 0) | ((flags & _WITH_IMAGES) != 0) & ((flags & _NOISE) == 0))


def _is_no_noise(flags: NDArray[np.uint64]) -> NDArray[np.bool_]:
    return np.asarray((flags & _NOISE) == 0)


def _any_readout(
    file: h5py.File, name: str, limits: Limits, wanted: Callable[[NDArray[np.uint64]], NDArray[np.bool_]]
) -> bool:
    """Tell whether a measurement has a readout whose flags are `wanted`."""
    dataset = _data(file, name, limits)
    for start in range(0, len(dataset), _HEADS_AT_ONCE):
        with h5py_errors(f"{name}/data"):
            flags = dataset.fields("head")[start : start + _HEADS_AT_ONCE]["flags"]
        if wanted(flags).any():
            return True
    return False


def _only_noise(file: h5py.File, name: str, limits: Limits) -> bool:
    return len(_data(file, name, limits)) > 0 and not _any_readout(file, name, limits, _is_no_noise)


def _source(file: h5py.File, name: str, part: Part, limits: Limits, findings: FindingList) -> AcquisitionSource:
    header = read_header(read_text(child_group(file, name), "xml", limits), limits, findings)
    count = len(_data(file, name, limits))

    place = f"{name}/data"
    known: list[RecordTable | None] = []

    def table_of(dataset: h5py.Dataset) -> RecordTable | None:
        """Return where the records are; worked out once, since it takes a look at every chunk."""
        if not known:
            with h5py_errors(place):
                known.append(RecordTable.of(dataset, place))
        return known[0]

    def blocks() -> Iterator[AcquisitionBlock]:
        with open_file(part.path, part.name) as again:
            dataset = _data(again, name, limits)
            table = table_of(dataset)
            read = _blocks(dataset, place, limits) if table is None else _plain_blocks(part.path, table, limits)
            first = 0
            for block in read:
                check_encodings(block.headers, header, block.place, first)
                first += len(block)
                yield block

    def heads() -> Iterator[NDArray[np.void]]:
        with open_file(part.path, part.name) as again:
            dataset = _data(again, name, limits)
            table = table_of(dataset)
            yield from _heads(dataset, place) if table is None else _plain_heads(part.path, table)

    return AcquisitionSource(header, count, blocks, name, heads)


def _heads(dataset: h5py.Dataset, place: str) -> Iterator[NDArray[np.void]]:
    for start in range(0, len(dataset), _HEADS_AT_ONCE):
        with h5py_errors(place):
            stored = dataset.fields("head")[start : start + _HEADS_AT_ONCE]
        headers = np.empty(len(stored), ACQUISITION_HEADER)
        headers[...] = stored
        yield headers


def _plain_heads(path: str, table: RecordTable) -> Iterator[NDArray[np.void]]:
    with Path(path).open("rb", buffering=0) as file:
        reader = RecordReader(file.fileno(), table)
        for first in range(0, len(table.addresses), _HEADS_AT_ONCE):
            yield reader.heads(first, min(first + _HEADS_AT_ONCE, len(table.addresses)))[0]


def _plain_blocks(path: str, table: RecordTable, limits: Limits) -> Iterator[AcquisitionBlock]:
    """Read readouts in blocks of about 8 MiB, the first ones smaller, so that the first frame comes soon."""
    total, step = 0, _FIRST_BLOCK
    with Path(path).open("rb", buffering=0) as file:
        reader = RecordReader(file.fileno(), table)
        for first in range(0, len(table.addresses), _HEADS_AT_ONCE):
            headers, references = reader.heads(first, min(first + _HEADS_AT_ONCE, len(table.addresses)))
            lengths = readout_lengths(headers)
            _check_lengths(headers, lengths, references["length"].astype(np.int64), table.place, first)
            start = 0
            while start < len(headers):
                sizes = 8 * np.cumsum(lengths[start : start + step])
                stop = start + max(1, int(np.searchsorted(sizes, _BLOCK_BYTES, side="right")))
                total += 8 * int(lengths[start:stop].sum())
                _check_total(total, table.place, limits)
                samples = reader.samples(references[start:stop], first + start)
                yield AcquisitionBlock(headers[start:stop], samples, offsets_of(lengths[start:stop]), table.place)
                start, step = stop, min(4 * step, _LARGEST_BLOCK)


def _blocks(dataset: h5py.Dataset, place: str, limits: Limits) -> Iterator[AcquisitionBlock]:
    """Read readouts in blocks of about 8 MiB: enough to be fast, little enough to be held beside the frames."""
    start, step, total = 0, _FIRST_BLOCK, 0
    while start < len(dataset):
        with h5py_errors(place):
            # Readouts may grow from noise to images: the last header of the block tells whether it would be too large.
            last = dataset.fields("head")[min(start + step, len(dataset)) - 1]
            bytes_of_last = 8 * int(last["active_channels"]) * int(last["number_of_samples"])
            step = max(1, min(step, _BLOCK_BYTES // max(1, bytes_of_last)))
            rows = dataset[start : start + step]
        headers = np.empty(len(rows), ACQUISITION_HEADER)
        headers[...] = rows["head"]
        lengths = readout_lengths(headers)
        stored = np.fromiter((len(row) for row in rows["data"]), np.int64, len(rows))
        _check_lengths(headers, lengths, stored, place, start)
        total += 8 * int(lengths.sum())
        _check_total(total, place, limits)
        samples: NDArray[np.complex64] = np.concatenate(list(rows["data"])).view(np.complex64)
        del rows
        yield AcquisitionBlock(headers, samples, offsets_of(lengths), place)
        start += len(headers)
        mean = max(1, 8 * int(lengths.sum()) // len(headers))
        step = max(1, min(4 * step, _BLOCK_BYTES // mean, _LARGEST_BLOCK))


def _check_total(total: int, place: str, limits: Limits) -> None:
    if total > limits.max_scan_bytes:
        raise LimitExceededError(
            f"{place} holds more than {limits.max_scan_bytes} bytes of samples, which is what this service takes.",
            reason="SCAN_TOO_LARGE",
            field=place,
        )


def _check_lengths(
    headers: NDArray[np.void], lengths: NDArray[np.int64], stored: NDArray[np.int64], place: str, first: int
) -> None:
    wrong = stored != 2 * lengths
    if wrong.any():
        number = int(np.argmax(wrong))
        field = f"{place}[{first + number}].data"
        raise InvalidInputError(
            f"{field} has {int(stored[number])} values; {int(headers['active_channels'][number])} channels of "
            f"{int(headers['number_of_samples'][number])} complex samples have {int(2 * lengths[number])}.",
            reason="ACQUISITION_SIZE",
            field=field,
        )
