"""What an encoding of the header means for frames: the grid, where its centre is, which part of it becomes the image."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recond_service.conditioning.survey import Evidence, Steps
from recond_service.types import (
    Encoding,
    EncodingSpace,
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
_SAME_PIXEL = 0.02
_LONGER = 1.125  # times the matrix from which a readout is oversampled; below, it has some samples more at its ends
_CLEARLY_MORE = 1.25  # times the lines of the matrix from which the counters are believed and not cut off


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
class Lines:
    """The counters of one phase encode: which are collected, and where the centre of k-space is said to be.

    Parameters
    ----------
    first, count
        Counters ``[first, first + count)`` are collected.
    length
        Lines of the encoded matrix along this axis.
    limit
        What the header announces; None if it announces nothing.
    """

    first: int
    count: int
    length: int
    limit: Limit | None

    @property
    def announced(self) -> range:
        """Which of the collected lines, counted from the first, the limits cover; none without limits."""
        if self.limit is None:
            return range(min(self.count, self.length))
        start = max(self.limit.minimum - self.first, 0)
        return range(start, max(start, min(self.limit.maximum + 1 - self.first, self.count)))

    @property
    def stated(self) -> int | None:
        """Counter of the centre as the header has it; None where it has none."""
        return self.length // 2 if self.limit is None else self.limit.center

    @property
    def possible(self) -> tuple[int, int]:
        """Least and greatest centre with which what the limits cover lies within the matrix, or as much of it as fits."""
        covered = self.announced
        return possible_centres(self.first + covered.start, self.first + covered.stop - 1, self.length)


def possible_centres(low: int, high: int, length: int) -> tuple[int, int]:
    """Return the least and greatest centre with which the counters from `low` to `high` lie within a matrix of `length` lines.

    Where they are more than the matrix has, all of its lines are filled with any centre in between.
    """
    one, other = high + length // 2 - length + 1, low + length // 2
    return min(one, other), max(one, other)


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
        Counters of the phase encodes.
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
    segments
        Number of segments that the header announces.
    embedded_calibration
        Calibration-only readouts lie on the grid of the image.
    """

    number: int
    encoded_rows: int
    rows: int
    columns: int
    partitions: int
    step_1: Lines
    step_2: Lines
    image_shape: tuple[int, int]
    window: Window | None
    positions: Positions | None
    spacing: tuple[float, float, float]
    field_of_view: tuple[float, ...]
    averages: int
    last_average: int
    averages_announced: bool
    segments: int
    embedded_calibration: bool

    @property
    def thickness(self) -> float:
        """Thickness of a slice, or of the slab of a 3-D encoding, mm; 0 where the header does not say."""
        return self.spacing[2] if self.positions is None else self.field_of_view[2]

    @property
    def lines(self) -> int:
        """Number of lines that are collected: line ``(step_1 - first) * count of step_2 + (step_2 - first)``."""
        return self.step_1.count * self.step_2.count

    def lines_of(self, step_1: NDArray[np.int64], step_2: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the lines of phase-encode steps; -1 for those that are not collected."""
        first, second = step_1 - self.step_1.first, step_2 - self.step_2.first
        inside = (first >= 0) & (first < self.step_1.count) & (second >= 0) & (second < self.step_2.count)
        return np.where(inside, first * self.step_2.count + second, -1)

    def expected(self) -> NDArray[np.bool_]:
        """Return which lines the limits cover and the matrix holds, bool (lines,)."""
        covered = np.zeros((self.step_1.count, self.step_2.count), np.bool_)
        one, two = (_within_matrix(lines) for lines in (self.step_1, self.step_2))
        covered[one.start : one.stop, two.start : two.stop] = True
        return covered.reshape(-1)


def _within_matrix(lines: Lines) -> range:
    """Return which collected lines the limits cover and the matrix holds with the centre that is stated, or with a possible one."""
    low, high = lines.possible
    centre = min(max(high if lines.stated is None else lines.stated, low), high)
    offset = lines.length // 2 - centre + lines.first
    start = max(lines.announced.start, -offset)
    return range(start, max(start, min(lines.announced.stop, lines.length - offset)))


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
    header: MrdHeader, number: int, coils: int, request: ScanRequest, findings: FindingList, evidence: Evidence
) -> EncodingPlan:
    """Work out grid, crop and pixel size of an encoding.

    Readout oversampling is removed by the ratio of the fields of view (a ratio of the matrices alone may also mean interpolation);
    oversampling along phase encode and partition is cropped from the image. Where the wanted matrix is finer than the encoded one
    over the same field of view, the image is interpolated. Where the readouts contradict the header, they are believed.

    Raises
    ------
    InvalidInputError, UnsupportedDataError
        As `check_supported`.
    LimitExceededError
        If a frame is larger than `max_frame_bytes`.
    """
    check_encoding(header.encodings[number], number)
    encoding = _corrected(header.encodings[number], evidence, findings)
    (x, y, _), wanted = encoding.encoded.matrix, encoding.recon.matrix
    z = _partitions(encoding, evidence, findings)
    if z > max(1, encoding.encoded.matrix[2]):
        wanted = (*wanted[:2], z)
    step_1 = _lines(encoding.limits.step_1, evidence.step_1, y)
    # The counter of a 2-D encoding may stand still at any value.
    still = Lines(evidence.partition, 1, 1, None)
    step_2 = still if z == 1 else _lines(encoding.limits.step_2, evidence.step_2, z)
    held = max(y, step_1.count)
    claimed = 8 * coils * (held * max(z, step_2.count) if z > 1 else x * held)
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
    return EncodingPlan(
        number=number,
        encoded_rows=x,
        rows=rows,
        columns=y,
        partitions=z,
        step_1=step_1,
        step_2=step_2,
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
        segments=encoding.limits.segment.maximum - encoding.limits.segment.minimum + 1
        if encoding.limits.segment
        else 1,
        embedded_calibration=encoding.parallel is None
        or encoding.parallel.calibration_mode not in {"separate", "external"},
    )


def _corrected(encoding: Encoding, evidence: Evidence, findings: FindingList) -> Encoding:
    """Return the encoding with the matrix that the readouts have, where they contradict that of the header."""
    encoding = _turned(encoding, evidence, findings)
    (x, y, z), limit = encoding.encoded.matrix, encoding.limits.step_1
    limits = None if limit is None else (limit.minimum, limit.maximum)
    bounds = None if evidence.step_1 is None else evidence.step_1.bounds(limits, y)
    lines = 0 if bounds is None else bounds[1] - bounds[0] + 1
    if evidence.samples > _LONGER * x:
        findings.warn(
            "readout-longer-than-matrix",
            f"Readouts have {evidence.samples} samples, the header's matrix {x}: the samples are believed, and the rest is "
            "oversampling unless the header's pixel size says otherwise.",
        )
        encoding = _resized(encoding, 0, _oversampled(evidence, x))
    elif evidence.plain and evidence.samples < x - 1 and evidence.samples == _without_oversampling(encoding):
        findings.warn(
            "oversampling-removed-before",
            f"Readouts have {evidence.samples} samples with k = 0 in their middle, the header's matrix {x}: its oversampling was "
            "removed before.",
        )
        view = encoding.recon.field_of_view
        encoding = replace(
            encoding,
            encoded=EncodingSpace((evidence.samples, y, z), (view[0], *encoding.encoded.field_of_view[1:])),
        )
    if lines > _CLEARLY_MORE * y and lines > y + 1:
        findings.warn(
            "lines-exceed-matrix",
            f"The counters of kspace_encode_step_1 cover {lines} lines, the header's matrix {y}: the counters are believed.",
        )
        encoding = _resized(encoding, 1, lines)
    return encoding


def _oversampled(evidence: Evidence, x: int) -> int:
    """Return the length of the matrix of readouts that are longer than `x`: an asymmetric echo holds a part of it."""
    whole = 2 * evidence.reach
    asymmetric = not evidence.plain and evidence.samples % x and evidence.samples < whole
    return whole if asymmetric and whole % x == 0 else evidence.samples


def _turned(encoding: Encoding, evidence: Evidence, findings: FindingList) -> Encoding:
    """Return the encoding with x and y in each other's place where the readouts show that the header confused them."""
    x, y, _ = encoding.encoded.matrix
    steps = evidence.step_1
    if steps is None or x == y or evidence.samples != y or int(np.flatnonzero(steps.times)[-1]) >= x:
        return encoding
    if evidence.samples < x and int(np.flatnonzero(steps.times)[-1]) < y:
        return encoding  # as long as the lines fit into the matrix, a short readout is an asymmetric echo
    findings.warn(
        "matrix-turned",
        f"Readouts have {y} samples and at most {x} lines, the header's matrix is {x} x {y}: its axes were taken for each other.",
    )

    def turned(space: EncodingSpace) -> EncodingSpace:
        (a, b, c), (d, e, f) = space.matrix, space.field_of_view
        return EncodingSpace((b, a, c), (e, d, f))

    return replace(encoding, encoded=turned(encoding.encoded), recon=turned(encoding.recon))


def _resized(encoding: Encoding, axis: int, length: int) -> Encoding:
    """Return the encoding with `length` samples along an axis.

    They cover the field of view of the header if the pixels that it wants agree with that, else one that keeps the pixel size of
    the encoded matrix.
    """
    matrix, view = list(encoding.encoded.matrix), list(encoding.encoded.field_of_view)
    wanted, shown = encoding.recon.matrix[axis], encoding.recon.field_of_view[axis]
    pixel = shown / wanted if wanted and shown else 0.0
    if not (pixel and abs(view[axis] / length - pixel) <= _SAME_PIXEL * pixel):
        view[axis] *= length / max(matrix[axis], 1)
    matrix[axis] = length
    return replace(encoding, encoded=EncodingSpace((matrix[0], matrix[1], matrix[2]), (view[0], view[1], view[2])))


def _without_oversampling(encoding: Encoding) -> int:
    view = _views(encoding)[0]
    x = encoding.encoded.matrix[0]
    return x if view >= 1 - _SAME else max(1, int(x * view + 1e-4))


def _lines(limit: Limit | None, steps: Steps | None, length: int) -> Lines:
    """Return which counters are collected: those that came, or as long as that is not known, those of limits and matrix."""
    announced = None if limit is None else (limit.minimum, limit.maximum)
    bounds = None if steps is None else steps.bounds(announced, length)
    if bounds is not None:
        return Lines(bounds[0], bounds[1] - bounds[0] + 1, length, limit)
    if limit is None:
        return Lines(0, length, length, None)
    last = min(limit.maximum, limit.minimum + 2 * length - 1)
    first = min(limit.minimum, max(0, last - length + 1))
    return Lines(first, max(last - first + 1, length), length, limit)


def _partitions(encoding: Encoding, evidence: Evidence, findings: FindingList) -> int:
    """Return the number of partitions: 1 where the partition counter stands still, whatever the matrix."""
    z, limit = max(1, encoding.encoded.matrix[2]), encoding.limits.step_2
    if evidence.step_2 is not None:
        return _counted_partitions(z, limit, evidence, findings)
    slices = encoding.limits.slice
    if z > 1 and limit is not None and limit.maximum == limit.minimum:
        message = "the limits of kspace_encode_step_2 cover one"
    elif z > 1 and limit is None and slices is not None and slices.maximum - slices.minimum + 1 == z:
        message = "the header announces no counter for them, and as many slices"
    else:
        return z
    findings.info(
        "partitions-not-encoded", f"The encoded matrix has {z} partitions, but {message}: taken for a 2-D encoding."
    )
    return 1


def _counted_partitions(z: int, limit: Limit | None, evidence: Evidence, findings: FindingList) -> int:
    if evidence.two_dimensional or evidence.step_2 is None:
        if z > 1:
            findings.info(
                "partitions-not-encoded",
                f"The encoded matrix has {z} partitions, but all readouts the same kspace_encode_step_2: taken for a 2-D encoding.",
            )
        return 1
    bounds = evidence.step_2.bounds(None if limit is None else (limit.minimum, limit.maximum), z)
    count = 1 if bounds is None else bounds[1] - bounds[0] + 1
    if z > 1 and count <= max(z + 1, _CLEARLY_MORE * z):
        return z
    findings.warn(
        "partitions-exceed-matrix",
        f"The counters of kspace_encode_step_2 cover {count} partitions, the header's matrix {z}: the counters are believed.",
    )
    return count


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


def is_one_sided(start: int, stop: int, length: int) -> bool:
    """Tell whether ``[start, stop)`` of an axis reaches clearly farther on one side of ``length // 2``: partial Fourier."""
    before, after = length // 2 - start, stop - 1 - length // 2
    return abs(before - after) > max(2, length // 32)
