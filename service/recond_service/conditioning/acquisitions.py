"""Frames of readouts, from a file or while they are measured: one path for both."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recond_service.conditioning import flags
from recond_service.conditioning.encoding import EncodingPlan, check_supported, plan_encoding
from recond_service.conditioning.geometry import geometry_of
from recond_service.conditioning.grid import GridResult, KspaceGrid
from recond_service.conditioning.noise import NoiseEstimate, Whitening
from recond_service.conditioning.readout import Placements
from recond_service.conditioning.sampling import calibration_extent
from recond_service.conditioning.scaling import bring_to_range, multiply_by_power, normalise, peak_of
from recond_service.conditioning.separate_calibration import CalibrationLines, EarlierCalibration
from recond_service.conditioning.undersampling import undersample
from recond_service.types import (
    AcquisitionBlock,
    AcquisitionSource,
    FindingList,
    Frame,
    FrameIndex,
    InvalidInputError,
    LimitExceededError,
    MrdHeader,
    ScanRequest,
    UnsupportedDataError,
)

Key = tuple[int, int, int, int, int]


@dataclass(slots=True)
class _OpenFrame:
    """What has come of a frame so far."""

    grid: KspaceGrid
    first_header: np.void
    unfinished_columns: int
    last_averages: set[int] = field(default_factory=set)
    average_counters: set[int] = field(default_factory=set)
    repeated: bool = False


class AcquisitionConditioner:
    """Turns readouts into frames; a frame leaves as soon as it is complete.

    A frame is complete when the last readout of its slice was flagged for every announced average, or when every line that the
    limits announce has come as often as there are averages. What never is leaves with `finish`.

    Parameters
    ----------
    header
        ISMRMRD header of the scan.
    request
        Limits, and the undersampling that is wanted.
    findings
        Gets what was noticed and dropped.
    name
        File name, which seeds the undersampling.

    Raises
    ------
    InvalidInputError
        If the header tells no matrix.
    UnsupportedDataError
        If the scan is not 2-D Cartesian.
    """

    def __init__(self, header: MrdHeader, request: ScanRequest, findings: FindingList, name: str = "") -> None:
        check_supported(header)
        self._header = header
        self._request = request
        self._findings = findings
        self._name = name
        self._noise = NoiseEstimate()
        self._earlier_noise: NoiseEstimate | None = None
        self._whitening: Whitening | None = None
        self._plan: EncodingPlan | None = None
        self._plans: dict[int, EncodingPlan] = {}
        self._coils = header.system.receiver_channels or len(header.system.coil_labels)
        self._open: dict[Key, _OpenFrame] = {}
        self._embedded: dict[Key, KspaceGrid] = {}
        self._separate: CalibrationLines | None = None
        self._earlier_calibration = EarlierCalibration(header.encodings[0].limits)
        self._finished: set[Key] = set()
        self._placements = Placements(findings)
        self._open_bytes = 0
        self._taken = 0
        self._other_channels = 0

    @property
    def header(self) -> MrdHeader:
        """ISMRMRD header of the scan."""
        return self._header

    def learn_noise(self, source: AcquisitionSource) -> None:
        """Take the noise from a measurement that was made before; its coils are matched by their labels.

        Raises
        ------
        InvalidInputError
            If a sample is not finite.
        """
        estimate = NoiseEstimate()
        first = 0
        for block in source.blocks():
            _check_finite(block, first)
            first += len(block)
            for number in np.flatnonzero(block.headers["flags"] & np.uint64(flags.NOISE)):
                estimate.add(block.readout(int(number)), float(block.headers["sample_time_us"][number]))
        ours = [label.name for label in self._header.system.coil_labels]
        theirs = [label.name for label in source.header.system.coil_labels]
        if ours and theirs and ours != theirs:
            unique = len(set(ours)) == len(ours)
            if not unique or sorted(ours) != sorted(theirs) or len(ours) != estimate.channels:
                self._findings.warn(
                    "noise-coils-differ",
                    f"The noise scan {source.place} was measured with other coils than the scan: coils are not whitened.",
                )
                return
            estimate = estimate.reordered([theirs.index(name) for name in ours])
            self._findings.info(
                "noise-coils-reordered", f"The coils of the noise scan {source.place} were matched by label."
            )
        self._earlier_noise = estimate

    def push(self, block: AcquisitionBlock) -> Iterator[Frame]:
        """Take readouts; give the frames that they complete. The iterator must be used up.

        Raises
        ------
        InvalidInputError
            If a readout cannot be what the header announces; the message names it.
        LimitExceededError
            If frames take more memory than the request may, or are too many.
        UnsupportedDataError
            If images come from more than one encoding.
        """
        _check_finite(block, self._taken)
        for number in range(len(block)):
            place = f"{block.place}[{self._taken}]"
            frame = self._take(block, number, place)
            self._taken += 1
            if frame is not None:
                yield frame

    def finish(self) -> Iterator[Frame]:
        """Give the frames that are left, in the order in which they were begun.

        Raises
        ------
        InvalidInputError
            If there was no imaging readout.
        """
        if self._plan is None:
            other = f" with {self._coils} channels, which is what the header announces" if self._other_channels else ""
            raise InvalidInputError(
                f"None of the {self._taken} readouts is an imaging readout{other}: there is nothing to reconstruct.",
                reason="NO_ACQUISITIONS",
                field="acquisitions",
            )
        if self._open:
            self._findings.info(
                "slices-not-closed",
                "Slices without a LAST_IN_SLICE flag whose lines did not all come: reconstructed at the end of the scan.",
                len(self._open),
            )
        for key in list(self._open):
            yield self._close(key, self._plan)
        if self._embedded:
            self._findings.info(
                "calibration-unused",
                "Calibration readouts of slices without imaging readouts are not used.",
                len(self._embedded),
            )

    def _take(self, block: AcquisitionBlock, number: int, place: str) -> Frame | None:
        header = block.headers[number]
        bits = int(header["flags"])
        if bits & flags.NOISE:
            self._take_noise(block.readout(number), header)
            return None
        if bits & flags.NOT_IMAGING:
            self._findings.info(
                "readouts-not-imaging", "Navigator, phase-correction, feedback, dummy and like readouts are not used."
            )
            return None
        if header["number_of_samples"] == 0 or header["active_channels"] == 0:
            raise InvalidInputError(
                f"{place} has {int(header['active_channels'])} channels of {int(header['number_of_samples'])} samples: "
                "a readout cannot be empty.",
                reason="ACQUISITION_EMPTY",
                field=place,
            )
        if header["trajectory_dimensions"] > 0:
            self._findings.info(
                "trajectory-ignored", "The readouts carry trajectories, which a Cartesian scan does not need."
            )
        if not self._same_channels(header):
            return None
        calibration_only = bool(bits & flags.CALIBRATION) and not bits & flags.CALIBRATION_AND_IMAGING
        if calibration_only:
            self._take_calibration(block.readout(number), header, place)
            return None
        return self._take_imaging(block.readout(number), header, place)

    def _take_noise(self, readout: NDArray[np.complex64], header: np.void) -> None:
        if self._plan is not None:
            self._findings.warn(
                "noise-after-imaging", "Noise readouts that came after the first imaging readout are not used."
            )
        elif readout.size:
            self._noise.add(readout, float(header["sample_time_us"]))

    def _same_channels(self, header: np.void) -> bool:
        channels = int(header["active_channels"])
        if not self._coils:
            self._coils = channels
        if channels == self._coils:
            return True
        self._other_channels += 1
        self._findings.warn(
            "channels-differ",
            f"Readouts with another number of channels ({channels}) than the scan ({self._coils}) are not used.",
        )
        return False

    def _take_imaging(self, readout: NDArray[np.complex64], header: np.void, place: str) -> Frame | None:
        plan = self._plan or self._begin(header)
        counters = header["idx"]
        if header["encoding_space_ref"] != plan.number:
            raise UnsupportedDataError(
                f"{place} belongs to encoding {int(header['encoding_space_ref'])}, the images before it to encoding {plan.number}; "
                "images of one encoding can be reconstructed in one request: split the scan.",
                reason="SEVERAL_ENCODINGS",
                field=f"{place}.encoding_space_ref",
            )
        for name, limit in (("kspace_encode_step_1", plan.step_1), ("kspace_encode_step_2", plan.step_2)):
            if not limit.minimum <= counters[name] <= limit.maximum:
                field_name = f"{place}.idx.{name}"
                raise InvalidInputError(
                    f"{field_name} is {int(counters[name])}, outside the header's limits {limit.minimum} to {limit.maximum}: "
                    "correct the counter, or the limits.",
                    reason="LINE_OUTSIDE_LIMITS",
                    field=field_name,
                )
        key = _key(counters)
        if key in self._finished:
            self._findings.warn("lines-after-completion", "Readouts of slices that were already complete are not used.")
            return None
        column = plan.column_of(int(counters["kspace_encode_step_1"]))
        inside = 0 <= column < plan.columns and counters["kspace_encode_step_2"] == plan.step_2.center
        if inside:
            self._add(key, readout, header, (plan, column), place)
        else:
            self._findings.warn(
                "lines-outside-matrix", "Lines within the limits that lie outside the encoded matrix are not used."
            )
        return (
            self._close(key, plan) if key in self._open and self._is_complete(self._open[key], header, plan) else None
        )

    def _begin(self, header: np.void) -> EncodingPlan:
        """Work out the plan, and the whitening, at the first imaging readout."""
        number = int(header["encoding_space_ref"])
        self._plan = self._plans[number] = plan_encoding(
            self._header, number, self._coils, self._request.limits, self._findings
        )
        noise = self._noise if self._noise.channels else self._earlier_noise
        if noise is None or not noise.channels:
            message = "The scan has no noise readouts: coils are not whitened."
            if "noise" in self._header.dependencies:
                self._findings.warn(
                    "noise-scan-missing", f"{message} The header names a noise measurement; send it along."
                )
            else:
                self._findings.info("noise-scan-missing", message)
        elif noise.channels != self._coils:
            self._findings.warn(
                "noise-channels-differ",
                f"The noise scan has {noise.channels} channels, the scan {self._coils}: coils are not whitened.",
            )
        else:
            bandwidth = self._header.system.relative_noise_bandwidth
            self._whitening = noise.whitening(float(header["sample_time_us"]), bandwidth, self._findings)
        if self._whitening is not None:
            self._findings.info(
                "coils-whitened",
                "Coils are noise-whitened: images are in units of the noise, not comparable with images of other units.",
            )
        return self._plan

    def _plan_of(self, number: int) -> EncodingPlan:
        """Return the plan of an encoding that calibration readouts refer to; what is odd about it is said with the images."""
        if number not in self._plans:
            self._plans[number] = plan_encoding(self._header, number, self._coils, self._request.limits, FindingList())
        return self._plans[number]

    def _add(
        self, key: Key, readout: NDArray[np.complex64], header: np.void, target: tuple[EncodingPlan, int], place: str
    ) -> None:
        """Add a readout to column ``target[1]`` of its frame, which it opens if it is the first."""
        plan, column = target
        state = self._open.get(key)
        if state is None:
            if len(self._open) + len(self._finished) >= self._request.limits.max_images:
                raise LimitExceededError(
                    f"The scan has more than {self._request.limits.max_images} images, which is what this service takes.",
                    reason="TOO_MANY_IMAGES",
                    field=f"{place}.idx",
                )
            state = _OpenFrame(self._new_grid(plan, place), header.copy(), len(plan.expected_columns))
            self._open[key] = state
        average = int(header["idx"]["average"])
        if state.grid.lines[column]:
            state.repeated = True
            if average in state.average_counters and len(state.average_counters) == 1:
                self._findings.info("lines-repeated", "Lines that came more than once were averaged.")
        state.average_counters.add(average)
        state.grid.add(readout, self._placements.of(header, plan.encoded_rows, place), column)
        if state.grid.lines[column] == plan.averages and column in plan.expected_columns:
            state.unfinished_columns -= 1

    def _is_complete(self, state: _OpenFrame, header: np.void, plan: EncodingPlan) -> bool:
        if int(header["flags"]) & flags.LAST_IN_SLICE:
            state.last_averages.add(int(header["idx"]["average"]))
            if len(state.last_averages) >= plan.averages:
                return True
        # Averages that the header does not announce show only when a line comes again: then the flags or the end decide.
        return state.unfinished_columns <= 0 and (plan.averages_announced or not state.repeated)

    def _new_grid(self, plan: EncodingPlan, place: str) -> KspaceGrid:
        size = (self._coils, plan.encoded_rows, plan.columns)
        self._open_bytes += 8 * size[0] * size[1] * size[2]
        if self._open_bytes > self._request.limits.max_scan_bytes:
            raise LimitExceededError(
                f"At {place} the frames that are not complete take more than {self._request.limits.max_scan_bytes} bytes, which is "
                "what this service takes: send the slices one after another.",
                reason="SCAN_TOO_LARGE",
                field=place,
            )
        return KspaceGrid(*size)

    def _take_calibration(self, readout: NDArray[np.complex64], header: np.void, place: str) -> None:
        """Keep a calibration-only readout: for the gaps of its frame if it lies on the grid, else apart."""
        number = int(header["encoding_space_ref"])
        plan = self._plan_of(number)
        key = _key(header["idx"])
        if key in self._finished:
            self._findings.warn("calibration-after-completion", "Calibration readouts of complete slices are not used.")
            return
        placement = self._placements.of(header, plan.encoded_rows, place)
        imaging_encoding = self._plan.number if self._plan is not None else 0
        if number != imaging_encoding or not plan.embedded_calibration:
            if self._separate is None:
                self._separate = CalibrationLines(self._request.limits)
            self._separate.add(key, readout, placement, int(header["idx"]["kspace_encode_step_1"]), plan)
            return
        column = plan.column_of(int(header["idx"]["kspace_encode_step_1"]))
        if not 0 <= column < plan.columns:
            self._findings.warn(
                "calibration-outside-matrix", "Calibration lines outside the encoded matrix are not used."
            )
            return
        if key not in self._embedded:
            self._embedded[key] = self._new_grid(plan, place)
        self._embedded[key].add(readout, placement, column)

    def _close(self, key: Key, plan: EncodingPlan) -> Frame:
        """Turn what was collected for a frame into the frame."""
        state = self._open.pop(key)
        self._finished.add(key)
        size = 8 * self._coils * plan.encoded_rows * plan.columns
        self._open_bytes -= size
        embedded = self._embedded.pop(key, None)
        if embedded is not None:
            self._open_bytes -= size
            filled = state.grid.fill_from(embedded)
            if filled:
                self._findings.info("calibration-lines-used", "Calibration lines fill gaps of k-space.", filled)
        if len(state.average_counters) > 1:
            self._findings.info("averages-combined", "Averages were combined as complex numbers, line by line.")
        geometry = geometry_of(state.first_header, plan.spacing, self._findings)
        conjugate = geometry is not None and "siemens" in self._header.system.vendor.lower()
        if conjugate:
            self._findings.info(
                "conjugated", "The scanner's Fourier transform has the other sign: k-space was conjugated."
            )
        result = state.grid.finish(plan.rows, self._whitening, conjugate=conjugate)
        index = FrameIndex(*key)
        if not result.finite:
            raise InvalidInputError(
                f"The averages of slice {index.slice} add up to more than single precision holds: scale the data down.",
                reason="NOT_FINITE",
                field=f"slice {index.slice}",
            )
        if not result.kspace.any():
            self._findings.warn("slice-empty", f"Slice {index.slice} is zero everywhere: so is its image.")
        frame = self._frame(index, plan, result)
        frame.geometry = geometry
        if self._separate is not None:
            found = self._separate.for_frame(key, plan, self._whitening, self._findings, conjugate=conjugate)
            if found is not None and found.kspace.shape[2] > frame.calibration_extent[1]:
                multiply_by_power(found.kspace, math.frexp(frame.scale)[1] - 1 - found.exponent)
                frame.calibration = found.kspace
        if self._earlier_calibration.exchange(frame):
            self._findings.info(
                "calibration-shared", "Calibration of an earlier image of the slice serves images that have none."
            )
        if self._request.undersampling is not None:
            frame = undersample(frame, self._request.undersampling, self._name)
        return frame

    def _frame(self, index: FrameIndex, plan: EncodingPlan, result: GridResult) -> Frame:
        exponent = result.exponent + bring_to_range(result.kspace, peak_of(result.kspace))
        exponent += normalise(result.kspace)
        return Frame(
            index=index,
            kspace=result.kspace,
            mask=result.mask,
            calibration_extent=calibration_extent(result.mask),
            scale=2.0**exponent if result.kspace.any() else 1.0,
            image_shape=plan.image_shape,
            window=plan.window,
            whitened=self._whitening is not None,
        )


def _key(counters: np.void) -> Key:
    return (
        int(counters["slice"]),
        int(counters["contrast"]),
        int(counters["phase"]),
        int(counters["repetition"]),
        int(counters["set"]),
    )


def _check_finite(block: AcquisitionBlock, first: int) -> None:
    """Refuse a block with a sample that is NaN or infinite."""
    if np.isfinite(peak_of(block.samples)):
        return
    position = int(np.argmax(~np.isfinite(block.samples)))
    number = int(np.searchsorted(block.offsets, position, side="right")) - 1
    place = f"{block.place}[{first + number}]"
    raise InvalidInputError(
        f"{place} holds {block.samples[position]} at sample {position - int(block.offsets[number])} of its channels: NaN and Inf "
        "cannot be reconstructed; find out where they came from.",
        reason="NOT_FINITE",
        field=place,
    )
