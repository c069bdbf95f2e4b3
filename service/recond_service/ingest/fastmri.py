"""fastMRI HDF5 files: k-space already sorted into slices.

`kspace` is complex64 (slices, coils, rows, columns), or (slices, rows, columns) for one coil; rows are the readout. `mask` is
(columns,) in the challenge's files and may be (rows, columns) here. `reconstruction_rss` or `reconstruction_esc` is the reference,
`ismrmrd_header` the header that the crop is taken from (fastMRI, `fastmri/data/README.md` and `mri_data.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from recond_service.ingest.hdf5 import child_dataset, h5py_errors, has_child, open_file, read_text
from recond_service.ingest.header import read_header
from recond_service.ingest.planes import check_mask_shape, check_planes, sampling_mask
from recond_service.types import (
    FindingList,
    FrameIndex,
    InvalidInputError,
    KspaceScan,
    LimitExceededError,
    Limits,
    MrdHeader,
    Part,
    ReferenceVolume,
)

_PARTS = ({"r", "i"}, {"real", "imag"})


def read_fastmri(part: Part, limits: Limits, findings: FindingList) -> KspaceScan:
    """Look at a fastMRI file. Slices are read later.

    Raises
    ------
    InvalidInputError
        If the file is damaged, refers to other files, or its datasets do not fit each other.
    LimitExceededError
        If it claims more than the limits allow.
    """
    with open_file(part.path, part.name) as file:
        dataset = child_dataset(file, "kspace", limits)
        _check_type(dataset.dtype)
        if dataset.ndim not in (3, 4):
            raise InvalidInputError(
                f"kspace has shape {dataset.shape}; it must be (slices, coils, rows, columns), or (slices, rows, columns).",
                reason="KSPACE_SHAPE",
                field="kspace",
            )
        slices = int(dataset.shape[0])
        coils = int(dataset.shape[1]) if dataset.ndim == 4 else 1
        rows, columns = (int(length) for length in dataset.shape[-2:])
        check_planes(slices, (coils, rows, columns), limits, "kspace")
        header = _header(file, limits, findings)
        mask = _mask(file, rows, columns, limits)
        reference = _reference(file, part, limits, single_coil=dataset.ndim == 3)
    if reference is not None and reference.shape[0] != slices:
        raise InvalidInputError(
            f"{reference.place} has {reference.shape[0]} images, kspace has {slices} slices: they must be as many.",
            reason="REFERENCE_SHAPE",
            field=reference.place,
        )

    def planes() -> Iterator[NDArray[np.complex64]]:
        with open_file(part.path, part.name) as again:
            stored = child_dataset(again, "kspace", limits)
            for number in range(slices):
                with h5py_errors(f"kspace[{number}]"):
                    values = stored[number]
                yield _as_complex64(values).reshape(coils, rows, columns)

    matrix = header.encodings[0].recon.matrix if header else (0, 0, 0)
    return KspaceScan(
        indices=tuple(FrameIndex(slice=number) for number in range(slices)),
        shape=(coils, rows, columns),
        planes=planes,
        place="kspace",
        name=part.name,
        mask=mask,
        padding=_padding(header, columns, findings) if header else None,
        recon_matrix=(matrix[0], matrix[1]) if matrix[0] > 0 and matrix[1] > 0 else None,
        reference=reference,
    )


def _check_type(dtype: np.dtype[Any]) -> None:
    names = set(dtype.names or ())
    compound = names in _PARTS and all(dtype[name].kind == "f" for name in names)
    if dtype.kind != "c" and not compound:
        raise InvalidInputError(
            f"kspace has values of type {dtype}; k-space is complex (fastMRI: complex64): convert it.",
            reason="KSPACE_TYPE",
            field="kspace",
        )


def _as_complex64(values: NDArray[Any]) -> NDArray[np.complex64]:
    if values.dtype.names is None:
        return values.astype(np.complex64, copy=False)
    real, imaginary = ("r", "i") if "r" in values.dtype.names else ("real", "imag")
    converted = np.empty(values.shape, np.complex64)
    converted.real = values[real]
    converted.imag = values[imaginary]
    return converted


def _header(file: h5py.File, limits: Limits, findings: FindingList) -> MrdHeader | None:
    if not has_child(file, "ismrmrd_header"):
        return None
    return read_header(read_text(file, "ismrmrd_header", limits), limits, findings)


def _mask(file: h5py.File, rows: int, columns: int, limits: Limits) -> NDArray[np.bool_] | None:
    if not has_child(file, "mask"):
        return None
    dataset = child_dataset(file, "mask", limits)
    check_mask_shape(tuple(dataset.shape or ()), rows, columns, "mask")
    with h5py_errors("mask"):
        values = dataset[()]
    return sampling_mask(values, rows, columns, "mask")


def _padding(header: MrdHeader, columns: int, findings: FindingList) -> tuple[int, int] | None:
    """Return which columns were encoded (fastMRI, `VarNetDataTransform`: padding_left and padding_right)."""
    encoding = header.encodings[0]
    limit = encoding.limits.step_1
    if limit is None or encoding.encoded.matrix[1] < 1:
        return None
    encoded = encoding.encoded.matrix[1]
    left = encoded // 2 - (encoded // 2 if limit.center is None else limit.center)
    right = left + limit.maximum + 1
    if left <= 0 and right >= columns:
        return None
    if encoded != columns:
        findings.warn(
            "padding-ignored",
            f"The header's matrix has {encoded} phase encodes, k-space {columns} columns: its padding belongs to another array and "
            "is ignored.",
        )
        return None
    if not (left < right and left < columns and right > 0):
        findings.warn(
            "padding-ignored",
            f"The header's limits put the encoded columns at {left} to {right - 1} of {columns}, which cannot be: ignored.",
        )
        return None
    return max(left, 0), min(right, columns)


def _reference(file: h5py.File, part: Part, limits: Limits, *, single_coil: bool) -> ReferenceVolume | None:
    order = (
        ("reconstruction_esc", "reconstruction_rss") if single_coil else ("reconstruction_rss", "reconstruction_esc")
    )
    return next((reference_in(part, name, limits, "file") for name in order if has_child(file, name)), None)


def reference_in(part: Part, name: str, limits: Limits, source: str) -> ReferenceVolume:
    """Return the reference images of a dataset in a fastMRI file. Images are read later.

    Parameters
    ----------
    part
        The file.
    name
        Name of a real dataset of (images, rows, columns).
    limits
        What it may claim.
    source
        For `ReferenceVolume.source`.

    Raises
    ------
    InvalidInputError
        If there is no such dataset, or it holds no images.
    LimitExceededError
        If it claims more than the limits allow.
    """
    with open_file(part.path, part.name) as file:
        dataset = child_dataset(file, name, limits)
        shape, kind = tuple(int(length) for length in dataset.shape), dataset.dtype.kind
        row_bytes = dataset.dtype.itemsize
    if len(shape) != 3 or min(shape) < 1 or kind not in "fiu":
        raise InvalidInputError(
            f"{name} has shape {shape} and kind {kind!r}; reference images are real, (images, rows, columns).",
            reason="REFERENCE_SHAPE",
            field=name,
        )
    if row_bytes * shape[1] * shape[2] > limits.max_frame_bytes or shape[0] > limits.max_images:
        raise LimitExceededError(f"{name} claims too much: shape {shape}.", reason="FRAME_TOO_LARGE", field=name)

    def images() -> Iterator[NDArray[np.float32]]:
        with open_file(part.path, part.name) as again:
            stored = child_dataset(again, name, limits)
            for number in range(shape[0]):
                with h5py_errors(f"{name}[{number}]"):
                    values = stored[number]
                yield values.astype(np.float32)

    return ReferenceVolume((shape[0], shape[1], shape[2]), images, source, name)
