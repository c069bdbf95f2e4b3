"""From what was collected of a frame to the frame: whitened, without oversampling, scaled, prepared as the request asks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recond_models.sampling import centre_block
from recond_service.conditioning.alignment import Alignment
from recond_service.conditioning.compression import coil_covariance, compressions
from recond_service.conditioning.encoding import EncodingPlan
from recond_service.conditioning.geometry import geometry_of
from recond_service.conditioning.grid import KspaceGrid
from recond_service.conditioning.noise import Whitening
from recond_service.conditioning.noise_source import check_whitened
from recond_service.conditioning.preparation import prepare
from recond_service.conditioning.readout import Placement
from recond_service.conditioning.runs import ImageKey
from recond_service.conditioning.sampling import calibration_extent
from recond_service.conditioning.scaling import bring_to_unity, multiply_by_power
from recond_service.conditioning.separate_calibration import EarlierCalibration, SeparateCalibration
from recond_service.conditioning.survey import Survey
from recond_service.conditioning.volume import HybridVolume, VolumeGrid
from recond_service.types import (
    Crossing,
    FindingList,
    Frame,
    FrameIndex,
    Geometry,
    InvalidInputError,
    MrdHeader,
    ScanRequest,
)

_AT_ONCE = 16  # readout positions that are gathered together: enough for whole cache lines


@dataclass(slots=True)
class OpenFrame:
    """What has come of a 2-D frame, or of all frames of a 3-D scan, so far."""

    plan: EncodingPlan
    grid: KspaceGrid | VolumeGrid
    first_header: np.void
    expected: NDArray[np.bool_]
    unfinished_lines: int
    last_averages: set[int] = field(default_factory=set)
    average_counters: set[int] = field(default_factory=set)
    segments: set[int] = field(default_factory=set)
    placements: set[Placement] = field(default_factory=set)
    calibrated: list[int] = field(default_factory=list)
    repeated: bool = False


class FrameBuilder:
    """Turns collected k-space into frames.

    Parameters
    ----------
    header
        ISMRMRD header of the scan.
    request
        How frames are to be prepared.
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
        self._request = request
        self._findings = findings
        self._name = name
        self._survey = survey
        self._siemens = "siemens" in header.system.vendor.lower()
        times = header.sequence.repetition_times
        self._repetition_time = times[0] if len(times) == 1 and times[0] > 0 else None
        self._earlier = EarlierCalibration(header.encodings[0].limits)
        self._alignment = Alignment(findings)
        self._whitening: Whitening | None = None
        self.separate: SeparateCalibration | None = None

    def whiten_with(self, whitening: Whitening | None) -> None:
        """Set the whitening of all frames that follow."""
        self._whitening = whitening

    def frames_of(self, key: ImageKey, state: OpenFrame) -> Iterator[Frame]:
        """Give the frame of what was collected, or those of all readout positions of a 3-D scan; the collected lines are used up.

        Raises
        ------
        InvalidInputError
            If sums of samples went beyond single precision, or the wanted undersampling cannot be.
        """
        plan = state.plan
        if len(state.average_counters) > 1:
            self._findings.info("averages-combined", "Averages were combined as complex numbers, line by line.")
        geometry = geometry_of(state.first_header, plan.spacing, self._findings)
        conjugate = geometry is not None and self._siemens
        if conjugate:
            self._findings.info(
                "conjugated", "The scanner's Fourier transform has the other sign: k-space was conjugated."
            )
        repeats = float(np.mean(state.grid.lines[state.grid.lines > 0]))
        same_placement = len(state.placements) == 1
        assumed = any(placement.center_assumed for placement in state.placements)
        targets = self._alignment.align(
            plan, state.grid, state.calibrated, rows_may_move=same_placement, rows_assumed=assumed
        )
        if isinstance(state.grid, VolumeGrid):
            yield from self._close_volume(key, state, targets, geometry, repeats, conjugate=conjugate)
        else:
            yield self._close_plane(key, state, state.grid, targets, geometry, repeats, conjugate=conjugate)

    def _close_plane(
        self,
        key: ImageKey,
        state: OpenFrame,
        grid: KspaceGrid,
        targets: NDArray[np.int64],
        geometry: Geometry | None,
        repeats: float,
        *,
        conjugate: bool,
    ) -> Frame:
        plan = state.plan
        result = grid.finish(plan.rows, self._whitening, targets, plan.columns, conjugate=conjugate)
        _refuse_overflow(result.finite, key)
        frame = self._frame(key, plan, result.kspace, result.mask, result.exponent)
        frame.geometry = geometry
        frame.memory = result.memory
        if self._whitening is not None:
            check_whitened(frame.kspace, frame.mask, frame.scale, repeats, self._findings)
        if self.separate is not None:
            found = self.separate.for_frame(key, plan, self._whitening, self._findings, conjugate=conjugate)
            if found is not None and found.kspace.shape[2] > frame.calibration_extent[1]:
                multiply_by_power(found.kspace, _exponent(frame) - found.exponent)
                frame.calibration = found.kspace
        return self._prepared(frame, None)

    def _close_volume(
        self,
        key: ImageKey,
        state: OpenFrame,
        targets: NDArray[np.int64],
        geometry: Geometry | None,
        repeats: float,
        *,
        conjugate: bool,
    ) -> Iterator[Frame]:
        plan, grid = state.plan, state.grid
        positions = plan.positions
        if positions is None or not isinstance(grid, VolumeGrid):
            return
        partial = any(placed.target_stop - placed.target_start < plan.encoded_rows - 1 for placed in state.placements)
        if partial and self._request.conditioning.partial_fourier == "pocs":
            self._findings.warn(
                "pocs-not-applicable",
                "Asymmetric echoes of a 3-D scan are not completed by POCS: what was not measured is zero.",
            )
        shape = (plan.columns, plan.partitions)
        volume = grid.finish(plan.rows, positions, self._whitening, targets, shape, conjugate=conjugate)
        _refuse_overflow(volume.finite, key)
        mask = volume.mask
        extent = calibration_extent(mask)
        separate = None
        if self.separate is not None:
            separate = self.separate.for_volume(key, plan, self._whitening, self._findings, conjugate=conjugate)
        apart = (0, 0) if separate is None else calibration_extent(separate.mask)
        if min(apart) <= min(extent):
            separate = None
        matrices = self._matrices(volume, separate, extent, positions.images)
        for number, kspace in enumerate(_planes_of(volume, positions.images)):
            frame = self._frame(key, plan, kspace, mask.copy(), volume.exponent)
            frame.crossing = Crossing(number, positions.images)
            frame.geometry = geometry
            if self._whitening is not None:
                check_whitened(frame.kspace, frame.mask, frame.scale, repeats, self._findings)
            if separate is not None:
                block = centre_block(separate.planes(number, 1)[0], apart).copy()
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
            block = centre_block(kspace, extent).copy() if separate is None and min(extent) > 1 else kspace
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
        key: ImageKey,
        plan: EncodingPlan,
        kspace: NDArray[np.complex64],
        mask: NDArray[np.bool_],
        exponent: int,
    ) -> Frame:
        index = self._index_of(key)
        normalised = bring_to_unity(kspace)
        if normalised is None:
            self._findings.warn("slice-empty", f"Slice {index.slice} is zero everywhere: so is its image.")
        exponent = 0 if normalised is None else exponent + normalised
        return Frame(
            index=index,
            kspace=kspace,
            mask=mask,
            calibration_extent=calibration_extent(mask),
            scale=2.0**exponent,
            image_shape=plan.image_shape,
            window=plan.window,
            whitened=self._whitening is not None,
            repetition_time=self._repetition_time,
        )

    def _index_of(self, key: ImageKey) -> FrameIndex:
        """Return the counters of an image; echoes that were not counted become contrasts."""
        counters = key.counters
        found = None if self._survey is None else self._survey.encodings.get(counters.encoding)
        contrasts = 1 if found is None else found.contrasts
        return FrameIndex(
            counters.slice,
            counters.contrast + key.echo * contrasts,
            counters.phase,
            counters.repetition,
            counters.set,
            counters.encoding,
            key.place,
        )


def _planes_of(volume: HybridVolume, images: int) -> Iterator[NDArray[np.complex64]]:
    """Give the k-space (coils, columns, partitions) of all readout positions; some are gathered at once."""
    for first in range(0, images, _AT_ONCE):
        gathered = volume.planes(first, min(_AT_ONCE, images - first))
        for kspace in gathered:
            yield kspace.copy()


def _exponent(frame: Frame) -> int:
    return math.frexp(frame.scale)[1] - 1


def _refuse_overflow(finite: bool, key: ImageKey) -> None:
    if not finite:
        place = f"slice {key.counters.slice}"
        raise InvalidInputError(
            f"The averages of {place} add up to more than single precision holds: scale the data down.",
            reason="NOT_FINITE",
            field=place,
        )
