"""Checks that all sources of planes share: sizes on paper and on disk, sampling masks."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recond_service.types import InvalidInputError, LimitExceededError, Limits, Part


def check_planes(images: int, shape: tuple[int, int, int], limits: Limits, place: str) -> None:
    """Check what k-space claims before anything of it is allocated.

    Parameters
    ----------
    images
        Number of planes.
    shape
        (coils, rows, columns) of every plane.
    limits
        What the request may claim.
    place
        How messages name the array.

    Raises
    ------
    InvalidInputError
        If an axis is empty.
    LimitExceededError
        If there are too many images, or a frame or the whole is too large.
    """
    if images < 1 or min(shape) < 1:
        raise InvalidInputError(
            f"{place} has {images} images of shape {shape} (coils, rows, columns): no axis may be empty.",
            reason="EMPTY_AXIS",
            field=place,
        )
    frame = 8 * math.prod(shape)
    for claimed, most, what, reason in (
        (images, limits.max_images, "images", "TOO_MANY_IMAGES"),
        (frame, limits.max_frame_bytes, "bytes for one image", "FRAME_TOO_LARGE"),
        (images * frame, limits.max_scan_bytes, "bytes", "SCAN_TOO_LARGE"),
    ):
        if claimed > most:
            raise LimitExceededError(
                f"{place} claims {claimed} {what} ({images} of {shape}); this service takes {most}.",
                reason=reason,
                field=place,
            )


def check_size(part: Part, expected: int, place: str) -> None:
    """Check that a part has the size that its axis lengths give.

    Raises
    ------
    InvalidInputError
        If it has not.
    """
    size = Path(part.path).stat().st_size
    if size != expected:
        raise InvalidInputError(
            f"{place} has {size} bytes; its axis lengths give {expected}: send the whole array, or correct its shape.",
            reason="SIZE_MISMATCH",
            field=place,
        )


def read_values(part: Part, dtype: str, count: int, offset: int = 0) -> NDArray[np.generic]:
    """Read `count` values of `dtype` from `offset` bytes on, as an array of its own.

    Raises
    ------
    InvalidInputError
        If the part ends before.
    """
    values: NDArray[np.generic] = np.fromfile(part.path, dtype, count, offset=offset)
    if len(values) != count:
        raise InvalidInputError(
            f"{part.name or 'the part'} ends before byte {offset + count * np.dtype(dtype).itemsize}: send the whole file.",
            reason="SIZE_MISMATCH",
            field=part.name,
        )
    return values


def check_mask_shape(shape: tuple[int, ...], rows: int, columns: int, place: str) -> None:
    """Check that a mask has the shape (columns,), (1, columns) or (rows, columns).

    Raises
    ------
    InvalidInputError
        If it has not.
    """
    if shape not in {(columns,), (1, columns), (rows, columns)}:
        raise InvalidInputError(
            f"{place} has shape {shape}; k-space with {rows} rows and {columns} columns needs ({columns},) or ({rows}, {columns}).",
            reason="MASK_SHAPE",
            field=place,
        )


def sampling_mask(values: NDArray[np.generic], rows: int, columns: int, place: str) -> NDArray[np.bool_]:
    """Return a mask of (rows, columns) from one of (columns,), (1, columns) or (rows, columns).

    Raises
    ------
    InvalidInputError
        If its shape does not fit, or it holds anything but 0 and 1.
    """
    check_mask_shape(values.shape, rows, columns, place)
    if values.dtype.kind not in "buif" or not np.isin(values, (0, 1)).all():
        raise InvalidInputError(
            f"{place} holds values other than 0 and 1: a mask is 1 where k-space was measured.",
            reason="MASK_VALUES",
            field=place,
        )
    return np.ascontiguousarray(np.broadcast_to(values != 0, (rows, columns)))
