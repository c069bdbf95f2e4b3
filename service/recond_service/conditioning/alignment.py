"""Puts what was collected by its counters on the encoded matrix: which line, and which sample, is the centre of k-space."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recond_service.conditioning.centre import Centre, Doubt, find_centre
from recond_service.conditioning.encoding import EncodingPlan, Lines, is_one_sided, possible_centres
from recond_service.conditioning.grid import KspaceGrid
from recond_service.conditioning.polarity import is_as_measured
from recond_service.conditioning.volume import VolumeGrid
from recond_service.types import FindingList

_NAMES = ("kspace_encode_step_1", "kspace_encode_step_2")
_LEAST_MEASURED = 0.64  # of the announced lines: with 5/8, a header that announces all of them contradicts the data
_AXES = ("columns", "partitions")


class Alignment:
    """Finds the centres of k-space, once for all images of an encoding where the samples tell them.

    Parameters
    ----------
    findings
        Gets which centres of the header were not believed, and what partial Fourier left out.
    """

    def __init__(self, findings: FindingList) -> None:
        self._findings = findings
        self._centres: dict[tuple[int, int], int] = {}
        self._shifts: dict[tuple[int, int], int] = {}
        self._as_measured: dict[int, bool] = {}

    def align(
        self,
        plan: EncodingPlan,
        grid: KspaceGrid | VolumeGrid,
        calibrated: Sequence[int],
        *,
        rows_may_move: bool,
        rows_assumed: bool,
    ) -> NDArray[np.int64]:
        """Return the line of the matrix for each line that was collected, int64 (lines,): -1 for those outside.

        Readouts are moved along the rows of the grid where their centre sample is denied by the energy of the samples.

        Parameters
        ----------
        plan
            Of the encoding.
        grid
            What was collected.
        calibrated
            Lines that were flagged as calibration.
        rows_may_move
            All readouts were placed alike.
        rows_assumed
            Their centre sample could not be.
        """
        shape = plan.step_1.count, plan.step_2.count
        self._settle_reversed(plan, grid)
        measured = (grid.lines > 0).reshape(shape)
        flagged = np.zeros(len(grid.lines), np.bool_)
        flagged[list(calibrated)] = True
        energy: NDArray[np.float64] | None = None
        targets = []
        for axis, lines in enumerate((plan.step_1, plan.step_2)):
            seen = np.flatnonzero(measured.any(axis=1 - axis))
            if lines.length == 1 or not seen.size:
                targets.append(np.zeros(lines.count, np.int64))
                continue
            if energy is None and self._needs_energy(plan, axis, lines, seen):
                energy = (grid.line_energy() if isinstance(grid, VolumeGrid) else grid.column_energy()).reshape(shape)
            along = None if energy is None else energy.sum(axis=1 - axis)
            centre = self._centre(plan, axis, lines, seen, along, np.asarray(flagged.reshape(shape).any(axis=1 - axis)))
            columns = np.arange(lines.count) + lines.first - centre + lines.length // 2
            targets.append(np.where((columns >= 0) & (columns < lines.length), columns, -1))
            self._note_partial_fourier(axis, lines.length, columns[seen])
            self._note_never_came(axis, lines, lines.first + seen)
        first, second = targets[0][:, None], targets[1][None, :]
        placed = np.where((first >= 0) & (second >= 0), first * plan.partitions + second, -1)
        lost = int((measured & (placed < 0)).sum())
        if lost:
            self._findings.warn(
                "lines-outside-matrix",
                "Lines that lie outside the encoded matrix are not used.",
                lost,
            )
        if rows_may_move:
            self._align_rows(plan, grid, assumed=rows_assumed)
        return placed.reshape(-1)

    def _needs_energy(self, plan: EncodingPlan, axis: int, lines: Lines, seen: NDArray[np.int64]) -> bool:
        low, high = possible_centres(lines.first + int(seen[0]), lines.first + int(seen[-1]), lines.length)
        if (plan.number, axis) in self._centres:
            return not low <= self._centres[plan.number, axis] <= high
        return low < high

    def _centre(
        self,
        plan: EncodingPlan,
        axis: int,
        lines: Lines,
        seen: NDArray[np.int64],
        energy: NDArray[np.float64] | None,
        flagged: NDArray[np.bool_],
    ) -> int:
        possible = possible_centres(lines.first + int(seen[0]), lines.first + int(seen[-1]), lines.length)
        known = self._centres.get((plan.number, axis))
        if known is not None and possible[0] <= known <= possible[1]:
            return known
        block = np.flatnonzero(flagged)
        calibrated = lines.first + int(block[0]) + (int(block[-1]) + 1 - int(block[0])) // 2 if block.size else None
        if energy is None:
            energy = np.zeros(lines.count)
        found = find_centre(energy, lines.first, possible, lines.stated, calibrated, length=lines.length)
        self._note(found, axis, lines, alone=possible[0] == possible[1])
        if found.certain:
            self._centres.setdefault((plan.number, axis), found.step)
        return found.step

    def _note(self, found: Centre, axis: int, lines: Lines, *, alone: bool) -> None:
        where = f"{found.step} was taken as the centre of {_NAMES[axis]}"
        if found.doubt is Doubt.ABSENT:
            add = self._findings.info if alone else self._findings.warn
            add("centre-absent", f"The header's limits have no centre: {where}, as coverage and samples tell.")
        elif found.doubt is Doubt.IMPOSSIBLE:
            self._findings.warn(
                "centre-impossible",
                f"With the header's centre {lines.stated}, measured lines would fall off the matrix of {lines.length}: {where}.",
            )
        elif found.doubt is Doubt.DENIED:
            self._findings.warn(
                "centre-denied",
                f"The header's centre is {lines.stated}, but the energy of the samples lies elsewhere: {where}.",
            )

    def _settle_reversed(self, plan: EncodingPlan, grid: KspaceGrid | VolumeGrid) -> None:
        """Move reversed readouts to where their centre lies, if that of the readout as measured is meant.

        Where all are reversed, both ways differ by a phase of the image alone.
        """
        backwards = grid.turned > 0
        if not backwards.any() or (grid.turned == grid.lines).all():
            return
        if plan.number not in self._as_measured:
            found = is_as_measured(grid, (plan.step_1.count, plan.step_2.count))
            self._as_measured[plan.number] = found is not False
            if found is None:
                self._findings.warn(
                    "reversed-centre-unclear",
                    "center_sample of reversed readouts lies in the middle of an even number of samples, and the samples do not "
                    "tell whether that is meant before or after they are turned: before is taken, as the format has it. If there "
                    "are ghosts, the reversed lines lie one sample off.",
                )
            elif not found:
                self._findings.info(
                    "reversed-centre-turned",
                    "The samples show that center_sample of reversed readouts is that after they are turned: it was taken so.",
                )
        if self._as_measured[plan.number]:
            grid.push_rows(np.flatnonzero(backwards & (grid.turned == grid.lines)))
        mixed = int((backwards & (grid.turned < grid.lines)).sum())
        if mixed and self._as_measured[plan.number]:
            self._findings.warn(
                "reversed-centre-mixed",
                "Lines were averaged of readouts of both directions whose center_sample lies in the middle of an even number of "
                "samples: they were put one on the other as if it were meant after they are turned.",
                mixed,
            )

    def _align_rows(self, plan: EncodingPlan, grid: KspaceGrid | VolumeGrid, *, assumed: bool) -> None:
        """Move readouts so that their k = 0 lies at the middle of the grid, if they leave room and the energy says so."""
        rows = plan.encoded_rows
        start, stop = grid.filled_rows
        low, high = possible_centres(start, stop - 1, rows)
        if stop - start >= rows - 1 or stop <= start:
            return
        key = plan.number, start
        shift = self._shifts.get(key)
        if shift is None:
            found = find_centre(grid.row_energy(), 0, (low, high), None if assumed else rows // 2, length=rows)
            shift = rows // 2 - found.step
            if found.certain:
                self._shifts[key] = shift
            if found.doubt is Doubt.DENIED:
                self._findings.warn(
                    "center-sample-denied",
                    f"The energy of the readouts lies {abs(shift)} samples off their center_sample: it was taken for their centre.",
                )
        if shift:
            grid.shift_rows(shift)

    def _note_partial_fourier(self, axis: int, length: int, columns: NDArray[np.int64]) -> None:
        start, stop = max(int(columns[0]), 0), min(int(columns[-1]) + 1, length)
        gap = _gap(columns)
        # What undersampling leaves out at the ends is no partial Fourier.
        whole = (0 if start < gap else start), (length if length - stop < gap else stop)
        if start < stop and is_one_sided(*whole, length):
            self._findings.info(
                "partial-fourier",
                f"The lines cover {_AXES[axis]} {start} to {stop - 1} of {length}, more on one side of the centre: what was not "
                "measured is zero, or completed where that is asked for and possible.",
            )

    def _note_never_came(self, axis: int, lines: Lines, steps: NDArray[np.int64]) -> None:
        """Warn where less of the announced lines came than a partial Fourier scan measures."""
        limit = lines.limit
        if limit is None or not 0 < limit.maximum - limit.minimum < lines.length:
            return
        announced = limit.maximum - limit.minimum + 1
        came = int(steps[-1]) - int(steps[0]) + _gap(steps)
        centre = lines.stated
        without_centre = centre is not None and not int(steps[0]) - 1 <= centre <= int(steps[-1]) + 1
        if came < _LEAST_MEASURED * announced or (without_centre and came < announced):
            self._findings.warn(
                "lines-never-came",
                f"The header's limits announce {_NAMES[axis]} {limit.minimum} to {limit.maximum}, and {int(steps[0])} to "
                f"{int(steps[-1])} came: that is less than a partial Fourier scan measures, so the scan seems to be incomplete.",
            )


def _gap(steps: NDArray[np.int64]) -> int:
    """Return the largest distance of lines next to each other, 1 for a single one."""
    return int(np.diff(steps).max(initial=1))
