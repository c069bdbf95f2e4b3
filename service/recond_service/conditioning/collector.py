"""Open frames: what has come of them, and when they are complete."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from recond_service.conditioning import flags
from recond_service.conditioning.encoding import EncodingPlan, plan_encoding
from recond_service.conditioning.framing import FrameBuilder, OpenFrame
from recond_service.conditioning.grid import KspaceGrid
from recond_service.conditioning.noise import Whitening
from recond_service.conditioning.readout import Placement
from recond_service.conditioning.runs import ImageKey, Run
from recond_service.conditioning.separate_calibration import SeparateCalibration
from recond_service.conditioning.survey import Steps, Survey, evidence_of, flag_names
from recond_service.conditioning.volume import VolumeGrid
from recond_service.types import (
    FindingList,
    Frame,
    InvalidInputError,
    LimitExceededError,
    MrdHeader,
    ScanRequest,
)

_STAGED_FRAMES = (
    2  # open frames of a stream whose lines are brought into order as they come, which takes their memory twice
)
_REPEATED = 0.05  # share of readouts of doubtful purpose that may repeat lines of the image where they fill its gaps
_AS_FULL = 0.9  # of the lines of other images: readouts of doubtful purpose that fill k-space like these make an image


@dataclass(slots=True)
class _Aside:
    """Readouts of a frame that are used only if their lines are missing: calibration, or readouts of doubtful purpose."""

    plan: EncodingPlan
    grid: KspaceGrid | VolumeGrid
    first_header: np.void
    bits: int = 0
    count: int = 0
    refusal: InvalidInputError | None = None


class FrameCollector:
    """Collects imaging and calibration readouts and closes frames.

    Parameters
    ----------
    header
        ISMRMRD header of the scan.
    request
        Limits, and how frames are to be prepared.
    findings
        Gets what was noticed.
    name
        File name, which seeds the undersampling.
    survey
        What the headers of all readouts tell; None for a stream.
    """

    def __init__(
        self, header: MrdHeader, request: ScanRequest, findings: FindingList, name: str, survey: Survey | None
    ) -> None:
        self._header = header
        self._request = request
        self._findings = findings
        self._survey = survey
        self._builder = FrameBuilder(header, request, findings, name, survey)
        self._open: dict[ImageKey, OpenFrame] = {}
        self._embedded: dict[ImageKey, _Aside] = {}
        self._doubtful: dict[ImageKey, dict[int, _Aside]] = {}
        self._finished: set[ImageKey] = set()
        self._most_lines: dict[int, int] = {}
        self._images = 0
        self._open_bytes = 0
        self.ready = False

    def get_ready(self, whitening: Whitening | None) -> None:
        """Set the whitening of all frames, before the first one is begun."""
        self._builder.whiten_with(whitening)
        self.ready = True

    @property
    def made(self) -> bool:
        """Whether there was any frame."""
        return bool(self._finished)

    def is_finished(self, key: ImageKey) -> bool:
        """Tell whether a frame was closed already."""
        return key in self._finished

    def add(
        self,
        run: Run,
        key: ImageKey,
        plan: EncodingPlan,
        chosen: NDArray[np.int64],
        lines: NDArray[np.int64],
        placement: Placement,
    ) -> None:
        """Add readouts of a run to their frame, which is opened if they are its first.

        Parameters
        ----------
        run
            Imaging readouts.
        key
            The image that they belong to.
        plan
            Of their encoding.
        chosen
            Which of them, by their number in the run.
        lines
            The line of each of those, all different.
        placement
            Of all of them.

        Raises
        ------
        LimitExceededError
            If frames take more memory than the request may, or are too many.
        """
        state = self._open.get(key)
        if state is None:
            state = self._open[key] = self._begin(run.header, run.place(), plan)
        average = int(run.header["idx"]["average"])
        again = int((state.grid.lines[lines] > 0).sum())
        if again:
            state.repeated = True
            if average in state.average_counters and len(state.average_counters) == 1:
                self._findings.warn(
                    "lines-repeated",
                    "Lines that came more than once with the same counters were averaged: if they are echoes, repetitions or "
                    "reference lines whose counters or flags were not set, the images are wrong.",
                    again,
                )
        state.average_counters.add(average)
        state.segments.update(run.block.headers["idx"]["segment"][run.start : run.stop][chosen].tolist())
        state.placements.add(placement)
        bits = run.block.headers["flags"][run.start : run.stop][chosen]
        flagged = lines[(bits & np.uint64(flags.CALIBRATION | flags.CALIBRATION_AND_IMAGING)) != 0]
        state.calibrated += flagged.tolist()
        before = state.grid.nbytes
        readouts = run.readouts
        state.grid.add(readouts if len(chosen) == len(run) else readouts[chosen], placement, lines)
        self._claim(state.grid.nbytes - before, run.place())
        done = (state.grid.lines[lines] == plan.averages) & state.expected[lines]
        state.unfinished_lines -= int(done.sum())

    def takes_all(self, key: ImageKey, plan: EncodingPlan, lines: NDArray[np.int64]) -> bool:
        """Tell whether none of `lines`, all different, can complete the frame before the last of them."""
        state = self._open.get(key)
        return self._survey is not None or state is None or bool((state.grid.lines[lines] < plan.averages).all())

    def complete_with(self, run: Run) -> Iterator[Frame]:
        """Give the frames that a run completes because nothing of them is to come, as the headers of the whole file tell."""
        if self._survey is None:
            return
        last = self._survey.last.get(run.counters)
        if last is None or not run.number <= last < run.number + len(run):
            return
        for key in [key for key in self._open if key.counters == run.counters]:
            yield from self.close(key)
        if not self._survey.imaging:
            for key in [key for key in self._doubtful if key.counters == run.counters]:
                yield from self._close_doubtful(key)

    def closed_by(self, run: Run, key: ImageKey, number: int) -> list[ImageKey]:
        """Return the frames that a readout of a stream completes: by its flags, or because all their lines are there.

        Parameters
        ----------
        run
            Imaging readouts.
        key
            The image that they belong to.
        number
            Which of them.
        """
        if self._survey is not None:
            return []
        bits = int(run.block.headers["flags"][run.start + number])
        average = int(run.header["idx"]["average"])
        last = (
            [key] if bits & flags.LAST_IN_SLICE and key in self._open and self._open[key].plan.positions is None else []
        )
        if bits & flags.LAST_IN_MEASUREMENT:
            last = list(self._open)
        elif bits & flags.LAST_IN_REPETITION:
            last = self._sampled_alike(key)
        closed = []
        for other in last:
            state = self._open[other]
            state.last_averages.add(average)
            # Some sequences flag the end of every segment: then more is to come until all segments were seen.
            if len(state.segments) < state.plan.segments and not bits & flags.LAST_IN_MEASUREMENT:
                continue
            # Where averages are the inner loop, only the last one carries the flag.
            if len(state.last_averages) >= state.plan.averages or average == state.plan.last_average > 0:
                closed.append(other)
        own = self._open.get(key)
        # Averages that the header does not announce show only when a line comes again: then the flags or the end decide.
        if (
            own is not None
            and key not in closed
            and own.unfinished_lines <= 0
            and (own.plan.averages_announced or not own.repeated)
        ):
            closed.append(key)
        return closed

    def _sampled_alike(self, key: ImageKey) -> list[ImageKey]:
        """Return the open frames of the repetition of a frame that have the lines that it has.

        Some files carry LAST_IN_REPETITION once, others on the last line of every slice: slices of which lines are still to come
        are then told by what they lack.
        """
        own = self._open.get(key)
        return [
            other
            for other, state in self._open.items()
            if own is not None
            and (other.counters.encoding, other.counters.repetition) == (key.counters.encoding, key.counters.repetition)
            and np.array_equal(state.grid.lines, own.grid.lines)
        ]

    def finish(self, imaged: list[int]) -> Iterator[Frame]:
        """Give the frames that are left, in the order in which they were begun.

        Parameters
        ----------
        imaged
            Gets the number of an encoding whose only images come from readouts of doubtful purpose.
        """
        left = list(self._open)
        if left and self._survey is None:
            self._findings.info(
                "slices-not-closed",
                "Slices without a LAST_IN_SLICE flag whose lines did not all come: reconstructed at the end of the scan.",
                len(left),
            )
        for key in left:
            yield from self.close(key)
        for key in list(self._doubtful):
            yield from self._close_doubtful(key)
        imaged += sorted({key.counters.encoding for key in self._finished} - set(imaged))
        if self._embedded:
            self._findings.warn(
                "calibration-unused",
                "Calibration readouts of slices without imaging readouts are not used.",
                len(self._embedded),
            )

    def add_separate(self, run: Run, key: ImageKey, plan: EncodingPlan, placement: Placement) -> None:
        """Keep calibration readouts that do not lie on the grid of the images."""
        if self._builder.separate is None:
            self._builder.separate = SeparateCalibration(self._request.limits)
        placement = placement.as_measured(plan.encoded_rows)
        steps = zip(run.counter("kspace_encode_step_1"), run.counter("kspace_encode_step_2"), strict=True)
        for readout, (step_1, step_2) in zip(run.readouts, steps, strict=True):
            self._builder.separate.add(key, readout, placement, (int(step_1), int(step_2)), plan)

    def add_embedded(
        self, run: Run, key: ImageKey, plan: EncodingPlan, lines: NDArray[np.int64], placement: Placement
    ) -> None:
        """Keep calibration readouts for the gaps of their frame."""
        self._embedded[key] = self._put_aside(self._embedded.get(key), run, plan, lines, placement)

    def add_doubtful(
        self,
        run: Run,
        key: ImageKey,
        plan: EncodingPlan,
        lines: NDArray[np.int64],
        placement: Placement,
        refusal: InvalidInputError | None,
    ) -> None:
        """Keep readouts whose flags say that they are not imaging, as long as nothing else shows that.

        `refusal` is raised if they turn out to be: then they hold NaN.
        """
        asides = self._doubtful.setdefault(key, {})
        bits = int(run.header["flags"]) & flags.ALL_DOUBTFUL
        asides[bits] = self._put_aside(asides.get(bits), run, plan, lines, placement)
        asides[bits].refusal = asides[bits].refusal or refusal

    def _put_aside(
        self, aside: _Aside | None, run: Run, plan: EncodingPlan, lines: NDArray[np.int64], placement: Placement
    ) -> _Aside:
        if aside is None:
            aside = _Aside(plan, self._new_grid(run.header, run.place(), plan), run.header.copy())
        before = aside.grid.nbytes
        for readout, line in zip(run.readouts, lines, strict=True):
            if line >= 0:
                aside.grid.add(readout[None], placement, np.array([line]))
        aside.count += len(run)
        aside.bits |= int(np.bitwise_or.reduce(run.block.headers["flags"][run.start : run.stop]))
        self._claim(aside.grid.nbytes - before, run.place())
        return aside

    def close(self, key: ImageKey) -> Iterator[Frame]:
        """Turn what was collected for a frame into the frame, or into those of all readout positions of a 3-D scan.

        Raises
        ------
        InvalidInputError
            If sums of samples went beyond single precision, or the wanted undersampling cannot be.
        """
        state = self._open.pop(key)
        self._finished.add(key)
        released = state.grid.nbytes + self._fill_from_asides(key, state)
        if isinstance(state.grid, VolumeGrid) and _stands_still(state):
            self._flatten(state)
        number = key.counters.encoding
        self._most_lines[number] = max(self._most_lines.get(number, 0), int((state.grid.lines > 0).sum()))
        yield from self._builder.frames_of(key, state)
        self._open_bytes -= released

    def _fill_from_asides(self, key: ImageKey, state: OpenFrame) -> int:
        """Fill the gaps of a frame from what was put aside; return how many bytes that frees."""
        released = 0
        embedded = self._embedded.pop(key, None)
        if embedded is not None:
            released += embedded.grid.nbytes
            state.calibrated += np.flatnonzero(embedded.grid.lines).tolist()
            filled = _fill(state.grid, embedded.grid)
            if filled:
                self._findings.info("calibration-lines-used", "Calibration lines fill gaps of k-space.", filled)
        # Those of one flag are never averaged with those of another; the most complete fill gaps first.
        for doubtful in sorted(self._doubtful.pop(key, {}).values(), key=_by_lines, reverse=True):
            released += doubtful.grid.nbytes
            lines = doubtful.grid.lines > 0
            again = int((lines & (state.grid.lines > 0)).sum())
            if lines.any() and again <= _REPEATED * lines.sum():
                if doubtful.refusal is not None:
                    raise doubtful.refusal
                _fill(state.grid, doubtful.grid)
                self._note_doubtful_used(doubtful)
            else:
                add = self._findings.warn if again < lines.sum() else self._findings.info
                add(
                    "readouts-flagged-apart",
                    f"Readouts with the flag {flag_names(doubtful.bits)} repeat lines of the images: they are not used.",
                    doubtful.count,
                )
        return released

    def _note_doubtful_used(self, doubtful: _Aside) -> None:
        self._findings.warn(
            "flagged-lines-used",
            f"Lines that are nowhere else carry the flag {flag_names(doubtful.bits)}: they are taken for imaging readouts.",
            doubtful.count,
        )

    def _close_doubtful(self, key: ImageKey) -> Iterator[Frame]:
        """Make an image of readouts that all carry a doubtful flag, if the scan has no others or they fill k-space as these do."""
        doubtful = self._doubtful[key]
        first = max(doubtful.values(), key=_by_lines)
        lines = int(np.any([aside.grid.lines > 0 for aside in doubtful.values()], axis=0).sum())
        if not lines or lines < _AS_FULL * self._most_lines.get(key.counters.encoding, 0):
            for aside in self._doubtful.pop(key).values():
                self._findings.warn(
                    "readouts-flagged-apart",
                    f"Readouts with the flag {flag_names(aside.bits)} belong to no image: they are not used.",
                    aside.count,
                )
                self._open_bytes -= aside.grid.nbytes
            return
        self._open[key] = self._begin(first.first_header, f"slice {key.counters.slice}", first.plan)
        yield from self.close(key)

    def _flatten(self, state: OpenFrame) -> None:
        """Make a 2-D frame of readouts whose partition counter stands still, although the header announces partitions."""
        number = state.plan.number
        still = Steps(np.eye(1, dtype=np.int64)[0])
        evidence = replace(evidence_of(state.first_header), step_2=still)
        coils = int(state.first_header["active_channels"])
        flat = plan_encoding(self._header, number, coils, self._request, self._findings, evidence)
        if isinstance(state.grid, VolumeGrid):
            state.plan = replace(flat, step_1=state.plan.step_1)
            state.grid = state.grid.as_plane()

    def _begin(self, header: np.void, place: str, plan: EncodingPlan) -> OpenFrame:
        limit = self._request.limits.max_images
        self._images += 1 if plan.positions is None else max(plan.positions.images, plan.image_shape[1])
        if self._images > limit:
            raise LimitExceededError(
                f"The scan has more than {limit} images, which is what this service takes.",
                reason="TOO_MANY_IMAGES",
                field=f"{place}.idx",
            )
        expected = plan.expected()
        unfinished = int(expected.sum())
        # With nothing to expect, only flags and the end complete a frame.
        return OpenFrame(plan, self._new_grid(header, place, plan), header.copy(), expected, unfinished or 1)

    def _new_grid(self, header: np.void, place: str, plan: EncodingPlan) -> KspaceGrid | VolumeGrid:
        coils = int(header["active_channels"])
        if plan.positions is not None:
            return VolumeGrid(coils, plan.encoded_rows, (plan.step_1.count, plan.step_2.count))
        self._claim(8 * coils * plan.encoded_rows * plan.lines, place)
        grid = KspaceGrid(coils, plan.encoded_rows, plan.lines)
        if self._survey is None and len(self._open) < _STAGED_FRAMES and plan.lines == plan.columns:
            before = grid.nbytes
            grid.stage(plan.rows)
            self._claim(grid.nbytes - before, place)
        return grid

    def _claim(self, size: int, place: str) -> None:
        """Count memory of open frames before, or as soon as, it is taken."""
        self._open_bytes += size
        if self._open_bytes > self._request.limits.max_scan_bytes:
            raise LimitExceededError(
                f"At {place} the frames that are not complete take more than {self._request.limits.max_scan_bytes} bytes, which is "
                "what this service takes: send the slices one after another.",
                reason="SCAN_TOO_LARGE",
                field=place,
            )


def _by_lines(aside: _Aside) -> tuple[int, int]:
    """Return by what readouts of doubtful purpose are ordered: how many lines they have, and their flags."""
    return int((aside.grid.lines > 0).sum()), aside.bits & flags.ALL_DOUBTFUL


def _fill(grid: KspaceGrid | VolumeGrid, other: KspaceGrid | VolumeGrid) -> int:
    """Fill the gaps of a grid from another of the same kind; return how many lines."""
    if isinstance(grid, VolumeGrid) and isinstance(other, VolumeGrid):
        return grid.fill_from(other)
    if isinstance(grid, KspaceGrid) and isinstance(other, KspaceGrid):
        return grid.fill_from(other)
    return 0


def _stands_still(state: OpenFrame) -> bool:
    """Tell whether all readouts of a 3-D frame have the same partition counter."""
    shape = state.plan.step_1.count, state.plan.step_2.count
    measured = (state.grid.lines > 0).reshape(shape)
    return int(measured.any(axis=0).sum()) == 1
