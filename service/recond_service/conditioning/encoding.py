"""What an encoding of the header means for frames: the grid, where its centre is, which part of it becomes the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recond_service.types import (
    Encoding,
    FindingList,
    InvalidInputError,
    Limit,
    LimitExceededError,
    MrdHeader,
    ScanRequest,
    UnsupportedDataError,
    Window,
)

_SAME = 1e-3  # relative difference below which two fields of view are taken for one


@dataclass(frozen=True, slots=True)
class Positions:
    """Which pixels along the readout become images of a 3-D scan.

    Parameters
    ----------
    first, count
        Pixels ``[first, first + count)`` of the readout without oversampling show the wanted field of view.
    images
        How many images are made of them; where that is not `count`, by interpolation.
    """

    first: int
    count: int
    images: int


@dataclass(frozen=True, slots=True)
class EncodingPlan:
    """The grid of an encoding, and the images that come of it.

    A frame of a 2-D encoding has rows = readout, columns = phase encode. A 3-D encoding is transformed along the readout and
    becomes one frame for each readout position, with rows = phase encode, columns = partition.

    Parameters
    ----------
    number
        Which encoding of the header.
    encoded_rows
        Readout samples of the encoded grid, oversampling included.
    rows
        Readout samples without oversampling.
    columns, partitions
        Phase encodes and partitions of the encoded grid; `partitions` is 1 for a 2-D encoding.
    step_1, step_2
        Limits of the phase-encode counters.
    image_shape, window
        As in `Frame`.
    positions
        Readout positions that become images of a 3-D encoding, None for a 2-D encoding.
    spacing
        Pixel size of the finished volume along readout, phase encode and partition (or the slice thickness), mm; 0 where the header
        does not say.
    field_of_view
        Of readout without oversampling, phase encode and, for a 3-D encoding, partition, mm; 0 where the header does not say.
    averages, last_average
        Number of averages that the header announces, and the counter of the last one.
    averages_announced
        Whether it does.
    embedded_calibration
        Calibration-only readouts lie on the grid of the image.
    """

    number: int
    encoded_rows: int
    rows: int
    columns: int
    partitions: int
    step_1: Limit
    step_2: Limit
    image_shape: tuple[int, int]
    window: Window | None
    positions: Positions | None
    spacing: tuple[float, float, float]
    field_of_view: tuple[float, ...]
    averages: int
    last_average: int
    averages_announced: bool
    embedded_calibration: bool

    @property
    def lines(self) -> int:
        """Number of lines of the grid: line ``column * partitions + partition``."""
        return self.columns * self.partitions

    def lines_of(self, step_1: NDArray[np.int64], step_2: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the lines of phase-encode steps; -1 for those outside the matrix."""
        column = step_1 + (self.columns // 2 - self.step_1.center)
        partition = step_2 + (self.partitions // 2 - self.step_2.center)
        inside = (column >= 0) & (column < self.columns) & (partition >= 0) & (partition < self.partitions)
        return np.where(inside, column * self.partitions + partition, -1)

    @property
    def expected_columns(self) -> range:
        """Columns of the matrix that the limits cover."""
        return _covered(self.columns, self.step_1)

    @property
    def expected_partitions(self) -> range:
        """Partitions of the matrix that the limits cover."""
        return _covered(self.partitions, self.step_2)

    def expected(self) -> NDArray[np.bool_]:
        """Return which lines the limits cover, bool (lines,)."""
        covered = np.zeros((self.columns, self.partitions), np.bool_)
        columns, partitions = self.expected_columns, self.expected_partitions
        covered[columns.start : columns.stop, partitions.start : partitions.stop] = True
        return covered.reshape(-1)


def _covered(length: int, limit: Limit) -> range:
    offset = length // 2 - limit.center
    first = max(0, limit.minimum + offset)
    return range(first, max(first, min(length, limit.maximum + offset + 1)))


def check_supported(header: MrdHeader) -> None:
    """Refuse a scan none of whose encodings can be reconstructed.

    Raises
    ------
    InvalidInputError
        If the header has no matrix.
    UnsupportedDataError
        If the trajectory is not Cartesian.
    """
    errors = []
    for number, encoding in enumerate(header.encodings):
        try:
            check_encoding(encoding, number)
        except (InvalidInputError, UnsupportedDataError) as error:
            errors.append(error)
    if len(errors) == len(header.encodings):
        raise errors[0]


def check_encoding(encoding: Encoding, number: int) -> None:
    """Refuse an encoding that is not Cartesian; errors are those of `check_supported`."""
    place = f"xml.encoding[{number}]" if number else "xml.encoding"
    if encoding.trajectory not in {"cartesian", ""}:
        raise UnsupportedDataError(
            f"The trajectory is {encoding.trajectory!r}, not Cartesian, and no model of this service reconstructs that: "
            "grid the data to a Cartesian matrix first.",
            reason="NOT_CARTESIAN",
            field=f"{place}.trajectory",
        )
    x, y, z = encoding.encoded.matrix
    if x <= 1 and y <= 1:
        raise InvalidInputError(
            f"The encoded matrix is {x} x {y} x {z}: the header of a bare stream, which does not tell how large k-space is. Send "
            "the scan with the header that its sequence has.",
            reason="MATRIX_MISSING",
            field=f"{place}.encodedSpace.matrixSize",
        )
    if x < 1 or y < 1:
        raise InvalidInputError(
            f"The encoded matrix is {x} x {y} x {z}: no axis may be empty.",
            reason="MATRIX_MISSING",
            field=f"{place}.encodedSpace.matrixSize",
        )


def plan_encoding(
    header: MrdHeader, number: int, coils: int, request: ScanRequest, findings: FindingList
) -> EncodingPlan:
    """Work out grid, crop and pixel size of an encoding.

    Readout oversampling is removed by the ratio of the fields of view (a ratio of the matrices alone may also mean interpolation);
    oversampling along phase encode and partition is cropped from the image. Where the wanted matrix is finer than the encoded one
    over the same field of view, the image is interpolated.

    Raises
    ------
    InvalidInputError, UnsupportedDataError
        As `check_supported`.
    LimitExceededError
        If a frame is larger than `max_frame_bytes`.
    """
    encoding = header.encodings[number]
    check_encoding(encoding, number)
    (x, y, _), wanted = encoding.encoded.matrix, encoding.recon.matrix
    z = _partitions(encoding, findings)
    claimed = 8 * coils * (y * z if z > 1 else x * y)
    if claimed > request.limits.max_frame_bytes:
        raise LimitExceededError(
            f"A frame of {coils} coils and {y if z > 1 else x} x {z if z > 1 else y} samples has {claimed} bytes; this service "
            f"takes {request.limits.max_frame_bytes}.",
            reason="FRAME_TOO_LARGE",
            field="xml.encoding.encodedSpace.matrixSize",
        )
    views = _views(encoding)
    # 1e-4 of a sample: 384 * (199.8 / 399.6) is 191.99999999999997 in floating point.
    rows = x if views[0] >= 1 - _SAME else max(1, int(x * views[0] + 1e-4))
    if wanted[0] < 1 or wanted[1] < 1:
        findings.warn(
            "recon-matrix-missing", "The header has no reconstruction matrix: the whole encoded field of view is shown."
        )
        wanted, views = (rows, y, z), (views[0], 1.0, 1.0)
    along = (
        _extent(rows, wanted[0], views[0] if rows == x else 1.0),
        _extent(y, wanted[1], views[1]),
        _extent(z, wanted[2] or z, views[2]) if z > 1 else (1, 1),
    )
    _note_interpolation(along, findings)
    if not encoding.trajectory:
        findings.info("trajectory-missing", "The header names no trajectory: taken for Cartesian.")
    rows_shown, images = along[0]
    shown, image = along[1:] if z > 1 else along[:2]
    lengths = (y, z) if z > 1 else (rows, y)
    view = encoding.encoded.field_of_view
    plan = EncodingPlan(
        number=number,
        encoded_rows=x,
        rows=rows,
        columns=y,
        partitions=z,
        step_1=encoding.limits.step_1 or Limit(0, y - 1, y // 2),
        step_2=encoding.limits.step_2 or Limit(0, z - 1, z // 2),
        image_shape=(shown[1], image[1]),
        window=Window(lengths[0] // 2 - shown[0] // 2, lengths[1] // 2 - image[0] // 2, shown[0], image[0]),
        positions=Positions(rows // 2 - rows_shown // 2, rows_shown, images) if z > 1 else None,
        spacing=_spacing(encoding, z, along),
        # Oversampling removal keeps rows / x of the readout's field of view.
        field_of_view=(view[0] * rows / x, view[1], view[2])[: 3 if z > 1 else 2],
        averages=encoding.limits.average.maximum - encoding.limits.average.minimum + 1
        if encoding.limits.average
        else 1,
        last_average=encoding.limits.average.maximum if encoding.limits.average else 0,
        averages_announced=encoding.limits.average is not None,
        embedded_calibration=encoding.parallel is None
        or encoding.parallel.calibration_mode not in {"separate", "external"},
    )
    _note_partial_fourier(plan, request, findings)
    return plan


def _partitions(encoding: Encoding, findings: FindingList) -> int:
    """Return the number of partitions: 1 where the limits say that only one is encoded, whatever the matrix."""
    z, limit = max(1, encoding.encoded.matrix[2]), encoding.limits.step_2
    if z > 1 and limit is not None and limit.maximum == limit.minimum:
        findings.info(
            "partitions-not-encoded",
            f"The encoded matrix has {z} partitions, but the limits of kspace_encode_step_2 cover one: taken for a 2-D encoding.",
        )
        return 1
    return z


def _views(encoding: Encoding) -> tuple[float, ...]:
    """Return wanted over encoded field of view along x, y and z; 1 where the header does not say."""
    pairs = zip(encoding.recon.field_of_view, encoding.encoded.field_of_view, strict=True)
    return tuple(wanted / encoded if wanted > 0 and encoded > 0 else 1.0 for wanted, encoded in pairs)


def _extent(length: int, wanted: int, view: float) -> tuple[int, int]:
    """Return how many pixels to cut out of `length`, and how many the finished image has.

    `view` is the wanted field of view as a fraction of that of the `length` pixels.
    """
    if view > 1 + _SAME:  # more than was encoded is wanted: what there is, at the wanted pixel size
        return length, max(1, round(wanted / view))
    exact = length * min(view, 1.0)
    if wanted <= length and abs(exact - wanted) < 1:  # the header's matrix is its own rounding of the same thing
        return wanted, wanted
    return min(length, max(1, round(exact))), wanted


def _spacing(
    encoding: Encoding, partitions: int, along: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
) -> tuple[float, float, float]:
    """Return pixel sizes; `along` holds for each axis how many encoded pixels are shown, and of how many the image is made."""
    x, y, _ = encoding.encoded.matrix
    view = encoding.encoded.field_of_view
    # The pixels of the encoded grid, oversampled or not, are field of view over matrix.
    sizes = [view[0] / x, view[1] / y]
    if partitions > 1:
        sizes.append(view[2] / partitions)
    else:
        sizes.append((encoding.recon.field_of_view[2] or view[2]) / max(1, encoding.recon.matrix[2]))
    first, second, third = (size * shown / image for size, (shown, image) in zip(sizes, along, strict=True))
    return first, second, third


def _note_interpolation(along: tuple[tuple[int, int], tuple[int, int], tuple[int, int]], findings: FindingList) -> None:
    if all(shown == image for shown, image in along):
        return
    axes = along if along[2] != (1, 1) else along[:2]
    encoded, wanted = (" x ".join(str(axis[place]) for axis in axes) for place in (0, 1))
    findings.info(
        "image-interpolated",
        f"The wanted matrix {wanted} differs from the {encoded} pixels that were encoded over its field of view: the image is "
        "interpolated by the Fourier transform.",
    )


def _note_partial_fourier(plan: EncodingPlan, request: ScanRequest, findings: FindingList) -> None:
    for name, length, covered in (
        ("columns", plan.columns, plan.expected_columns),
        ("partitions", plan.partitions, plan.expected_partitions),
    ):
        if covered and is_one_sided(covered.start, covered.stop, length):
            done = "zero" if request.conditioning.partial_fourier == "zero-fill" else "completed where that is possible"
            findings.info(
                "partial-fourier",
                f"The limits cover {name} {covered.start} to {covered.stop - 1} of {length}, more on one side of the centre: "
                f"what was not measured is {done}.",
            )


def is_one_sided(start: int, stop: int, length: int) -> bool:
    """Tell whether ``[start, stop)`` of an axis reaches clearly farther on one side of ``length // 2``: partial Fourier."""
    before, after = length // 2 - start, stop - 1 - length // 2
    return abs(before - after) > max(2, length // 32)
