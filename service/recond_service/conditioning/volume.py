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
from recond_service.imaging import image_to_kspace, kspace_to_image

_SLAB = 64  # lines that are held and transformed together: some MB


class VolumeGrid:
    """Collects the readouts of a 3-D scan. Only lines that were measured take memory.

    Parameters
    ----------
    coils, encoded_rows
        Size of a readout, oversampling included.
    shape
        (columns, partitions); line ``column * partitions + partition``.
    """

    def __init__(self, coils: int, encoded_rows: int, shape: tuple[int, int]) -> None:
        self._size = coils, encoded_rows
        self._shape = shape
        self._slot = np.full(shape[0] * shape[1], -1, np.int64)
        self._used = 0
        self._slabs: list[KspaceGrid] = []
        self.lines = np.zeros(shape[0] * shape[1], np.int64)

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
        return len(wanted)

    def finish(self, rows: int, positions: Positions, whitening: Whitening | None, *, conjugate: bool) -> HybridVolume:
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
        order = np.flatnonzero(self._slot >= 0)
        slots = self._slot[order]
        lines = np.empty(len(order), np.int64)
        lines[slots] = order
        return HybridVolume(averaged, lines, self._shape, exponent, finite)


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
        int64 (measured lines,): which line is which row of the slabs, one slab after another.
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
        measured[self.lines] = True
        return measured.reshape(self.shape)

    def planes(self, first: int, count: int) -> NDArray[np.complex64]:
        """Return the k-space of positions ``[first, first + count)``: complex64 (count, coils, columns, partitions), C order."""
        coils = self.slabs[0].shape[1]
        out = np.zeros((count, coils, self.shape[0] * self.shape[1]), np.complex64)
        for number, slab in enumerate(self.slabs):
            lines = self.lines[number * _SLAB : (number + 1) * _SLAB]
            out[:, :, lines] = slab[: len(lines), :, first : first + count].transpose(2, 1, 0)
        return out.reshape(count, coils, *self.shape)
