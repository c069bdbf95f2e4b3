"""The grid on which the readouts of one frame are collected."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from recond_service.conditioning.noise import Whitening
from recond_service.conditioning.readout import Placement
from recond_service.conditioning.scaling import exponent_to_range, multiply_by_power, peak_of
from recond_service.processes import StagedKspace

_STAGED_AT_ONCE = 32  # lines: their samples of one row of the frame are whole cache lines
_AT_ONCE = 8  # columns: with 16 coils of 640 samples 0.6 MB
_SOMETHING = float(np.finfo(np.float32).tiny)  # the energy of a line that was measured is more than 0


@dataclass(slots=True)
class GridResult:
    """A collected grid after whitening and oversampling removal.

    Parameters
    ----------
    kspace
        complex64 (coils, rows, columns), C order, zero where nothing was measured.
    mask
        bool (rows, columns).
    exponent
        `kspace` is ``2**exponent`` times what was measured.
    finite
        False where sums of samples went beyond float32.
    memory
        Shared memory that `kspace` lies in; None where it lies elsewhere.
    """

    kspace: NDArray[np.complex64]
    mask: NDArray[np.bool_]
    exponent: int
    finite: bool
    memory: StagedKspace | None = None


class KspaceGrid:
    """Collects readouts; those that fall on the same column are averaged, weighted by their number.

    Averaging, whitening and oversampling removal act on different axes and are linear, so that it does not matter that here the
    lines are averaged first.

    Parameters
    ----------
    coils, encoded_rows, columns
        Size of the grid, readout oversampling included. Its columns are those counters that are collected; which column of the
        matrix each of them is need not be known before the end.

    `lines` tells how many readouts came to each column, `turned` how many of them with `Placement.turned_centre`.
    """

    def __init__(self, coils: int, encoded_rows: int, columns: int) -> None:
        # Columns first: a readout is then one contiguous piece.
        self._sums = np.zeros((columns, coils, encoded_rows), np.complex64)
        self._counts = np.zeros((columns, encoded_rows), np.uint16)
        self.lines = np.zeros(columns, np.int64)
        self.turned = np.zeros(columns, np.int64)
        self._staging: Staging | None = None

    @classmethod
    def of(cls, sums: NDArray[np.complex64], counts: NDArray[np.uint16], lines: NDArray[np.int64]) -> KspaceGrid:
        """Return a grid of sums (columns, coils, rows), counts of samples (columns, rows) and counts of lines (columns,)."""
        grid = cls(sums.shape[1], sums.shape[2], 0)
        grid._sums, grid._counts, grid.lines = sums, counts, lines
        grid.turned = np.zeros_like(lines)
        return grid

    @property
    def sums(self) -> NDArray[np.complex64]:
        """Sums of what was collected, (columns, coils, encoded rows)."""
        return self._sums

    @property
    def counts(self) -> NDArray[np.uint16]:
        """How often each sample was collected, (columns, encoded rows)."""
        return self._counts

    @property
    def filled_rows(self) -> tuple[int, int]:
        """First row that was measured, and the one behind the last; (0, 0) if none was."""
        filled = np.flatnonzero(self._counts.any(axis=0))
        return (int(filled[0]), int(filled[-1]) + 1) if filled.size else (0, 0)

    def column_energy(self) -> NDArray[np.float64]:
        """Return the energy of the average of each column, float64 (columns,); columns that were measured have more than 0."""
        scale = self._scale()
        energy = np.array([float(np.vdot(line * scale, line * scale).real) for line in self._sums])
        measured = self.lines > 0
        return np.where(measured, energy / np.maximum(self.lines, 1) ** 2 + _SOMETHING, 0.0)

    def row_energy(self) -> NDArray[np.float64]:
        """Return the energy of each sample of the readout over all columns, float64 (rows,); 0 where nothing was measured."""
        scale = self._scale()
        energy = np.zeros(self._sums.shape[2])
        for line in self._sums:
            energy += (np.abs(line * scale).astype(np.float64) ** 2).sum(axis=0)
        return np.where(self._counts.any(axis=0), energy + _SOMETHING, 0.0)

    def _scale(self) -> np.float32:
        """Return what brings the largest sample near 1, so that squares are numbers."""
        peak = peak_of(self._sums)
        return np.float32(1 / peak) if peak > _SOMETHING and np.isfinite(peak) else np.float32(1)

    def shift_rows(self, shift: int) -> None:
        """Move all readouts by `shift` rows; their unmeasured ends must be as long."""
        self._staging = None
        self._sums = np.roll(self._sums, shift, axis=2)
        self._counts = np.roll(self._counts, shift, axis=1)

    def values_of(self, columns: NDArray[np.int64]) -> NDArray[np.complex64]:
        """Return the averages of columns, (columns, coils, encoded rows), the largest sample of the grid near 1."""
        values = self._sums[columns] * self._scale()
        average(values, self._counts[columns])
        return values

    def push_rows(self, columns: NDArray[np.int64]) -> None:
        """Move the readouts of some columns by one row; what lay on the last row is lost."""
        self._staging = None
        self._sums[columns, :, 1:] = self._sums[columns, :, :-1]
        self._counts[columns, 1:] = self._counts[columns, :-1]
        self._sums[columns, :, 0] = 0
        self._counts[columns, 0] = 0

    @property
    def nbytes(self) -> int:
        """Memory of the collected lines, bytes."""
        return self._sums.nbytes + (0 if self._staging is None else self._staging.nbytes)

    def stage(self, rows: int) -> None:
        """Bring lines into their final order as they come, so that less is left to do when the last one is there.

        Parameters
        ----------
        rows
            Readout samples without oversampling.
        """
        columns, coils, encoded_rows = self._sums.shape
        if encoded_rows in {rows, 2 * rows} and columns:
            self._staging = Staging(coils, rows, columns, halved=encoded_rows != rows)

    def add(self, readouts: NDArray[np.complex64], placement: Placement, columns: NDArray[np.int64]) -> None:
        """Add readouts that are placed alike.

        Parameters
        ----------
        readouts
            (count, coils, samples).
        placement
            Where their samples go.
        columns
            (count,) where each goes, all different.
        """
        source = readouts[:, :, ::-1] if placement.reverse else readouts
        rows = slice(placement.target_start, placement.target_stop)
        used = source[:, :, placement.source_start : placement.source_stop]
        if self.lines[columns].any():
            with np.errstate(over="ignore", invalid="ignore"):  # told by the peak when the grid is finished
                self._sums[columns, :, rows] += used
        else:
            self._sums[columns, :, rows] = used
        self._counts[columns, rows] += 1
        again = bool(self.lines[columns].any())
        if self._staging is not None and (again or not self._staging.add(columns.tolist(), self._sums)):
            self._staging = None
        self.lines[columns] += 1
        self.turned[columns] += int(placement.turned_centre)

    def fill_from(self, other: KspaceGrid) -> int:
        """Take over the columns that are empty here and filled in `other`; return how many."""
        self._staging = None
        columns = np.flatnonzero((self.lines == 0) & (other.lines > 0))
        self._sums[columns] = other._sums[columns]
        self._counts[columns] = other._counts[columns]
        self.lines[columns] = other.lines[columns]
        self.turned[columns] = other.turned[columns]
        return len(columns)

    def averaged(self) -> NDArray[np.complex64]:
        """Return the averages (columns, coils, encoded rows) and release the collected lines; zero where nothing was measured."""
        values = self._sums
        self._staging = None
        del self._sums
        average(values, self._counts)
        return values

    def finish(
        self,
        rows: int,
        whitening: Whitening | None,
        targets: NDArray[np.int64] | None = None,
        total: int | None = None,
        *,
        conjugate: bool,
    ) -> GridResult:
        """Average, whiten, remove the oversampling of the readout and release the collected lines.

        Parameters
        ----------
        rows
            Readout samples without oversampling.
        targets
            (columns,): which column of the matrix each is; those outside are left out. None for all in order.
        total
            Columns of the matrix; None for as many as the grid has.
        whitening
            Whitening matrix, or None.
        conjugate
            Take the complex conjugate (a scanner whose Fourier transform has the other sign).
        """
        total = len(self.lines) if total is None else total
        targets = np.arange(len(self.lines)) if targets is None else targets
        sources = np.flatnonzero((self.lines > 0) & (targets >= 0) & (targets < total))
        columns = targets[sources]
        if self._staging is not None and whitening is None and total == len(self.lines) and (columns == sources).all():
            staged = self._staging.finish(self._sums, self._counts, sources, conjugate=conjugate)
            if staged is not None:
                del self._sums
                return staged
        self._staging = None
        whole = len(sources) == len(self.lines) == total and bool((columns == sources).all())
        values = self._sums if whole else self._sums[sources]
        counts = self._counts if whole else self._counts[sources]
        coils = values.shape[1]
        del self._sums
        average(values, counts)
        measured = counts > 0
        exponent = 0
        shorter = _halved(values) if values.shape[2] == 2 * rows else None
        if shorter is None:
            exponent, finite = exponent_to_range(values)
            if not finite:
                empty = np.zeros((coils, rows, total), np.complex64)
                return GridResult(empty, np.zeros((rows, total), np.bool_), 0, finite=False)
            multiply_by_power(values, exponent)
            shorter = values if values.shape[2] == rows else _cut(values, rows)
        del values
        if conjugate:
            np.conjugate(shorter, out=shorter)
        compact = np.ascontiguousarray(shorter.transpose(1, 2, 0))
        del shorter
        if rows != measured.shape[1] and not measured.all():
            measured = _nearest(measured, rows)
            np.copyto(compact, 0, where=~measured.T)
        elif rows != measured.shape[1]:
            measured = np.ones((len(measured), rows), np.bool_)
        if whitening is not None:
            # One product of all samples: many small ones would each wait for the threads of the BLAS.
            matrix = whitening.matrix.conj() if conjugate else whitening.matrix
            compact = (matrix @ compact.reshape(coils, -1)).reshape(compact.shape)
            exponent -= whitening.exponent
        if whole:
            return GridResult(compact, measured.T.copy(), exponent, finite=True)
        kspace = np.zeros((coils, rows, total), np.complex64)
        kspace[:, :, columns] = compact
        mask = np.zeros((rows, total), np.bool_)
        mask[:, columns] = measured.T
        return GridResult(kspace, mask, exponent, finite=True)


class Staging:
    """Lines in their final order, in shared memory, brought there some at a time.

    Parameters
    ----------
    coils, rows, columns
        Of the k-space.
    halved
        Lines have twice as many samples, of which the middle half of the image is kept.
    """

    def __init__(self, coils: int, rows: int, columns: int, *, halved: bool) -> None:
        self._memory = StagedKspace((coils, rows, columns))
        self._halved = halved
        self._waiting: list[int] = []

    @property
    def nbytes(self) -> int:
        """Memory that is taken, bytes."""
        return self._memory.array.nbytes

    def add(self, columns: list[int], sums: NDArray[np.complex64]) -> bool:
        """Take note of lines that came; tell whether it can go on.

        Parameters
        ----------
        columns
            Which.
        sums
            (columns, coils, samples) of all lines.
        """
        self._waiting += columns
        return len(self._waiting) < _STAGED_AT_ONCE or self._bring(sums)

    def finish(
        self, sums: NDArray[np.complex64], counts: NDArray[np.uint16], sources: NDArray[np.int64], *, conjugate: bool
    ) -> GridResult | None:
        """Return the k-space; None where lines need more than their order.

        Parameters
        ----------
        sums, counts
            Of all lines, (columns, coils, samples) and (columns, samples).
        sources
            Lines that came.
        conjugate
            Take the complex conjugate.
        """
        measured = counts[sources] > 0
        if counts.max(initial=0) > 1 or (self._halved and not measured.all()) or not self._bring(sums):
            return None
        kspace = self._memory.array
        if conjugate:
            np.conjugate(kspace, out=kspace)
        mask = np.zeros(kspace.shape[1:], np.bool_)
        mask[:, sources] = True if self._halved else measured.T
        return GridResult(kspace, mask, 0, finite=True, memory=self._memory)

    def _bring(self, sums: NDArray[np.complex64]) -> bool:
        """Bring the lines that wait to their place; False where they have to be scaled before."""
        columns = np.sort(np.array(self._waiting, np.int64))
        self._waiting.clear()
        for run in np.split(columns, np.flatnonzero(np.diff(columns) != 1) + 1):
            if not run.size:
                continue
            first, stop = int(run[0]), int(run[-1]) + 1
            values: NDArray[np.complex64] | None = sums[first:stop]
            if self._halved:
                values = _halved(sums[first:stop])
            elif exponent_to_range(sums[first:stop]) != (0, True):
                values = None
            if values is None:
                return False
            self._memory.array[:, :, first:stop] = values.transpose(1, 2, 0)
        return True


def average(values: NDArray[np.complex64], counts: NDArray[np.uint16]) -> None:
    """Divide sums (lines, coils, samples) in place by how often each sample (lines, samples) was measured."""
    if counts.max(initial=0) > 1:
        parts = values.view(np.float32).reshape(*values.shape, 2)
        with np.errstate(invalid="ignore"):  # sums beyond float32 are told by the peak
            parts /= np.maximum(counts, 1)[:, None, :, None].astype(np.float32)


def _halved(values: NDArray[np.complex64]) -> NDArray[np.complex64] | None:
    """Return the middle half of the image along the readout, as k-space: of 2 M samples M, the usual oversampling.

    Every second sample lies on the shorter grid already. The others are interpolated onto it: their M-point image is turned by the
    phase of half a sample and transformed back: one transform of M points each way, of half of the samples. Some columns are
    transformed at a time, so that what is read once stays in the cache.

    Parameters
    ----------
    values
        (columns, coils, 2 M).

    Returns
    -------
    ndarray or None
        complex64 (columns, coils, M); None where samples are so large or small that they have to be scaled before.
    """
    columns, coils, encoded = values.shape
    on, phase = _half_sample(encoded // 2)
    shorter = np.empty((columns, coils, encoded // 2), np.complex64)
    for first in range(0, columns, _AT_ONCE):
        some, target = values[first : first + _AT_ONCE], shorter[first : first + _AT_ONCE]
        if exponent_to_range(some) != (0, True):
            return None
        others = scipy.fft.ifft(some[:, :, 1 - on :: 2], axis=2)
        others *= phase
        others = scipy.fft.fft(others, axis=2, overwrite_x=True)
        np.add(others, some[:, :, on::2], out=target)
        target *= np.float32(np.sqrt(0.5))
    return shorter


@functools.lru_cache(maxsize=16)
def _half_sample(rows: int) -> tuple[int, NDArray[np.complex64]]:
    """Return which of every two samples lies on a grid of `rows`, and the phase (rows,) that brings the other one there."""
    on = rows % 2  # the centre, sample `rows` of twice as many, lies on the grid
    pixel = np.fft.fftfreq(rows, 1 / rows)
    return on, np.exp((1 - 2 * on) * 1j * np.pi * pixel / rows).astype(np.complex64)


def _cut(values: NDArray[np.complex64], rows: int) -> NDArray[np.complex64]:
    """Return the middle `rows` pixels of the image along the readout, as k-space; `values` are overwritten."""
    encoded, half = values.shape[2], rows // 2
    # Without shifts: the transform puts pixel 0 first and the negative ones last, which is the order that the second transform
    # takes. The shifts that both leave out are one linear phase; it is 1 where both lengths are even.
    image = scipy.fft.ifft(values, axis=2, norm="ortho", overwrite_x=True)
    kept = np.concatenate((image[:, :, : rows - half], image[:, :, encoded - half :]), axis=2)
    del image
    if rows % 2 or encoded % 2:
        pixel = np.concatenate((np.arange(rows - half), np.arange(-half, 0)))
        kept *= np.exp(2j * np.pi * pixel * (half / rows - (encoded // 2) / encoded)).astype(np.complex64)
    shorter: NDArray[np.complex64] = scipy.fft.fft(kept, axis=2, norm="ortho", overwrite_x=True)
    return shorter


def _nearest(measured: NDArray[np.bool_], rows: int) -> NDArray[np.bool_]:
    """Return which of `rows` samples lie where one of the longer readout, (columns, encoded rows), was measured."""
    encoded = measured.shape[1]
    nearest = np.rint(encoded // 2 + (np.arange(rows) - rows // 2) * (encoded / rows)).astype(np.int64)
    kept: NDArray[np.bool_] = measured[:, np.clip(nearest, 0, encoded - 1)]
    return kept
