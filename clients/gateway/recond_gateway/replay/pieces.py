"""A file as a sequence of what is sent at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recond_gateway.mrd import writer
from recond_gateway.mrd.layouts import AcquisitionFlag
from recond_gateway.replay.raw_file import Block, RawFile
from recond_gateway.replay.timing import Timing

ImageKey: TypeAlias = tuple[int, ...]
"""Slice, contrast, phase, repetition and set."""

KEY_FIELDS: Final = ("slice", "contrast", "phase", "repetition", "set")

_NOT_IMAGING: Final = (
    AcquisitionFlag.NOISE_MEASUREMENT
    | AcquisitionFlag.PARALLEL_CALIBRATION
    | AcquisitionFlag.NAVIGATION
    | AcquisitionFlag.PHASE_CORRECTION
    | AcquisitionFlag.HP_FEEDBACK
    | AcquisitionFlag.DUMMY
    | AcquisitionFlag.RT_FEEDBACK
    | AcquisitionFlag.SURFACE_COIL_CORRECTION
)
_WAVEFORMS_AT_ONCE: Final = 256
_PIECE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Piece:
    """Messages that are sent at once.

    Parameters
    ----------
    due
        Seconds from the beginning, 0 for at once.
    message
        The bytes.
    acquisitions, waveforms
        How many are in them.
    key
        The image that the acquisitions belong to; None for those that no image comes of.
    """

    due: float
    message: bytes
    acquisitions: int
    waveforms: int
    key: ImageKey | None


def pieces_of(file: RawFile, timing: Timing) -> Iterator[Piece]:
    """Yield acquisitions and waveforms by time; a piece ends where the image, the time or the kind of message changes.

    Parameters
    ----------
    file
        The scan.
    timing
        When its acquisitions are due.

    Raises
    ------
    InputError
        The file is damaged.
    """
    stamps = file.waveform_stamps()
    waveforms = first = 0
    for block in file.blocks():
        count = len(block.headers)
        due = np.zeros(count) if timing.due is None else timing.due[first : first + count]
        # How many waveforms were measured before each acquisition; never fewer than before the one before it.
        before = np.searchsorted(np.maximum.accumulate(stamps), block.headers["acquisition_time_stamp"], "left")
        before = np.maximum.accumulate(np.maximum(before, waveforms))
        keys = _keys(block.headers)
        starts = _starts(block, keys, due, before)
        for start, end in zip(starts, [*starts[1:], count], strict=True):
            yield from _waveforms(file, waveforms, int(before[start]), float(due[start]))
            waveforms = int(before[start])
            yield _piece(block, start, end, float(due[start]), keys[start])
        first += count
    yield from _waveforms(file, waveforms, len(stamps), 0.0)


def _keys(headers: NDArray[np.void]) -> NDArray[np.int64]:
    """Return (n, 6): the counters of the image, and whether an acquisition counts for it."""
    columns = [headers["idx"][name].astype(np.int64) for name in KEY_FIELDS]
    both = headers["flags"] & AcquisitionFlag.PARALLEL_CALIBRATION_AND_IMAGING != 0
    imaging = (headers["flags"] & _NOT_IMAGING == 0) | both
    return np.stack([*columns, imaging.astype(np.int64)], axis=1)


def _starts(block: Block, keys: NDArray[np.int64], due: NDArray[np.float64], before: NDArray[np.int64]) -> list[int]:
    """Return where pieces begin."""
    new = np.ones(len(keys), bool)
    new[1:] = (np.diff(keys, axis=0) != 0).any(1) | (np.diff(due) != 0) | (np.diff(before) != 0)
    bytes_before = 340 * np.arange(len(keys)) + 8 * block.sample_ends[:-1] + 4 * block.trajectory_ends[:-1]
    new[1:] |= np.diff(bytes_before // _PIECE_BYTES) != 0
    starts: list[int] = np.flatnonzero(new).tolist()
    return starts


def _piece(block: Block, start: int, end: int, due: float, key: NDArray[np.int64]) -> Piece:
    samples, trajectories = block.sample_ends, block.trajectory_ends
    message = writer.acquisitions(
        block.headers[start:end],
        block.samples[samples[start] : samples[end]],
        block.trajectories[trajectories[start] : trajectories[end]],
    )
    *counters, imaging = key.tolist()
    return Piece(due, message, end - start, 0, tuple(counters) if imaging else None)


def _waveforms(file: RawFile, first: int, last: int, due: float) -> Iterator[Piece]:
    for start in range(first, last, _WAVEFORMS_AT_ONCE):
        end = min(start + _WAVEFORMS_AT_ONCE, last)
        yield Piece(due, writer.waveforms(*file.waveforms(start, end)), 0, end - start, None)
