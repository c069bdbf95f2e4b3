"""Bare arrays: little-endian values in C order whose shape the request tells."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from recond_service.ingest.planes import check_mask_shape, check_planes, check_size, read_values, sampling_mask
from recond_service.types import (
    FrameIndex,
    InvalidInputError,
    KspaceScan,
    LimitExceededError,
    Limits,
    Part,
    ReferenceVolume,
)


def read_array(part: Part, limits: Limits) -> KspaceScan:
    """Look at an array of k-space, complex64 (slices, coils, rows, columns). Slices are read later.

    Raises
    ------
    InvalidInputError
        If the shape is none of k-space, or does not fit the size.
    LimitExceededError
        If it claims more than the limits allow.
    """
    place = part.name or "kspace"
    if len(part.shape) != 4:
        raise InvalidInputError(
            f"The k-space array has shape {part.shape}; it must be (slices, coils, rows, columns).",
            reason="KSPACE_SHAPE",
            field="parts.shape",
        )
    slices, coils, rows, columns = part.shape
    check_planes(slices, (coils, rows, columns), limits, place)
    plane = coils * rows * columns
    check_size(part, 8 * slices * plane, place)

    def planes() -> Iterator[NDArray[np.complex64]]:
        for number in range(slices):
            values = read_values(part, "<c8", plane, 8 * plane * number)
            yield values.astype(np.complex64, copy=False).reshape(coils, rows, columns)

    indices = tuple(FrameIndex(slice=number) for number in range(slices))
    return KspaceScan(indices, (coils, rows, columns), planes, place, part.name)


def read_mask(part: Part, rows: int, columns: int) -> NDArray[np.bool_]:
    """Return the mask (rows, columns) of an array of (columns,) or (rows, columns), one byte for each value.

    Raises
    ------
    InvalidInputError
        If its shape or its values are none of a mask for these k-space axes.
    """
    place = part.name or "mask"
    check_mask_shape(part.shape, rows, columns, place)
    count = math.prod(part.shape)
    check_size(part, count, place)
    return sampling_mask(read_values(part, "u1", count).reshape(part.shape), rows, columns, place)


def read_reference_array(part: Part, limits: Limits) -> ReferenceVolume:
    """Look at an array of reference images, float32 (images, rows, columns). Images are read later.

    Raises
    ------
    InvalidInputError
        If the shape is none of a volume, or does not fit the size.
    LimitExceededError
        If it claims more than the limits allow.
    """
    place = part.name or "reference"
    if len(part.shape) != 3 or min(part.shape) < 1:
        raise InvalidInputError(
            f"The reference array has shape {part.shape}; it must be (images, rows, columns).",
            reason="REFERENCE_SHAPE",
            field="parts.shape",
        )
    count, rows, columns = part.shape
    if 4 * math.prod(part.shape) > limits.max_scan_bytes or 4 * rows * columns > limits.max_frame_bytes:
        raise LimitExceededError(f"{place} claims too much: shape {part.shape}.", reason="SCAN_TOO_LARGE", field=place)
    check_size(part, 4 * count * rows * columns, place)

    def images() -> Iterator[NDArray[np.float32]]:
        for number in range(count):
            values = read_values(part, "<f4", rows * columns, 4 * rows * columns * number)
            yield values.astype(np.float32, copy=False).reshape(rows, columns)

    return ReferenceVolume((count, rows, columns), images, "reference file", place)
