"""Open frames: what has come of them, when they are complete, and the frames that they become."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recond_service.conditioning import flags
from recond_service.conditioning.compression import coil_covariance, compressions
from recond_service.conditioning.encoding import EncodingPlan
from recond_service.conditioning.geometry import geometry_of, readout_position
from recond_service.conditioning.grid import KspaceGrid
from recond_service.conditioning.noise import Whitening
from recond_service.conditioning.noise_source import check_whitened
from recond_service.conditioning.preparation import prepare
from recond_service.conditioning.readout import Placement
from recond_service.conditioning.runs import Key, Run
from recond_service.conditioning.sampling import calibration_extent, centre_block
from recond_service.conditioning.scaling import bring_to_range, multiply_by_power, normalise, peak_of
from recond_service.conditioning.separate_calibration import CalibrationLines, EarlierCalibration
from recond_service.conditioning.volume import HybridVolume, VolumeGrid
from recond_service.types import (
    FindingList,
    Frame,
    FrameIndex,
    Geometry,
    InvalidInputError,
    LimitExceededError,
    MrdHeader,
    ScanRequest,
)

_AT_ONCE = 16  # readout positions that are gathered together: enough for whole cache lines


@dataclass(slots=True)
class _OpenFrame:
    """What has come of a 2-D frame, or of all frames of a 3-D scan, so far."""

    plan: EncodingPlan
    grid: KspaceGrid | VolumeGrid
    first_header: np.void
    expected: NDArray[np.bool_]
    unfinished_lines: int
    last_averages: set[int] = field(default_factory=set)
    average_counters: set[int] = field(default_factory=set)
    repeated: bool = False
    partial_readouts: bool = False


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
    """

    def __init__(self, header: MrdHeader, request: ScanRequest, findings: FindingList, name: str) -> None:
        self._request = request
        self._findings = findings
        self._name = name
        self._siemens = "siemens" in header.system.vendor.lower()
        self._open: dict[Key, _OpenFrame] = {}
        self._embedded: dict[Key, KspaceGrid | VolumeGrid] = {}
        self._separate: CalibrationLines | None = None
        self._earlier = EarlierCalibration(header.encodings[0].limits)
        self._finished: set[Key] = set()
        self._images = 0
        self._open_bytes = 0
        self.whitening: Whitening | None = None

    def is_finished(self, key: Key) -> bool:
        """Tell whether a frame was closed already."""
        return key in self._finished

    @property
    def open_keys(self) -> list[Key]:
        """Frames that are open, in the order in which they were begun."""
        return list(self._open)

    @property
    def unused_calibration(self) -> int:
        """Number of slices with calibration readouts on their grid that were never closed."""
        return len(self._embedded)

    def add(
        self, run: Run, plan: EncodingPlan, chosen: NDArray[np.int64], lines: NDArray[np.int64], placement: Placement
    ) -> None:
        """Add readouts of a run to their frame, which is opened if they are its first.

        Parameters
        ----------
        run
            Imaging readouts.
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
        key = run.key
        state = self._open.get(key)
        if state is None:
            state = self._open[key] = self._begin(run, plan)
        average = int(run.header["idx"]["average"])
        again = int((state.grid.lines[lines] > 0).sum())
        if again:
            state.repeated = True
            if average in state.average_counters and len(state.average_counters) == 1:
                self._findings.info("lines-repeated", "Lines that came more than once were averaged.", again)
        state.average_counters.add(average)
        before = state.grid.nbytes
        readouts = run.readouts
        state.grid.add(readouts if len(chosen) == len(run) else readouts[chosen], placement, lines)
        self._claim(state.grid.nbytes - before, run.place())
        done = (state.grid.lines[lines] == plan.averages) & state.expected[lines]
        state.unfinished_lines -= int(done.sum())
        state.partial_readouts |= placement.target_stop - placement.target_start < plan.encoded_rows - 1

    def takes_all(self, key: Key, plan: EncodingPlan, lines: NDArray[np.int64]) -> bool:
        """Tell whether none of `lines`, all different, comes more often than there are averages.

        The frame is then complete with the last of them at the earliest.
        """
        state = self._open.get(key)
        return state is None or bool((state.grid.lines[lines] < plan.averages).all())

    def closed_by(self, run: Run, number: int) -> list[Key]:
        """Return the frames that readout `number` of a run completes: by its flags, or because all their lines are there."""
        key, bits = run.key, int(run.block.headers["flags"][run.start + number])
        average = int(run.header["idx"]["average"])
        last = (
            [key] if bits & flags.LAST_IN_SLICE and key in self._open and self._open[key].plan.positions is None else []
        )
        if bits & flags.LAST_IN_MEASUREMENT:
            last = self.open_keys
        elif bits & flags.LAST_IN_REPETITION:
            last = self._sampled_alike(key)
        closed = []
        for other in last:
            state = self._open[other]
            state.last_averages.add(average)
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

    def _sampled_alike(self, key: Key) -> list[Key]:
        """Return the open frames of the repetition of a frame that have the lines that it has.

        Some files carry LAST_IN_REPETITION once, others on the last line of every slice: slices of which lines are still to come
        are then told by what they lack.
        """
        own = self._open.get(key)
        return [
            other
            for other, state in self._open.items()
            if own is not None
            and (other[0], other[4]) == (key[0], key[4])
            and np.array_equal(state.grid.lines, own.grid.lines)
        ]

    def add_separate(self, run: Run, plan: EncodingPlan, placement: Placement) -> None:
        """Keep calibration readouts that do not lie on the grid of the images."""
        if self._separate is None:
            self._separate = CalibrationLines(self._request.limits)
        steps = zip(run.counter("kspace_encode_step_1"), run.counter("kspace_encode_step_2"), strict=True)
        for readout, (step_1, step_2) in zip(run.readouts, steps, strict=True):
            self._separate.add(run.key, readout, placement, (int(step_1), int(step_2)), plan)

    def add_embedded(self, run: Run, plan: EncodingPlan, lines: NDArray[np.int64], placement: Placement) -> None:
        """Keep calibration readouts for the gaps of their frame."""
        grid = self._embedded.get(run.key)
        if grid is None:
            grid = self._embedded[run.key] = self._new_grid(run, plan)
        before = grid.nbytes
        for readout, line in zip(run.readouts, lines, strict=True):
            if line >= 0:
                grid.add(readout[None], placement, np.array([line]))
        self._claim(grid.nbytes - before, run.place())

    def close(self, key: Key) -> Iterator[Frame]:
        """Turn what was collected for a frame into the frame, or into those of all readout positions of a 3-D scan.

        Raises
        ------
        InvalidInputError
            If sums of samples went beyond single precision, or the wanted undersampling cannot be.
        """
        state = self._open.pop(key)
        self._finished.add(key)
        plan = state.plan
        released = state.grid.nbytes
        embedded = self._embedded.pop(key, None)
        if embedded is not None:
            released += embedded.nbytes
            filled = _fill(state.grid, embedded)
            if filled:
                self._findings.info("calibration-lines-used", "Calibration lines fill gaps of k-space.", filled)
        if len(state.average_counters) > 1:
            self._findings.info("averages-combined", "Averages were combined as complex numbers, line by line.")
        geometry = geometry_of(state.first_header, plan.spacing, self._findings)
        conjugate = geometry is not None and self._siemens
        if conjugate:
            self._findings.info(
                "conjugated", "The scanner's Fourier transform has the other sign: k-space was conjugated."
            )
        repeats = float(np.mean(state.grid.lines[state.grid.lines > 0]))
        if isinstance(state.grid, VolumeGrid):
            yield from self._close_volume(key, state, geometry, repeats, conjugate=conjugate)
        else:
            yield self._close_plane(key, state, state.grid, geometry, repeats, conjugate=conjugate)
        self._open_bytes -= released

    def _begin(self, run: Run, plan: EncodingPlan) -> _OpenFrame:
        limit = self._request.limits.max_images
        self._images += 1 if plan.positions is None else plan.positions.images
        if self._images > limit:
            raise LimitExceededError(
                f"The scan has more than {limit} images, which is what this service takes.",
                reason="TOO_MANY_IMAGES",
                field=f"{run.place()}.idx",
            )
        expected = plan.expected()
        return _OpenFrame(plan, self._new_grid(run, plan), run.header.copy(), expected, int(expected.sum()))

    def _new_grid(self, run: Run, plan: EncodingPlan) -> KspaceGrid | VolumeGrid:
        coils = int(run.header["active_channels"])
        if plan.positions is not None:
            return VolumeGrid(coils, plan.encoded_rows, (plan.columns, plan.partitions))
        self._claim(8 * coils * plan.encoded_rows * plan.columns, run.place())
        return KspaceGrid(coils, plan.encoded_rows, plan.columns)

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

    def _close_plane(
        self,
        key: Key,
        state: _OpenFrame,
        grid: KspaceGrid,
        geometry: Geometry | None,
        repeats: float,
        *,
        conjugate: bool,
    ) -> Frame:
        result = grid.finish(state.plan.rows, self.whitening, conjugate=conjugate)
        _refuse_overflow(result.finite, key)
        frame = self._frame(
            FrameIndex(*key[1:], encoding=key[0]), state.plan, result.kspace, result.mask, result.exponent
        )
        frame.geometry = geometry
        if self.whitening is not None:
            check_whitened(frame.kspace, frame.mask, frame.scale, repeats, self._findings)
        if self._separate is not None:
            found = self._separate.for_frame(key, state.plan, self.whitening, self._findings, conjugate=conjugate)
            if found is not None and found.kspace.shape[2] > frame.calibration_extent[1]:
                multiply_by_power(found.kspace, _exponent(frame) - found.exponent)
                frame.calibration = found.kspace
        return self._prepared(frame, None)

    def _close_volume(
        self, key: Key, state: _OpenFrame, geometry: Geometry | None, repeats: float, *, conjugate: bool
    ) -> Iterator[Frame]:
        plan, grid = state.plan, state.grid
        positions = plan.positions
        if positions is None or not isinstance(grid, VolumeGrid):
            return
        if state.partial_readouts and self._request.conditioning.partial_fourier == "pocs":
            self._findings.warn(
                "pocs-not-applicable",
                "Asymmetric echoes of a 3-D scan are not completed by POCS: what was not measured is zero.",
            )
        volume = grid.finish(plan.rows, positions, self.whitening, conjugate=conjugate)
        _refuse_overflow(volume.finite, key)
        mask = volume.mask
        extent = calibration_extent(mask)
        separate = None
        if self._separate is not None:
            separate = self._separate.for_volume(key, plan, self.whitening, self._findings, conjugate=conjugate)
        apart = (0, 0) if separate is None else calibration_extent(separate.mask)
        if min(apart) <= min(extent):
            separate = None
        matrices = self._matrices(volume, separate, extent, positions.images)
        for number, kspace in enumerate(_planes_of(volume, positions.images)):
            index = FrameIndex(key[1] * positions.images + number, key[2], key[3], key[4], key[5], encoding=key[0])
            frame = self._frame(index, plan, kspace, mask.copy(), volume.exponent)
            if geometry is not None:
                frame.geometry = readout_position(geometry, plan, number)
            if self.whitening is not None:
                check_whitened(frame.kspace, frame.mask, frame.scale, repeats, self._findings)
            if separate is not None:
                block = centre_block(separate.planes(number, 1)[0], apart)
                multiply_by_power(block, _exponent(frame) - separate.exponent)
                frame.calibration = block
            yield self._prepared(frame, matrices[number] if matrices else None)

    def _matrices(
        self, volume: HybridVolume, separate: HybridVolume | None, extent: tuple[int, int], images: int
    ) -> list[NDArray[np.complex64]]:
        """Return the compression matrices of all readout positions, none if the coils stay as they are."""
        options = self._request.conditioning
        if not options.virtual_coils and not options.coil_energy:
            return []
        source = volume if separate is None else separate
        covariances = []
        for kspace in _planes_of(source, images):
            block = centre_block(kspace, extent) if separate is None and min(extent) > 1 else kspace
            covariances.append(coil_covariance(block))
        return compressions(covariances, options, self._findings)

    def _prepared(self, frame: Frame, matrix: NDArray[np.complex64] | None) -> Frame:
        if self._earlier.exchange(frame):
            self._findings.info(
                "calibration-shared", "Calibration of an earlier image of the slice serves images that have none."
            )
        return prepare(frame, self._request, self._findings, self._name, matrix)

    def _frame(
        self,
        index: FrameIndex,
        plan: EncodingPlan,
        kspace: NDArray[np.complex64],
        mask: NDArray[np.bool_],
        exponent: int,
    ) -> Frame:
        peak = peak_of(kspace)
        if peak == 0:
            self._findings.warn("slice-empty", f"Slice {index.slice} is zero everywhere: so is its image.")
        exponent += bring_to_range(kspace, peak)
        exponent += normalise(kspace)
        return Frame(
            index=index,
            kspace=kspace,
            mask=mask,
            calibration_extent=calibration_extent(mask),
            scale=2.0**exponent if peak > 0 else 1.0,
            image_shape=plan.image_shape,
            window=plan.window,
            whitened=self.whitening is not None,
        )


def _planes_of(volume: HybridVolume, images: int) -> Iterator[NDArray[np.complex64]]:
    """Give the k-space (coils, columns, partitions) of all readout positions; some are gathered at once."""
    for first in range(0, images, _AT_ONCE):
        gathered = volume.planes(first, min(_AT_ONCE, images - first))
        for kspace in gathered:
            yield kspace.copy()


def _fill(grid: KspaceGrid | VolumeGrid, other: KspaceGrid | VolumeGrid) -> int:
    """Fill the gaps of a grid from another of the same kind; return how many lines."""
    if isinstance(grid, VolumeGrid) and isinstance(other, VolumeGrid):
        return grid.fill_from(other)
    if isinstance(grid, KspaceGrid) and isinstance(other, KspaceGrid):
        return grid.fill_from(other)
    return 0


def _exponent(frame: Frame) -> int:
    return math.frexp(frame.scale)[1] - 1


def _refuse_overflow(finite: bool, key: Key) -> None:
    if not finite:
        raise InvalidInputError(
            f"The averages of slice {key[1]} add up to more than single precision holds: scale the data down.",
            reason="NOT_FINITE",
            field=f"slice {key[1]}",
        )
