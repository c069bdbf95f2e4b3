"""3-D Cartesian scans: collected line by line, transformed along the readout, given out as one 2-D k-space for each position."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recond_service.conditioning.encoding import Positions
from recond_service.conditioning.grid import KspaceGrid
from recond_service.conditioning.noise import Whitening
from recond_service.conditioning.readout import Placement
from recond_service.conditioning.scaling import multiply_by_power, peak_of, range_exponent
from recond_service.fourier import image_to_kspace, kspace_to_image

_SLAB = 64  # lines that are held and transformed together: some MB


class VolumeGrid:
    """Collects the readouts of a 3-D scan. Only lines that were measured take memory.

    Parameters
    ----------
    coils, encoded_rows
        Size of a readout, oversampling included.
    shape
        How many counters of both phase encodes are collected; line ``first * second count + second``.
    """

    def __init__(self, coils: int, encoded_rows: int, shape: tuple[int, int]) -> None:
        self._size = coils, encoded_rows
        self._shape = shape
        self._slot = np.full(shape[0] * shape[1], -1, np.int64)
        self._used = 0
        self._slabs: list[KspaceGrid] = []
        self.lines = np.zeros(shape[0] * shape[1], np.int64)
        self.turned = np.zeros_like(self.lines)

    @property
    def nbytes(self) -> int:
        """Memory of the collected lines, bytes."""
        return sum(slab.nbytes for slab in self._slabs)

    def add(self, readouts: NDArray[np.complex64], placement: Placement, lines: NDArray[np.int64]) -> None:
        """Add readouts (count, coils, samples) that are placed alike to `lines` (count,), all different."""
        new = lines[self._slot[lines] < 0]
        self._slot[new] = np.arange(self._used, self._used + len(new))
        self._used += len(new)
        while len(self._slabs) * _SLAB < self._used:
            self._slabs.append(KspaceGrid(*self._size, _SLAB))
        slots = self._slot[lines]
        slabs = slots // _SLAB
        for slab in np.unique(slabs):
            here = slabs == slab
            self._slabs[slab].add(readouts if here.all() else readouts[here], placement, slots[here] % _SLAB)
        self.lines[lines] += 1
        self.turned[lines] += int(placement.turned_centre)

    def fill_from(self, other: VolumeGrid) -> int:
        """Take over the lines that are empty here and filled in `other`, which is used up; return how many."""
        wanted = np.flatnonzero((self.lines == 0) & (other.lines > 0))
        whole = Placement(0, self._size[1], 0, reverse=False, lost=0, center_assumed=False)
        slots = other._slot[wanted]
        for number, slab in enumerate(other._slabs):
            here = slots // _SLAB == number
            values = slab.averaged()
            if here.any():
                self.add(values[slots[here] % _SLAB], whole, wanted[here])
        other._slabs.clear()
        self.turned[wanted] = (other.turned[wanted] > 0) & (other.turned[wanted] == other.lines[wanted])
        return len(wanted)

    @property
    def filled_rows(self) -> tuple[int, int]:
        """First sample of the readout that was measured, and the one behind the last; (0, 0) if none was."""
        bounds = [slab.filled_rows for slab in self._slabs]
        known = [(start, stop) for start, stop in bounds if stop > start]
        return (min(start for start, _ in known), max(stop for _, stop in known)) if known else (0, 0)

    def line_energy(self) -> NDArray[np.float64]:
        """Return the energy of each line, float64 of the grid's shape; 0 where nothing was measured."""
        energy = np.zeros(len(self.lines))
        lines = self._lines_by_slot()
        peak = max((peak_of(slab.sums) for slab in self._slabs), default=0.0) or 1.0
        for number, slab in enumerate(self._slabs):
            here = lines[number * _SLAB : (number + 1) * _SLAB]
            values = slab.sums[: len(here)] / np.float32(peak)
            energy[here] = (np.abs(values).astype(np.float64) ** 2).sum(axis=(1, 2)) / self.lines[here] ** 2
        energy += np.where(self.lines > 0, np.finfo(np.float64).tiny, 0.0)
        return energy.reshape(self._shape)

    def row_energy(self) -> NDArray[np.float64]:
        """Return the energy of each sample of the readout over all lines, float64 (encoded rows,)."""
        energy: NDArray[np.float64] = sum((slab.row_energy() for slab in self._slabs), np.zeros(self._size[1]))
        return energy

    def shift_rows(self, shift: int) -> None:
        """Move all readouts by `shift` rows; their unmeasured ends must be as long."""
        for slab in self._slabs:
            slab.shift_rows(shift)

    def values_of(self, lines: NDArray[np.int64]) -> NDArray[np.complex64]:
        """Return the averages of lines, (lines, coils, encoded rows); each slab has a scale of its own."""
        slots = self._slot[lines]
        values = np.empty((len(lines), *self._size), np.complex64)
        for slab in np.unique(slots // _SLAB):
            here = slots // _SLAB == slab
            values[here] = self._slabs[slab].values_of(slots[here] % _SLAB)
        return values

    def push_rows(self, lines: NDArray[np.int64]) -> None:
        """Move the readouts of some lines by one row; what lay on the last row is lost."""
        slots = self._slot[lines]
        for slab in np.unique(slots // _SLAB):
            self._slabs[slab].push_rows(slots[slots // _SLAB == slab] % _SLAB)

    def as_plane(self) -> KspaceGrid:
        """Return the lines of a scan whose second counter stands still as the grid of a plane; they are used up."""
        first, second = np.nonzero(self.lines.reshape(self._shape))
        coils, rows = self._size
        sums = np.zeros((self._shape[0], coils, rows), np.complex64)
        counts = np.zeros((self._shape[0], rows), np.uint16)
        slots = self._slot[first * self._shape[1] + second]
        for column, slot in zip(first.tolist(), slots.tolist(), strict=True):
            slab = self._slabs[slot // _SLAB]
            sums[column], counts[column] = slab.sums[slot % _SLAB], slab.counts[slot % _SLAB]
        self._slabs.clear()
        plane = KspaceGrid.of(sums, counts, self.lines.reshape(self._shape).sum(axis=1))
        plane.turned = self.turned.reshape(self._shape).sum(axis=1)
        return plane

    def _lines_by_slot(self) -> NDArray[np.int64]:
        order = np.flatnonzero(self._slot >= 0)
        lines = np.empty(len(order), np.int64)
        lines[self._slot[order]] = order
        return lines

    def finish(
        self,
        rows: int,
        positions: Positions,
        whitening: Whitening | None,
        targets: NDArray[np.int64] | None = None,
        shape: tuple[int, int] | None = None,
        *,
        conjugate: bool,
    ) -> HybridVolume:
        """Average, whiten, transform along the readout and cut out the wanted positions; the collected lines are used up.

        Slab by slab, so that little more than the lines themselves is held at any time.

        Parameters
        ----------
        rows
            Pixels along the readout without oversampling.
        positions
            Which of them are wanted.
        whitening
            Whitening matrix, or None.
        targets
            (lines,): which line of the matrix each is, -1 for those to leave out; None for all in order.
        shape
            (columns, partitions) of the matrix; None for that of the grid.
        conjugate
            Take the complex conjugate (a scanner whose Fourier transform has the other sign).
        """
        averaged: list[NDArray[np.complex64]] = []
        while self._slabs:
            averaged.append(self._slabs.pop(0).averaged())
        peak = max((peak_of(slab) for slab in averaged), default=0.0)
        finite = bool(np.isfinite(peak))
        exponent = range_exponent(peak) if finite else 0
        first = self._size[1] // 2 - rows // 2 + positions.first
        for number, slab in enumerate(averaged):
            values = slab
            multiply_by_power(values, exponent)
            if conjugate:
                np.conjugate(values, out=values)
            values = kspace_to_image(values, axes=(2,))[:, :, first : first + positions.count]
            if positions.images != positions.count:
                values = _interpolated(values, positions.images)
            if whitening is not None:
                values = (whitening.matrix.conj() if conjugate else whitening.matrix) @ values
            averaged[number] = np.ascontiguousarray(values)
        if whitening is not None:
            exponent -= whitening.exponent
        lines = self._lines_by_slot()
        if targets is not None:
            lines = targets[lines]
        return HybridVolume(averaged, lines, self._shape if shape is None else shape, exponent, finite)


def _interpolated(values: NDArray[np.complex64], wanted: int) -> NDArray[np.complex64]:
    """Interpolate (lines, coils, positions) to `wanted` positions by padding, or cutting, the spectrum; values keep their size."""
    length = values.shape[2]
    spectrum = image_to_kspace(values, axes=(2,))
    padded = np.zeros((*values.shape[:2], wanted), np.complex64)
    common = min(length, wanted)
    source, target = length // 2 - common // 2, wanted // 2 - common // 2
    padded[:, :, target : target + common] = spectrum[:, :, source : source + common]
    finer: NDArray[np.complex64] = kspace_to_image(padded, axes=(2,))
    finer *= np.float32(np.sqrt(wanted / length))
    return finer


@dataclass(slots=True)
class HybridVolume:
    """k-space along phase encode and partition, image along the readout.

    Parameters
    ----------
    slabs
        complex64 (lines of the slab, coils, positions); the last one may hold more lines than there are.
    lines
        int64 (measured lines,): which line is which row of the slabs, one slab after another; -1 for those to leave out.
    shape
        (columns, partitions).
    exponent
        Values are ``2**exponent`` times what was measured.
    finite
        False where sums of samples went beyond float32.
    """

    slabs: list[NDArray[np.complex64]]
    lines: NDArray[np.int64]
    shape: tuple[int, int]
    exponent: int
    finite: bool

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Bool (columns, partitions), true where measured."""
        measured = np.zeros(self.shape[0] * self.shape[1], np.bool_)
        measured[self.lines[self.lines >= 0]] = True
        return measured.reshape(self.shape)

    def planes(self, first: int, count: int) -> NDArray[np.complex64]:
        """Return the k-space of positions ``[first, first + count)``: complex64 (count, coils, columns, partitions), C order."""
        coils = self.slabs[0].shape[1]
        out = np.zeros((count, coils, self.shape[0] * self.shape[1]), np.complex64)
        for number, slab in enumerate(self.slabs):
            lines = self.lines[number * _SLAB : (number + 1) * _SLAB]
            inside = lines >= 0
            values = slab[: len(lines), :, first : first + count]
            out[:, :, lines[inside]] = (values if inside.all() else values[inside]).transpose(2, 1, 0)
        return out.reshape(count, coils, *self.shape)
