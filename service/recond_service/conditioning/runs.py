"""Consecutive readouts that are alike, so that they are handled together: no work per readout where it is the same work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from recond_service.conditioning import flags
from recond_service.conditioning.scaling import peak_of
from recond_service.types import AcquisitionBlock, AcquisitionSource, InvalidInputError

Key = tuple[int, int, int, int, int, int]
"""Counters that tell images apart: encoding, slice, contrast, phase, repetition, set."""

_LAST = np.uint64(flags.LAST_IN_SLICE | flags.LAST_IN_REPETITION | flags.LAST_IN_MEASUREMENT)
_FIELDS = (
    "number_of_samples",
    "active_channels",
    "discard_pre",
    "discard_post",
    "center_sample",
    "encoding_space_ref",
    "trajectory_dimensions",
)
_COUNTERS = ("slice", "contrast", "phase", "repetition", "set", "average")


class Kind(IntEnum):
    """What a readout is for."""

    IMAGING = 0
    CALIBRATION = 1
    NOT_IMAGING = 2
    NOISE = 3


@dataclass(frozen=True, slots=True)
class Run:
    """Readouts ``[start, stop)`` of a block that differ in nothing but phase-encode counters, segment and samples.

    Only the last of them may carry a flag that closes a slice, a repetition or the measurement.

    Parameters
    ----------
    kind
        What they are for.
    block
        Where they are.
    start, stop
        Which of its readouts.
    number
        Number of the first in the whole scan.
    """

    kind: Kind
    block: AcquisitionBlock
    start: int
    stop: int
    number: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def header(self) -> np.void:
        """Header of the first readout."""
        header: np.void = self.block.headers[self.start]
        return header

    @property
    def key(self) -> Key:
        """Which image the readouts belong to."""
        counters = self.header["idx"]
        return (
            int(self.header["encoding_space_ref"]),
            int(counters["slice"]),
            int(counters["contrast"]),
            int(counters["phase"]),
            int(counters["repetition"]),
            int(counters["set"]),
        )

    def counter(self, name: str) -> NDArray[np.int64]:
        """Return a counter of all readouts, int64 (count,)."""
        values: NDArray[np.int64] = self.block.headers["idx"][name][self.start : self.stop].astype(np.int64)
        return values

    def place(self, number: int = 0) -> str:
        """Return how messages name readout `number` of the run."""
        return f"{self.block.place}[{self.number + number}]"

    @property
    def readouts(self) -> NDArray[np.complex64]:
        """The samples, a view (count, channels, samples)."""
        flat = self.block.samples[self.block.offsets[self.start] : self.block.offsets[self.stop]]
        shape = len(self), int(self.header["active_channels"]), int(self.header["number_of_samples"])
        return flat.reshape(shape)


def runs_of(block: AcquisitionBlock, first: int) -> Iterator[Run]:
    """Cut a block into runs, in order.

    Parameters
    ----------
    block
        Readouts.
    first
        Number of the first of them in the whole scan.
    """
    if not len(block):
        return
    bits = block.headers["flags"]
    kinds = _kinds(bits)
    alike = np.stack(
        [
            kinds,
            (bits & np.uint64(flags.REVERSE)) != 0,
            *(block.headers[name] for name in _FIELDS),
            *(block.headers["idx"][name] for name in _COUNTERS),
        ]
    ).astype(np.int64)
    cut = (alike[:, 1:] != alike[:, :-1]).any(axis=0) | ((bits[:-1] & _LAST) != 0)
    starts = [0, *(np.flatnonzero(cut) + 1).tolist(), len(block)]
    for start, stop in pairwise(starts):
        yield Run(Kind(int(kinds[start])), block, start, stop, first + start)


def commonest_channels(source: AcquisitionSource) -> int:
    """Return the number of channels that most imaging readouts have, the larger of two as common; 0 where that is not known."""
    if source.heads is None:
        return 0
    counts: Counter[int] = Counter()
    for headers in source.heads():
        imaging = (_kinds(headers["flags"]) == Kind.IMAGING) & (headers["number_of_samples"] > 0)
        values, times = np.unique(headers["active_channels"][imaging], return_counts=True)
        counts.update(dict(zip(values.tolist(), times.tolist(), strict=True)))
    return max(counts, key=lambda channels: (counts[channels], channels), default=0)


def _kinds(bits: NDArray[np.uint64]) -> NDArray[np.int64]:
    def has(flag: int) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = (bits & np.uint64(flag)) != 0
        return found

    calibration_only = has(flags.CALIBRATION) & ~has(flags.CALIBRATION_AND_IMAGING)
    kinds = np.where(calibration_only, Kind.CALIBRATION, Kind.IMAGING)
    kinds = np.where(has(flags.NOT_IMAGING), Kind.NOT_IMAGING, kinds)
    return np.where(has(flags.NOISE), Kind.NOISE, kinds).astype(np.int64)


def check_finite(block: AcquisitionBlock, first: int) -> None:
    """Refuse a block with a sample that is NaN or infinite; `first` is the number of its first readout in the scan."""
    parts = block.samples.view(np.float32)
    # A sum of squares is one pass over the data; where it is finite, so is every sample. Large samples make it overflow.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(np.dot(parts, parts)) or np.isfinite(peak_of(block.samples)):
            return
    position = int(np.argmax(~np.isfinite(block.samples)))
    number = int(np.searchsorted(block.offsets, position, side="right")) - 1
    place = f"{block.place}[{first + number}]"
    raise InvalidInputError(
        f"{place} holds {block.samples[position]} at sample {position - int(block.offsets[number])} of its channels: NaN and Inf "
        "cannot be reconstructed; find out where they came from.",
        reason="NOT_FINITE",
        field=place,
    )
