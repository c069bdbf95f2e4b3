"""Frames of readouts, from a file or while they are measured: one path for both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from recond_service.conditioning.collector import FrameCollector
from recond_service.conditioning.encoding import EncodingPlan, check_supported, plan_encoding
from recond_service.conditioning.identity import Echoes, Places
from recond_service.conditioning.noise_source import NoiseSource
from recond_service.conditioning.partition_counter import with_partitions
from recond_service.conditioning.readout import Placement, Placements
from recond_service.conditioning.runs import Counters, ImageKey, Kind, Run, all_finite, check_finite, runs_of
from recond_service.conditioning.survey import Evidence, Survey, evidence_of
from recond_service.types import (
    AcquisitionBlock,
    AcquisitionSource,
    FindingList,
    Frame,
    InvalidInputError,
    LimitExceededError,
    MrdHeader,
    ScanRequest,
)


class AcquisitionConditioner:
    """Turns readouts into frames; a frame leaves as soon as it is complete.

    Of a file whose headers were looked through before, a frame is complete with the last readout that belongs to it, whatever
    the flags. Of a stream, a 2-D frame is complete when the last readout of its slice was flagged for every announced average
    and segment, or when every line that the limits announce has come as often as there are averages. The frames of a 3-D scan
    are complete together, when all lines have come. LAST_IN_REPETITION closes what is open of a repetition with the same lines,
    LAST_IN_MEASUREMENT everything. What never is complete leaves with `finish`.

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
    survey
        What the headers of all readouts tell; None for a stream.

    Raises
    ------
    InvalidInputError
        If the header tells no matrix.
    UnsupportedDataError
        If the scan is not Cartesian.
    """

    def __init__(
        self,
        header: MrdHeader,
        request: ScanRequest,
        findings: FindingList,
        name: str = "",
        survey: Survey | None = None,
    ) -> None:
        check_supported(header)
        self._header = header
        self._request = request
        self._findings = findings
        self._survey = survey
        self._noise = NoiseSource(header, findings)
        self._frames = FrameCollector(header, request, findings, name, survey)
        self._plans: dict[int, EncodingPlan] = {}
        self._evidence: dict[int, Evidence] = {} if survey is None else dict(survey.encodings)
        self._imaged: list[int] = []
        self._coils = announced_channels(header) if survey is None else survey.channels
        self._placements = Placements(findings)
        self._places = Places(findings)
        self._echoes = Echoes(header, findings)
        self._standing: dict[tuple[Counters, int], int] = {}
        self._taken = 0
        self._spoilt = False
        self._other_channels: list[Run] = []
        self._held_bytes = 0
        if survey is not None and survey.other_channels:
            self._note_channels(announced_channels(header), survey.channels)
        if survey is not None and survey.counted_as_slices:
            findings.warn(
                "partitions-counted-as-slices",
                "kspace_encode_step_2 stands still, and there are as many slices, all at one position, as the header announces "
                "partitions: the slice counter was taken for that of the partition.",
            )

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
            If a readout cannot be what the header announces, or a sample that is used is not finite; the message names it.
        LimitExceededError
            If frames take more memory than the request may, or are too many.
        """
        self._spoilt = not all_finite(block)
        first = self._taken
        self._taken += len(block)
        if self._survey is not None:
            block = with_partitions(block, self._survey.counted_as_slices)
        for run in runs_of(block, first):
            yield from self._take(run)

    def finish(self) -> Iterator[Frame]:
        """Give the frames that are left, in the order in which they were begun.

        Raises
        ------
        InvalidInputError
            If there was no imaging readout.
        """
        if not self._imaged and self._other_channels:
            yield from self._take_other_channels()
        yield from self._frames.finish(self._imaged)
        if not self._frames.made:
            raise InvalidInputError(
                f"None of the {self._taken} readouts is an imaging readout within the matrix: there is nothing to reconstruct.",
                reason="NO_ACQUISITIONS",
                field="acquisitions",
            )

    def _take(self, run: Run) -> Iterator[Frame]:
        if run.kind == Kind.NOISE:
            self._take_noise(run)
        elif run.kind == Kind.NOT_IMAGING:
            self._findings.info(
                "readouts-not-imaging",
                "Navigator, phase-correction, feedback and dummy readouts are not used.",
                len(run),
            )
        elif self._is_usable(run):
            if run.kind == Kind.CALIBRATION:
                self._take_calibration(run)
            else:
                yield from self._take_imaging(run)
            yield from self._frames.complete_with(run)

    def _check_finite(
        self, run: Run, chosen: NDArray[np.int64] | None = None, placement: Placement | None = None
    ) -> None:
        """Refuse NaN and Inf in readouts and samples that are used; elsewhere they do no harm."""
        if self._spoilt:
            samples = int(run.header["number_of_samples"])
            check_finite(run, chosen, None if placement is None else placement.used_of(samples))

    def _take_noise(self, run: Run) -> None:
        if self._imaged:
            self._findings.warn(
                "noise-after-imaging",
                "Noise readouts that came after the first imaging readout are not used.",
                len(run),
            )
            return
        self._check_finite(run)
        # One by one: sums in floating point depend on what is summed together, and a stream may be cut anywhere.
        for number in range(run.start, run.stop):
            self._noise.add(run.block.readout(number), float(run.block.headers["sample_time_us"][number]))

    def _is_usable(self, run: Run) -> bool:
        samples, channels = int(run.header["number_of_samples"]), int(run.header["active_channels"])
        if samples == 0 or channels == 0:
            self._findings.warn("readouts-empty", "Readouts without samples or channels are not used.", len(run))
            return False
        if run.header["trajectory_dimensions"] > 0:
            self._findings.info(
                "trajectory-ignored", "The readouts carry trajectories, which a Cartesian scan does not need.", len(run)
            )
        if not self._coils:
            self._coils = channels
        if channels == self._coils:
            return True
        if self._survey is None and not self._imaged:
            self._hold(run)  # a stream may turn out to have no others
        else:
            self._leave_out(channels, len(run))
        return False

    def _leave_out(self, channels: int, count: int) -> None:
        self._findings.warn(
            "channels-differ",
            f"Readouts with another number of channels ({channels}) than the scan ({self._coils}) are not used.",
            count,
        )

    def _hold(self, run: Run) -> None:
        """Keep readouts with another number of channels than the header announces until one comes that has it."""
        self._other_channels.append(run)
        self._held_bytes += run.readouts.nbytes
        if self._held_bytes > self._request.limits.max_scan_bytes:
            raise LimitExceededError(
                f"The readouts have {int(run.header['active_channels'])} channels, the header announces {self._coils}: without its "
                "announced readouts the scan takes more memory than this service gives. Correct receiverChannels.",
                reason="SCAN_TOO_LARGE",
                field="acquisitions",
            )

    def _drop_held(self) -> None:
        for run in self._other_channels:
            self._leave_out(int(run.header["active_channels"]), len(run))
        self._other_channels.clear()

    def _take_other_channels(self) -> Iterator[Frame]:
        """Take the readouts of a stream none of which had the announced number of channels: those with what most have."""
        counts: Counter[int] = Counter()
        for run in self._other_channels:
            counts[int(run.header["active_channels"])] += len(run)
        chosen = max(counts, key=lambda channels: (counts[channels], channels))
        self._note_channels(self._coils, chosen)
        self._coils = chosen
        held, self._other_channels = self._other_channels, []
        for run in held:
            self._spoilt = not all_finite(run.block)
            if int(run.header["active_channels"]) == chosen:
                yield from self._take(run)
            else:
                self._leave_out(int(run.header["active_channels"]), len(run))

    def _note_channels(self, announced: int, found: int) -> None:
        self._findings.warn(
            "channels-not-announced",
            f"The header announces {announced} channels, the readouts have {found}: these are used.",
        )

    def _take_imaging(self, run: Run) -> Iterator[Frame]:
        doubtful = run.kind == Kind.DOUBTFUL
        plan = self._imaging_plan(run, begin=not doubtful)
        placement = self._placements.of(run.header, plan.encoded_rows, run.place())
        place = self._places.of(run, plan.thickness, imaging=not doubtful)
        lines = self._lines_of(run, plan, place)
        self._check_limits(run, plan, lines)
        if doubtful:
            refusal = None
            try:
                self._check_finite(run, np.flatnonzero(lines >= 0), placement)
            except InvalidInputError as error:
                refusal = error
            self._frames.add_doubtful(run, ImageKey(run.counters, place), plan, lines, placement, refusal)
            return
        evidence = self._evidence[plan.number]
        echoes = self._echoes.of(run, place, lines, plan.lines, evidence.contrasts)
        for chosen, echo in self._pieces(run, place, plan, lines, echoes):
            key = ImageKey(run.counters, place, echo)
            if self._frames.is_finished(key):
                self._findings.warn(
                    "lines-after-completion", "Readouts of slices that were already complete are not used.", len(chosen)
                )
                continue
            inside = chosen[lines[chosen] >= 0]
            if len(inside):
                self._check_finite(run, inside, placement)
                self._frames.add(run, key, plan, inside, lines[inside], placement)
            for closed in self._frames.closed_by(run, key, int(chosen[-1])):
                yield from self._frames.close(closed)

    def _lines_of(self, run: Run, plan: EncodingPlan, place: int) -> NDArray[np.int64]:
        """Return the line of each readout; in a stream, the partition counter of a 2-D encoding may differ from slice to slice."""
        steps = run.counter("kspace_encode_step_2")
        if self._survey is None and plan.partitions == 1:
            standing = self._standing.setdefault((run.counters, place), int(steps[0]))
            steps = steps + plan.step_2.first - standing
        return plan.lines_of(run.counter("kspace_encode_step_1"), steps)

    def _pieces(
        self, run: Run, place: int, plan: EncodingPlan, lines: NDArray[np.int64], echoes: NDArray[np.int64]
    ) -> list[tuple[NDArray[np.int64], int]]:
        """Return the run in pieces to add at once, each with its echo: whole where no line comes again, else one by one."""
        numbers = np.arange(len(run))
        inside = lines[lines >= 0]
        one_echo = bool((echoes == echoes[0]).all())
        key = ImageKey(run.counters, place, int(echoes[0]))
        if one_echo and len(np.unique(inside)) == len(inside) and self._frames.takes_all(key, plan, inside):
            return [(numbers, int(echoes[0]))]
        return [(numbers[number : number + 1], int(echoes[number])) for number in range(len(run))]

    def _imaging_plan(self, run: Run, *, begin: bool) -> EncodingPlan:
        """Return the plan of imaging readouts; with the first of a scan, its whitening is worked out.

        Parameters
        ----------
        run
            Imaging or doubtful readouts.
        begin
            They are imaging readouts for sure.
        """
        number = int(run.header["encoding_space_ref"])
        if number not in self._plans or (begin and number not in self._imaged):
            evidence = self._evidence.setdefault(number, evidence_of(run.header))
            quiet = FindingList()
            self._plans[number] = plan_encoding(
                self._header, number, self._coils, self._request, self._findings if begin else quiet, evidence
            )
        if not self._frames.ready:
            self._frames.get_ready(self._noise.whitening(self._coils, float(run.header["sample_time_us"])))
        if begin and number not in self._imaged:
            self._drop_held()
            if self._imaged:
                self._findings.info(
                    "several-encodings",
                    f"Images come from more than one encoding; those of encoding {number} follow those of the encodings before it.",
                )
            self._imaged.append(number)
        return self._plans[number]

    def _check_limits(self, run: Run, plan: EncodingPlan, lines: NDArray[np.int64]) -> None:
        """Say which counters lie outside the header's limits: believed as far as they are collected, else left out."""
        for name, axis in (("kspace_encode_step_1", plan.step_1), ("kspace_encode_step_2", plan.step_2)):
            steps = run.counter(name)
            if axis.limit is not None:
                beyond = (steps < axis.limit.minimum) | (steps > axis.limit.maximum)
                believed = int((beyond & (lines >= 0)).sum())
                if believed:
                    self._findings.warn(
                        "limits-contradicted",
                        f"{name} goes beyond the header's limits {axis.limit.minimum} to {axis.limit.maximum}, first in "
                        f"{run.place()}: the counters are believed.",
                        believed,
                    )
        lost = lines < 0
        if lost.any():
            number = int(np.argmax(lost))
            self._findings.warn(
                "lines-outside-matrix",
                "Readouts whose counters lie outside the limits and the matrix of the header are not used, first "
                f"{run.place(number)}.",
                int(lost.sum()),
            )

    def _plan_of(self, number: int) -> EncodingPlan:
        """Return the plan of an encoding that calibration readouts refer to; what is odd about it is said with the images."""
        if number not in self._plans:
            evidence = self._evidence.get(number, Evidence())
            self._plans[number] = plan_encoding(
                self._header, number, self._coils, self._request, FindingList(), evidence
            )
        return self._plans[number]

    def _take_calibration(self, run: Run) -> None:
        """Keep calibration-only readouts: for the gaps of their frame if they lie on the grid, else apart."""
        number = int(run.header["encoding_space_ref"])
        plan = self._plan_of(number)
        images = self._imaged[0] if self._imaged else 0
        place = self._places.of(run, plan.thickness, imaging=False)
        if self._frames.is_finished(ImageKey(run.counters._replace(encoding=images), place)):
            self._findings.warn(
                "calibration-after-completion", "Calibration readouts of complete slices are not used.", len(run)
            )
            return
        placement = self._placements.of(run.header, plan.encoded_rows, run.place())
        key = ImageKey(run.counters, place)
        if number != images or not plan.embedded_calibration:
            self._check_finite(run, None, placement)
            self._frames.add_separate(run, key, plan, placement)
            return
        lines = self._lines_of(run, plan, place)
        outside = int((lines < 0).sum())
        if outside:
            self._findings.warn(
                "calibration-outside-matrix", "Calibration lines outside the encoded matrix are not used.", outside
            )
        if outside < len(run):
            self._check_finite(run, np.flatnonzero(lines >= 0), placement)
            self._frames.add_embedded(run, key, plan, lines, placement)


def announced_channels(header: MrdHeader) -> int:
    """Return the number of channels that a header announces; 0 if it does not."""
    return header.system.receiver_channels or len(header.system.coil_labels)
