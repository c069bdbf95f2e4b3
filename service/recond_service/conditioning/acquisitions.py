"""Frames of readouts, from a file or while they are measured: one path for both."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from recond_service.conditioning.collector import FrameCollector
from recond_service.conditioning.encoding import EncodingPlan, check_supported, plan_encoding
from recond_service.conditioning.noise_source import NoiseSource
from recond_service.conditioning.readout import Placements
from recond_service.conditioning.runs import Kind, Run, check_finite, runs_of
from recond_service.types import (
    AcquisitionBlock,
    AcquisitionSource,
    FindingList,
    Frame,
    InvalidInputError,
    MrdHeader,
    ScanRequest,
    UnsupportedDataError,
)


class AcquisitionConditioner:
    """Turns readouts into frames; a frame leaves as soon as it is complete.

    A 2-D frame is complete when the last readout of its slice was flagged for every announced average, or when every line that the
    limits announce has come as often as there are averages. The frames of a 3-D scan are complete together, when all lines have
    come. LAST_IN_REPETITION closes what is open of a repetition with the same lines, LAST_IN_MEASUREMENT everything. What never is
    complete leaves with `finish`.

    Parameters
    ----------
    header
        ISMRMRD header of the scan.
    request
        Limits, the conditioning and the undersampling that are wanted.
    findings
        Gets what was noticed and dropped.
    name
        File name, which seeds the undersampling.
    channels
        Number of channels of the readouts to use; 0 for that of the header, or else of the first readout that is not noise.

    Raises
    ------
    InvalidInputError
        If the header tells no matrix.
    UnsupportedDataError
        If the scan is not Cartesian.
    """

    def __init__(
        self, header: MrdHeader, request: ScanRequest, findings: FindingList, name: str = "", channels: int = 0
    ) -> None:
        check_supported(header)
        self._header = header
        self._request = request
        self._findings = findings
        self._noise = NoiseSource(header, findings)
        self._frames = FrameCollector(header, request, findings, name)
        self._plans: dict[int, EncodingPlan] = {}
        self._imaged: list[int] = []
        self._coils = channels or announced_channels(header)
        self._placements = Placements(findings)
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
        self._noise.learn(source)

    def push(self, block: AcquisitionBlock) -> Iterator[Frame]:
        """Take readouts; give the frames that they complete. The iterator must be used up.

        Raises
        ------
        InvalidInputError
            If a readout cannot be what the header announces; the message names it.
        LimitExceededError
            If frames take more memory than the request may, or are too many.
        UnsupportedDataError
            If images of different encodings have different sizes.
        """
        check_finite(block, self._taken)
        first = self._taken
        self._taken += len(block)
        for run in runs_of(block, first):
            yield from self._take(run)

    def finish(self) -> Iterator[Frame]:
        """Give the frames that are left, in the order in which they were begun.

        Raises
        ------
        InvalidInputError
            If there was no imaging readout.
        """
        if not self._imaged:
            other = f" with {self._coils} channels, which is what the header announces" if self._other_channels else ""
            raise InvalidInputError(
                f"None of the {self._taken} readouts is an imaging readout{other}: there is nothing to reconstruct.",
                reason="NO_ACQUISITIONS",
                field="acquisitions",
            )
        left = self._frames.open_keys
        if left:
            self._findings.info(
                "slices-not-closed",
                "Slices without a LAST_IN_SLICE flag whose lines did not all come: reconstructed at the end of the scan.",
                len(left),
            )
        for key in left:
            yield from self._frames.close(key)
        if self._frames.unused_calibration:
            self._findings.info(
                "calibration-unused",
                "Calibration readouts of slices without imaging readouts are not used.",
                self._frames.unused_calibration,
            )

    def _take(self, run: Run) -> Iterator[Frame]:
        if run.kind == Kind.NOISE:
            self._take_noise(run)
        elif run.kind == Kind.NOT_IMAGING:
            self._findings.info(
                "readouts-not-imaging",
                "Navigator, phase-correction, feedback, dummy and like readouts are not used.",
                len(run),
            )
        elif self._is_usable(run):
            if run.kind == Kind.CALIBRATION:
                self._take_calibration(run)
            else:
                yield from self._take_imaging(run)

    def _take_noise(self, run: Run) -> None:
        if self._imaged:
            self._findings.warn(
                "noise-after-imaging",
                "Noise readouts that came after the first imaging readout are not used.",
                len(run),
            )
            return
        # One by one: sums in floating point depend on what is summed together, and a stream may be cut anywhere.
        for number in range(run.start, run.stop):
            self._noise.add(run.block.readout(number), float(run.block.headers["sample_time_us"][number]))

    def _is_usable(self, run: Run) -> bool:
        samples, channels = int(run.header["number_of_samples"]), int(run.header["active_channels"])
        if samples == 0 or channels == 0:
            raise InvalidInputError(
                f"{run.place()} has {channels} channels of {samples} samples: a readout cannot be empty.",
                reason="ACQUISITION_EMPTY",
                field=run.place(),
            )
        if run.header["trajectory_dimensions"] > 0:
            self._findings.info(
                "trajectory-ignored", "The readouts carry trajectories, which a Cartesian scan does not need.", len(run)
            )
        if not self._coils:
            self._coils = channels
        if channels == self._coils:
            return True
        self._other_channels += len(run)
        self._findings.warn(
            "channels-differ",
            f"Readouts with another number of channels ({channels}) than the scan ({self._coils}) are not used.",
            len(run),
        )
        return False

    def _take_imaging(self, run: Run) -> Iterator[Frame]:
        plan = self._imaging_plan(run)
        self._check_limits(run, plan)
        key = run.key
        lines = plan.lines_of(run.counter("kspace_encode_step_1"), run.counter("kspace_encode_step_2"))
        placement = self._placements.of(run.header, plan.encoded_rows, run.place())
        for chosen in self._pieces(run, plan, lines):
            if self._frames.is_finished(key):
                self._findings.warn(
                    "lines-after-completion", "Readouts of slices that were already complete are not used.", len(chosen)
                )
                continue
            inside = chosen[lines[chosen] >= 0]
            if len(inside) < len(chosen):
                self._findings.warn(
                    "lines-outside-matrix",
                    "Lines within the limits that lie outside the encoded matrix are not used.",
                    len(chosen) - len(inside),
                )
            if len(inside):
                self._frames.add(run, plan, inside, lines[inside], placement)
            for closed in self._frames.closed_by(run, int(chosen[-1])):
                yield from self._frames.close(closed)

    def _pieces(self, run: Run, plan: EncodingPlan, lines: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Return the run in pieces of which each can be added at once: whole where no line comes too often, else one by one."""
        numbers = np.arange(len(run))
        inside = lines[lines >= 0]
        if len(np.unique(inside)) == len(inside) and self._frames.takes_all(run.key, plan, inside):
            return [numbers]
        return [numbers[number : number + 1] for number in range(len(run))]

    def _imaging_plan(self, run: Run) -> EncodingPlan:
        """Return the plan of imaging readouts; with the first of a scan, its whitening is worked out."""
        number = int(run.header["encoding_space_ref"])
        if number in self._imaged:
            return self._plans[number]
        plan = plan_encoding(self._header, number, self._coils, self._request, self._findings)
        if not self._imaged:
            self._frames.whitening = self._noise.whitening(self._coils, float(run.header["sample_time_us"]))
        else:
            self._admit(plan, run)
        self._plans[number] = plan
        self._imaged.append(number)
        return plan

    def _admit(self, plan: EncodingPlan, run: Run) -> None:
        """Refuse images of a further encoding that have another size than those before them: one result has images of one size."""
        first = self._plans[self._imaged[0]]
        if plan.image_shape != first.image_shape:
            field = f"{run.place()}.encoding_space_ref"
            raise UnsupportedDataError(
                f"{run.place()} belongs to encoding {plan.number}, whose images have {plan.image_shape[0]} x {plan.image_shape[1]} "
                f"pixels, those of encoding {first.number} {first.image_shape[0]} x {first.image_shape[1]}; images of one request "
                "have one size: send the encodings apart.",
                reason="SEVERAL_ENCODINGS",
                field=field,
            )
        self._findings.info(
            "several-encodings",
            f"Images come from more than one encoding; those of encoding {plan.number} follow those of the encodings before it.",
        )

    def _check_limits(self, run: Run, plan: EncodingPlan) -> None:
        for name, limit in (("kspace_encode_step_1", plan.step_1), ("kspace_encode_step_2", plan.step_2)):
            steps = run.counter(name)
            wrong = (steps < limit.minimum) | (steps > limit.maximum)
            if wrong.any():
                number = int(np.argmax(wrong))
                field_name = f"{run.place(number)}.idx.{name}"
                raise InvalidInputError(
                    f"{field_name} is {int(steps[number])}, outside the header's limits {limit.minimum} to {limit.maximum}: "
                    "correct the counter, or the limits.",
                    reason="LINE_OUTSIDE_LIMITS",
                    field=field_name,
                )

    def _plan_of(self, number: int) -> EncodingPlan:
        """Return the plan of an encoding that calibration readouts refer to; what is odd about it is said with the images."""
        if number not in self._plans:
            self._plans[number] = plan_encoding(self._header, number, self._coils, self._request, FindingList())
        return self._plans[number]

    def _take_calibration(self, run: Run) -> None:
        """Keep calibration-only readouts: for the gaps of their frame if they lie on the grid, else apart."""
        number = int(run.header["encoding_space_ref"])
        plan = self._plan_of(number)
        images = self._imaged[0] if self._imaged else 0
        if self._frames.is_finished((images, *run.key[1:])):
            self._findings.warn(
                "calibration-after-completion", "Calibration readouts of complete slices are not used.", len(run)
            )
            return
        placement = self._placements.of(run.header, plan.encoded_rows, run.place())
        if number != images or not plan.embedded_calibration:
            self._frames.add_separate(run, plan, placement)
            return
        lines = plan.lines_of(run.counter("kspace_encode_step_1"), run.counter("kspace_encode_step_2"))
        outside = int((lines < 0).sum())
        if outside:
            self._findings.warn(
                "calibration-outside-matrix", "Calibration lines outside the encoded matrix are not used.", outside
            )
        if outside < len(run):
            self._frames.add_embedded(run, plan, lines, placement)


def announced_channels(header: MrdHeader) -> int:
    """Return the number of channels that a header announces; 0 if it does not."""
    return header.system.receiver_channels or len(header.system.coil_labels)
