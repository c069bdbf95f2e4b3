"""Calibration from elsewhere than the frame that needs it: from a scan of its own, or from an earlier frame of the slice."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from recond_models.sampling import centre_block
from recond_service.conditioning.encoding import EncodingPlan, Positions
from recond_service.conditioning.grid import GridResult, KspaceGrid
from recond_service.conditioning.noise import Whitening
from recond_service.conditioning.readout import Placement
from recond_service.conditioning.runs import ImageKey
from recond_service.conditioning.sampling import calibration_extent
from recond_service.conditioning.scaling import multiply_by_power
from recond_service.conditioning.volume import HybridVolume, VolumeGrid
from recond_service.types import EncodingLimits, FindingList, Frame, LimitExceededError, Limits

_SAME_VIEW = 0.01
_ENOUGH = 8  # columns from which coil sensitivities are estimated


class SeparateCalibration:
    """Keeps the lines of separate calibration scans until the frames that need them are complete.

    Lines are numbered from their own minimum, along both phase encodes. A frame takes the calibration of its own counters, else
    the first of its slice: a reference scan is usually made once, for all repetitions.

    Parameters
    ----------
    limits
        `max_frame_bytes` bounds the lines of one calibration, `max_scan_bytes` all of them.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lines: dict[ImageKey, list[tuple[int, int, Placement, NDArray[np.complex64]]]] = {}
        self._plans: dict[ImageKey, EncodingPlan] = {}
        self._bytes = 0

    def add(
        self,
        key: ImageKey,
        readout: NDArray[np.complex64],
        placement: Placement,
        steps: tuple[int, int],
        plan: EncodingPlan,
    ) -> None:
        """Keep a copy of a readout (coils, samples) with its phase-encode counters.

        Raises
        ------
        LimitExceededError
            If calibration takes more memory than the request may.
        """
        self._bytes += readout.nbytes
        if self._bytes > self._limits.max_scan_bytes:
            raise LimitExceededError(
                f"Calibration readouts take more than {self._limits.max_scan_bytes} bytes, which is what this service takes.",
                reason="SCAN_TOO_LARGE",
                field="acquisitions",
            )
        self._lines.setdefault(key, []).append((*steps, placement, readout.copy()))
        self._plans[key] = plan

    def for_frame(
        self,
        key: ImageKey,
        imaging: EncodingPlan,
        whitening: Whitening | None,
        findings: FindingList,
        *,
        conjugate: bool,
    ) -> GridResult | None:
        """Return the calibration block of a 2-D frame, its k = 0 at the middle, or None if there is none that fits.

        Parameters
        ----------
        key
            Counters of the frame.
        imaging
            Plan of the images; the calibration must cover the same field of view, or its lines have another distance.
        whitening, conjugate
            As for the frame.
        findings
            Gets ``"calibration-view-differs"``.
        """
        found = self._find(key, imaging, findings)
        if found is None:
            return None
        plan, lines = found
        first, columns = _span(step for step, _, _, _ in lines)
        grid = KspaceGrid(len(lines[0][3]), plan.encoded_rows, columns)
        for step, _, placement, readout in lines:
            grid.add(readout[None], placement, np.array([step - first]))
        result = grid.finish(plan.rows, whitening, conjugate=conjugate)
        rows, width = calibration_extent(result.mask)
        if not result.finite or not rows:
            return None
        block = centre_block(result.kspace, (rows, width)).copy()
        return GridResult(block, np.ones((rows, width), np.bool_), result.exponent, finite=True)

    def for_volume(
        self,
        key: ImageKey,
        imaging: EncodingPlan,
        whitening: Whitening | None,
        findings: FindingList,
        *,
        conjugate: bool,
    ) -> HybridVolume | None:
        """Return the calibration of a 3-D scan at the readout positions of the images, or None if there is none that fits.

        Parameters are those of `for_frame`.
        """
        found = self._find(key, imaging, findings)
        if found is None or imaging.positions is None or found[0].positions is None:
            return None
        plan, lines = found
        first_1, columns = _span(step for step, _, _, _ in lines)
        first_2, partitions = _span(step for _, step, _, _ in lines)
        grid = VolumeGrid(len(lines[0][3]), plan.encoded_rows, (columns, partitions))
        for step_1, step_2, placement, readout in lines:
            grid.add(readout[None], placement, np.array([(step_1 - first_1) * partitions + step_2 - first_2]))
        positions = Positions(found[0].positions.first, found[0].positions.count, imaging.positions.images)
        volume = grid.finish(plan.rows, positions, whitening, conjugate=conjugate)
        return volume if volume.finite else None

    def _find(
        self, key: ImageKey, imaging: EncodingPlan, findings: FindingList
    ) -> tuple[EncodingPlan, list[tuple[int, int, Placement, NDArray[np.complex64]]]] | None:
        same_place = (
            other for other in self._lines if (other.counters[1:], other.place) == (key.counters[1:], key.place)
        )
        same_counters = (other for other in self._lines if other.counters[1:] == key.counters[1:])
        same_slice = (other for other in self._lines if other.counters.slice == key.counters.slice)
        own = key if key in self._lines else next(itertools.chain(same_place, same_counters, same_slice), None)
        if own is None:
            return None
        plan = self._plans[own]
        if plan.number != imaging.number and not _same_view(plan, imaging):
            findings.warn(
                "calibration-view-differs",
                "The calibration scan has another field of view than the images: it is not used.",
            )
            return None
        return plan, self._lines[own]


class EarlierCalibration:
    """Keeps the calibration block of the first frame of each slice for the frames that have none.

    Dynamic scans often measure calibration lines in the first repetition only; coil sensitivities do not change after it. Nothing
    is kept where the limits announce a single image of each slice.

    Parameters
    ----------
    limits
        Limits of the encoding of the images.
    """

    def __init__(self, limits: EncodingLimits) -> None:
        counters = (limits.contrast, limits.phase, limits.repetition, limits.set)
        self._wanted = any(counter is None or counter.maximum > counter.minimum for counter in counters)
        self._blocks: dict[tuple[int, int, int], tuple[NDArray[np.complex64], int]] = {}

    def exchange(self, frame: Frame) -> bool:
        """Keep the block of a frame that has one, or lend a frame that has none the one that was kept; tell whether it was lent."""
        if not self._wanted:
            return False
        columns = frame.calibration_extent[1] if frame.calibration is None else frame.calibration.shape[2]
        exponent = math.frexp(frame.scale)[1] - 1
        enough = min(_ENOUGH, *frame.mask.shape)
        position = frame.index.slice if frame.crossing is None else frame.crossing.number
        slab = -1 if frame.crossing is None else frame.index.slice
        where = (slab, position, frame.index.place)
        kept = self._blocks.get(where)
        if kept is not None and columns < enough:
            block = kept[0].copy()
            multiply_by_power(block, exponent - kept[1])
            frame.calibration = block
            return True
        if kept is None and columns >= enough and frame.calibration is None and not frame.mask.all():
            self._blocks[where] = centre_block(frame.kspace, frame.calibration_extent).copy(), exponent
        return False


def _span(steps: Iterable[int]) -> tuple[int, int]:
    """Return the smallest of some counters, and how many there are from it to the largest."""
    values = list(steps)
    return min(values), max(values) - min(values) + 1


def _same_view(one: EncodingPlan, other: EncodingPlan) -> bool:
    """Tell whether two encodings have the same distance between lines and, without oversampling, between samples."""
    return len(one.field_of_view) == len(other.field_of_view) and all(
        abs(a - b) <= _SAME_VIEW * max(a, b) for a, b in zip(one.field_of_view, other.field_of_view, strict=True)
    )
