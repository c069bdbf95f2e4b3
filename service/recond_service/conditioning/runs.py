"""Consecutive readouts that are alike, so that they are handled together: no work per readout where it is the same work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recond_service.conditioning import flags
from recond_service.conditioning.scaling import peak_of
from recond_service.types import ACQUISITION_HEADER, AcquisitionBlock, InvalidInputError

_LAST = np.uint64(flags.LAST_IN_SLICE | flags.LAST_IN_REPETITION | flags.LAST_IN_MEASUREMENT)
_COUNTERS = ("average", "slice", "contrast", "phase", "repetition", "set")


class Counters(NamedTuple):
    """The counters of a readout that tell images apart."""

    encoding: int
    slice: int
    contrast: int
    phase: int
    repetition: int
    set: int


class ImageKey(NamedTuple):
    """Which image a readout belongs to: its counters, and what tells images apart whose counters were never set.

    Parameters
    ----------
    counters
        As the header of the readout has them.
    place
        Number of its position and orientation among those that were seen under these counters.
    echo
        Number of its echo where contrasts were not counted.
    """

    counters: Counters
    place: int = 0
    echo: int = 0


class Kind(IntEnum):
    """What a readout is for. DOUBTFUL ones carry a flag that is also found on imaging readouts."""

    IMAGING = 0
    CALIBRATION = 1
    NOT_IMAGING = 2
    NOISE = 3
    DOUBTFUL = 4


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
    def counters(self) -> Counters:
        """Counters of the image that the readouts belong to."""
        header = self.header
        idx = header["idx"]
        return Counters(
            int(header["encoding_space_ref"]),
            int(idx["slice"]),
            int(idx["contrast"]),
            int(idx["phase"]),
            int(idx["repetition"]),
            int(idx["set"]),
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


def _deciding_bytes() -> NDArray[np.intp]:
    """Return the positions in a packed header of everything that decides where a readout belongs, flags apart."""

    def start(dtype: np.dtype[np.void], name: str) -> int:
        fields = dtype.fields
        assert fields is not None  # noqa: S101 - both are records
        return int(fields[name][1])

    spans = (
        ("number_of_samples", "available_channels"),
        ("active_channels", "channel_mask"),
        ("discard_pre", "idx"),
    )
    places = [np.arange(start(ACQUISITION_HEADER, one), start(ACQUISITION_HEADER, other)) for one, other in spans]
    counters = ACQUISITION_HEADER["idx"]
    first = start(ACQUISITION_HEADER, "idx")
    return np.concatenate([*places, *(first + start(counters, name) + np.arange(2) for name in _COUNTERS)])


_DECIDING = _deciding_bytes()


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
    kinds = kinds_of(bits)
    packed = np.ascontiguousarray(block.headers).view(np.uint8).reshape(len(block), -1)[:, _DECIDING]
    turned = (bits & np.uint64(flags.REVERSE)) != 0
    cut = (packed[1:] != packed[:-1]).any(axis=1)
    doubtful = bits & np.uint64(flags.ALL_DOUBTFUL)
    cut |= doubtful[1:] != doubtful[:-1]
    cut |= (kinds[1:] != kinds[:-1]) | (turned[1:] != turned[:-1]) | ((bits[:-1] & _LAST) != 0)
    starts = [0, *(np.flatnonzero(cut) + 1).tolist(), len(block)]
    for start, stop in pairwise(starts):
        yield Run(Kind(int(kinds[start])), block, start, stop, first + start)


def kinds_of(bits: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the `Kind` of readouts by their flags, int64 (count,)."""

    def has(flag: int) -> NDArray[np.bool_]:
        found: NDArray[np.bool_] = (bits & np.uint64(flag)) != 0
        return found

    calibration_only = has(flags.CALIBRATION) & ~has(flags.CALIBRATION_AND_IMAGING)
    kinds = np.where(has(flags.ALL_DOUBTFUL), Kind.DOUBTFUL, Kind.IMAGING)
    kinds = np.where(calibration_only, Kind.CALIBRATION, kinds)
    kinds = np.where(has(flags.NOT_IMAGING), Kind.NOT_IMAGING, kinds)
    return np.where(has(flags.NOISE), Kind.NOISE, kinds).astype(np.int64)


def all_finite(block: AcquisitionBlock) -> bool:
    """Tell whether no sample of a block is NaN or infinite."""
    parts = block.samples.view(np.float32)
    # A sum of squares is one pass over the data; where it is finite, so is every sample. Large samples make it overflow.
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.dot(parts, parts)) or np.isfinite(peak_of(block.samples)))


def check_finite(run: Run, chosen: NDArray[np.int64] | None = None, samples: slice | None = None) -> None:
    """Refuse readouts if one that is used has a sample that is used and NaN or infinite.

    Parameters
    ----------
    run
        Readouts.
    chosen
        Which of them are used; None for all.
    samples
        Which of their samples, as measured; None for all.

    Raises
    ------
    InvalidInputError
        Naming the readout.
    """
    used = samples or slice(None)
    for number in range(len(run)) if chosen is None else chosen.tolist():
        wrong = ~np.isfinite(run.readouts[number, :, used]).all(axis=0)
        if wrong.any():
            position = int(np.argmax(wrong)) + (used.start or 0)
            values = run.readouts[number, :, position]
            value = values[~np.isfinite(values)][0]
            place = run.place(number)
            raise InvalidInputError(
                f"{place} holds {value} at sample {position} of its channels: NaN and Inf cannot be reconstructed; find out where "
                "they came from.",
                reason="NOT_FINITE",
                field=place,
            )
