"""BART `.cfl` with its `.hdr`: complex64, column-major, up to 16 named dimensions.

BART's Fourier transform is centred, as is ours; whether it was unitary does not matter, since every frame is scaled.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recond_service.ingest.planes import check_planes, check_size, read_values
from recond_service.types import FrameIndex, InvalidInputError, KspaceScan, Limits, Part, UnsupportedDataError

_NAMES = (
    "READ",
    "PHS1",
    "PHS2",
    "COIL",
    "MAPS",
    "TE",
    "COEFF",
    "COEFF2",
    "ITER",
    "CSHIFT",
    "TIME",
    "TIME2",
    "LEVEL",
    "SLICE",
    "AVG",
    "BATCH",
)
_TE, _TIME, _SLICE = 5, 10, 13
_IMAGES = (_TE, _TIME, _SLICE)
_HEADER_BYTES = 64 << 10


def read_dimensions(part: Part) -> tuple[int, ...]:
    """Return the 16 dimensions that a `.hdr` lists; those that it leaves out are 1.

    A byte order mark, empty lines, and dimensions of 1 behind the 16 are ignored.

    Raises
    ------
    InvalidInputError
        If it is not a BART header.
    """
    with Path(part.path).open("rb") as file:
        text = file.read(_HEADER_BYTES).removeprefix(codecs.BOM_UTF8).decode("latin-1")
    lines = [line for line in map(str.strip, text.splitlines()) if line]
    place = part.name or ".hdr"
    start = next((number for number, line in enumerate(lines) if line.lower() == "# dimensions"), None)
    words = lines[start + 1].split() if start is not None and start + 1 < len(lines) else []
    while len(words) > len(_NAMES) and words[-1] == "1":
        words.pop()
    if (
        not words
        or len(words) > len(_NAMES)
        or not all(word.isascii() and word.isdigit() and len(word) < 12 for word in words)
    ):
        raise InvalidInputError(
            f"{place} has no line of dimensions after '# Dimensions': send the .hdr that BART wrote beside the .cfl.",
            reason="BART_HEADER",
            field=place,
        )
    dimensions = tuple(int(word) for word in words) + (1,) * (len(_NAMES) - len(words))
    if min(dimensions) < 1:
        raise InvalidInputError(f"{place} has an empty dimension: {dimensions}.", reason="EMPTY_AXIS", field=place)
    return dimensions


def read_bart(part: Part, header: Part | None, limits: Limits) -> KspaceScan:
    """Look at a BART file of k-space. Planes are read later.

    Rows and columns are READ and PHS1, or PHS1 and PHS2 where READ is 1 (a scan that is already transformed along the readout).
    SLICE becomes slices, TE contrasts and TIME repetitions.

    Raises
    ------
    InvalidInputError
        If there is no header, or the sizes do not fit.
    LimitExceededError
        If it claims more than the limits allow.
    UnsupportedDataError
        If it has dimensions that a 2-D scan has not.
    """
    place = part.name or ".cfl"
    if header is None:
        raise InvalidInputError(
            f"{place} came without its .hdr, which tells its dimensions: send both.", reason="BART_HEADER", field=place
        )
    dimensions = read_dimensions(header)
    first = 1 if dimensions[0] == 1 and dimensions[2] > 1 else 0
    plane_axes = (first, first + 1)
    odd = [
        f"{_NAMES[axis]} = {length}"
        for axis, length in enumerate(dimensions)
        if length > 1 and axis not in (*plane_axes, 3, *_IMAGES)
    ]
    if odd:
        raise UnsupportedDataError(
            f"{place} has {', '.join(odd)}; only READ, PHS1, COIL, TE, TIME and SLICE may be more than 1 in a 2-D scan: "
            "transform a 3-D scan along the readout first.",
            reason="BART_DIMENSIONS",
            field=place,
        )
    rows, columns, coils = dimensions[first], dimensions[first + 1], dimensions[3]
    images = math.prod(dimensions[axis] for axis in _IMAGES)
    check_planes(images, (coils, rows, columns), limits, place)
    plane = coils * rows * columns
    check_size(part, 8 * images * plane, place)
    indices = tuple(
        FrameIndex(slice=number, contrast=contrast, repetition=repetition)
        for number in range(dimensions[_SLICE])
        for repetition in range(dimensions[_TIME])
        for contrast in range(dimensions[_TE])
    )

    def planes() -> Iterator[NDArray[np.complex64]]:
        for number in range(images):
            values = read_values(part, "<c8", plane, 8 * plane * number)
            # Column-major: the fastest axis is the readout.
            yield np.ascontiguousarray(values.reshape(coils, columns, rows).transpose(0, 2, 1)).astype(
                np.complex64, copy=False
            )

    return KspaceScan(indices, (coils, rows, columns), planes, place, part.name)
