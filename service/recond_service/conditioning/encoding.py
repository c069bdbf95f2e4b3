"""What an encoding of the header means for frames: the grid, where its centre is, which part of it becomes the image."""

from __future__ import annotations

from dataclasses import dataclass

from recond_service.types import (
    Encoding,
    FindingList,
    InvalidInputError,
    Limit,
    LimitExceededError,
    Limits,
    MrdHeader,
    UnsupportedDataError,
    Window,
)

_SAME = 1e-3  # relative difference below which two fields of view are taken for one


@dataclass(frozen=True, slots=True)
class EncodingPlan:
    """The 2-D grid of an encoding, and the image that comes of it.

    Parameters
    ----------
    number
        Which encoding of the header.
    encoded_rows
        Readout samples of the encoded grid, oversampling included.
    rows, columns
        Size of a frame: readout without oversampling, phase encode.
    step_1, step_2
        Limits of the phase-encode counters.
    image_shape, window
        As in `Frame`.
    spacing
        Pixel size of the finished image along rows and columns and the slice thickness, mm; 0 where the header does not say.
    field_of_view
        Of the frame (readout without oversampling, phase encode), mm; 0 where the header does not say.
    averages
        Number of averages that the header announces, and whether it does.
    embedded_calibration
        Calibration-only readouts lie on the grid of the image.
    """

    number: int
    encoded_rows: int
    rows: int
    columns: int
    step_1: Limit
    step_2: Limit
    image_shape: tuple[int, int]
    window: Window | None
    spacing: tuple[float, float, float]
    field_of_view: tuple[float, float]
    averages: int
    averages_announced: bool
    embedded_calibration: bool

    def column_of(self, step_1: int) -> int:
        """Return the column of a phase-encode step; it may lie outside the matrix."""
        return step_1 + self.columns // 2 - self.step_1.center

    @property
    def expected_columns(self) -> range:
        """Columns of the matrix that the limits cover."""
        first = max(0, self.column_of(self.step_1.minimum))
        return range(first, max(first, min(self.columns, self.column_of(self.step_1.maximum) + 1)))


def check_supported(header: MrdHeader) -> None:
    """Refuse a scan none of whose encodings can be reconstructed.

    Raises
    ------
    InvalidInputError
        If the header has no matrix.
    UnsupportedDataError
        If the trajectory is not Cartesian, or the encoding is 3-D.
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
    """Refuse an encoding that is not 2-D Cartesian; errors are those of `check_supported`."""
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
    if z > 1:
        raise UnsupportedDataError(
            f"The encoded matrix is {x} x {y} x {z}, a 3-D encoding; this service reconstructs 2-D encodings.",
            reason="ENCODING_3D",
            field=f"{place}.encodedSpace.matrixSize.z",
        )


def plan_encoding(header: MrdHeader, number: int, coils: int, limits: Limits, findings: FindingList) -> EncodingPlan:
    """Work out grid, crop and pixel size of an encoding.

    Readout oversampling is removed by the ratio of the fields of view (a ratio of the matrices alone may also mean interpolation);
    phase oversampling is cropped from the image. Where the wanted matrix is finer than the encoded one over the same field of
    view, the image is interpolated.

    Raises
    ------
    InvalidInputError, UnsupportedDataError
        As `check_supported`.
    LimitExceededError
        If a frame is larger than `max_frame_bytes`.
    """
    encoding = header.encodings[number]
    check_encoding(encoding, number)
    (x, y, _), (wanted_x, wanted_y, _) = encoding.encoded.matrix, encoding.recon.matrix
    claimed = 8 * coils * x * y
    if claimed > limits.max_frame_bytes:
        raise LimitExceededError(
            f"A frame of {coils} coils and {x} x {y} samples has {claimed} bytes; this service takes {limits.max_frame_bytes}.",
            reason="FRAME_TOO_LARGE",
            field="xml.encoding.encodedSpace.matrixSize",
        )
    view_x, view_y, _ = _views(encoding)
    # 1e-4 of a sample: 384 * (199.8 / 399.6) is 191.99999999999997 in floating point.
    rows = x if view_x >= 1 - _SAME else max(1, int(x * view_x + 1e-4))
    if wanted_x < 1 or wanted_y < 1:
        findings.warn(
            "recon-matrix-missing", "The header has no reconstruction matrix: the whole encoded field of view is shown."
        )
        wanted_x, wanted_y, view_y = rows, y, 1.0
    window_rows, image_rows = _extent(rows, wanted_x, view_x if rows == x else 1.0)
    window_columns, image_columns = _extent(y, wanted_y, view_y)
    if (window_rows, window_columns) != (image_rows, image_columns):
        findings.info(
            "image-interpolated",
            f"The wanted matrix {image_rows} x {image_columns} differs from the {window_rows} x {window_columns} pixels that were "
            "encoded over its field of view: magnitudes are interpolated by the Fourier transform.",
        )
    if not encoding.trajectory:
        findings.info("trajectory-missing", "The header names no trajectory: taken for Cartesian.")
    plan = EncodingPlan(
        number=number,
        encoded_rows=x,
        rows=rows,
        columns=y,
        step_1=encoding.limits.step_1 or Limit(0, y - 1, y // 2),
        step_2=encoding.limits.step_2 or Limit(0, 0, 0),
        image_shape=(image_rows, image_columns),
        window=Window(rows // 2 - window_rows // 2, y // 2 - window_columns // 2, window_rows, window_columns),
        spacing=_spacing(encoding, (window_rows, window_columns), (image_rows, image_columns)),
        field_of_view=(encoding.encoded.field_of_view[0] * rows / x, encoding.encoded.field_of_view[1]),
        averages=encoding.limits.average.maximum - encoding.limits.average.minimum + 1
        if encoding.limits.average
        else 1,
        averages_announced=encoding.limits.average is not None,
        embedded_calibration=encoding.parallel is None
        or encoding.parallel.calibration_mode not in {"separate", "external"},
    )
    _note_partial_fourier(plan, findings)
    return plan


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


def _spacing(encoding: Encoding, window: tuple[int, int], image: tuple[int, int]) -> tuple[float, float, float]:
    x, y, _ = encoding.encoded.matrix
    view = encoding.encoded.field_of_view
    # Oversampling removal keeps rows / x of the readout's field of view, so the pixel size stays view / x.
    along_rows = view[0] / x * window[0] / image[0]
    along_columns = view[1] / y * window[1] / image[1]
    depth = encoding.recon.field_of_view[2] or view[2]
    return along_rows, along_columns, depth / max(1, encoding.recon.matrix[2])


def _note_partial_fourier(plan: EncodingPlan, findings: FindingList) -> None:
    columns = plan.expected_columns
    if not columns:
        return
    before, after = plan.columns // 2 - columns.start, columns.stop - 1 - plan.columns // 2
    if abs(before - after) > max(2, plan.columns // 32):
        findings.info(
            "partial-fourier",
            f"The limits cover columns {columns.start} to {columns.stop - 1} of {plan.columns}, more on one side of the centre: "
            "what was not measured is zero.",
        )
