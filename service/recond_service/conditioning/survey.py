"""What the headers of all readouts of a file tell before its samples are read: counters are believed before the header."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from recond_service.conditioning import flags
from recond_service.conditioning.partition_counter import are_slices_partitions, count_slices_as_partitions
from recond_service.conditioning.runs import Counters, Kind, kinds_of
from recond_service.types import ACQUISITION_HEADER, AcquisitionSource

_COUNTER_VALUES = 1 << 16
_LOOKED_AT = (
    "flags",
    "number_of_samples",
    "active_channels",
    "discard_pre",
    "discard_post",
    "center_sample",
    "encoding_space_ref",
    "position",
    "idx",
)
_SLIM = np.dtype([(name, ACQUISITION_HEADER[name]) for name in _LOOKED_AT])
_IN_THE_MIDDLE = 1  # samples by which the centre of a whole echo may lie off its middle
_STRAY = 0.05  # share of the readouts up to which those that do not fit into the matrix are taken for errors
_ANNOUNCED_ENOUGH = 0.1  # share of the imaging readouts from which the announced number of channels is believed


@dataclass(frozen=True, slots=True)
class Steps:
    """How often each value of a phase-encode counter came, int64 (values,)."""

    times: NDArray[np.int64]

    def bounds(self, limits: tuple[int, int] | None, length: int) -> tuple[int, int] | None:
        """Return the least and the greatest value; None if there is none.

        Where they do not fit into the matrix but nearly all readouts do, the few others are left out.

        Parameters
        ----------
        limits
            What the header announces, both ends included.
        length
            Of the matrix.
        """
        seen = np.flatnonzero(self.times)
        if not seen.size:
            return None
        low, high = int(seen[0]), int(seen[-1])
        if high - low < length:
            return low, high
        windows = (
            [range(low, high - length + 2)]
            if limits is None
            else [range(limits[0], limits[0] + 1), range(low, high - length + 2)]
        )
        total = np.concatenate([[0], np.cumsum(self.times), np.full(length, self.times.sum())])
        for starts in windows:
            first = np.array(starts)
            held = total[first + length] - total[first]
            start = starts[int(np.argmax(held))]
            if self.times.sum() - held.max() <= _STRAY * self.times.sum():
                inside = start + np.flatnonzero(self.times[start : start + length])
                return int(inside[0]), int(inside[-1])
        return low, high


@dataclass(slots=True)
class Evidence:
    """What the imaging readouts of one encoding tell.

    Parameters
    ----------
    samples
        How many most of them have that are not to be discarded; 0 if that is not known.
    plain
        These have nothing to discard and their centre in the middle.
    step_1, step_2
        Their phase-encode counters; None while not all have come.
    contrasts
        How many contrasts they count.
    partition
        kspace_encode_step_2 of the first of them.
    reach
        Samples on that side of the centre where there are more; 0 if that is not known.
    """

    samples: int = 0
    plain: bool = False
    partition: int = 0
    step_1: Steps | None = None
    step_2: Steps | None = None
    contrasts: int = 1
    reach: int = 0

    @property
    def two_dimensional(self) -> bool:
        """The partition counter is known to stand still."""
        return self.step_2 is not None and int(np.count_nonzero(self.step_2.times)) <= 1


@dataclass(slots=True)
class Survey:
    """What the headers of a whole file tell.

    Parameters
    ----------
    channels
        Number of channels of the readouts to use; 0 if there are none.
    other_channels
        The header announces another number.
    encodings
        Evidence by number of the encoding.
    last
        Number of the last readout with these counters: then their images are complete.
    imaging
        There are imaging readouts without a doubtful flag.
    counted_as_slices
        Encodings whose partitions are in the counter of the slice; all else that the survey tells has them in their own.
    """

    channels: int
    other_channels: bool = False
    encodings: dict[int, Evidence] = field(default_factory=dict)
    last: dict[Counters, int] = field(default_factory=dict)
    imaging: bool = True
    counted_as_slices: set[int] = field(default_factory=set)


def evidence_of(header: np.void) -> Evidence:
    """Return what one imaging readout tells: nothing about counters."""
    samples, centre = int(header["number_of_samples"]), int(header["center_sample"])
    discarded = int(header["discard_pre"]) + int(header["discard_post"])
    plain = not discarded and _is_middle(np.array(centre), np.array(samples))
    partition = int(header["idx"]["kspace_encode_step_2"])
    return Evidence(max(0, samples - discarded), bool(plain), partition, reach=_reach(header))


def _reach(header: np.void) -> int:
    """Return how many valid samples a readout has on that side of its centre where there are more; 0 if the centre cannot be."""
    samples, centre = int(header["number_of_samples"]), int(header["center_sample"])
    first, last = int(header["discard_pre"]), samples - int(header["discard_post"])
    if int(header["flags"]) & flags.REVERSE and 2 * centre != samples:
        first, last, centre = samples - last, samples - first, samples - 1 - centre
    return max(centre - first, last - centre) if first <= centre < last else 0


def survey(source: AcquisitionSource, announced: int) -> Survey | None:
    """Look through the headers of a scan; None where they cannot be had without the samples.

    Parameters
    ----------
    source
        The scan.
    announced
        Number of channels that its header announces, 0 if none.
    """
    if source.heads is None:
        return None
    tables = [_slim(table) for table in source.heads()]
    heads = np.concatenate(tables) if tables else np.zeros(0, _SLIM)
    kinds = kinds_of(heads["flags"])
    filled = (heads["number_of_samples"] > 0) & (heads["active_channels"] > 0)
    candidates = filled & ((kinds == Kind.IMAGING) | (kinds == Kind.DOUBTFUL))
    imaging = filled & (kinds == Kind.IMAGING)
    channels = _channels(heads["active_channels"][imaging if imaging.any() else candidates], announced)
    usable = filled & (heads["active_channels"] == channels)
    found = Survey(
        channels,
        other_channels=bool(announced and channels and channels != announced),
        imaging=bool((imaging & usable).any()),
    )
    used = candidates & usable
    for number in np.unique(heads["encoding_space_ref"][used]).tolist():
        own = heads[used & (heads["encoding_space_ref"] == number)]
        if number < len(source.header.encodings) and are_slices_partitions(own, source.header.encodings[number]):
            found.counted_as_slices.add(number)
    count_slices_as_partitions(heads, found.counted_as_slices)
    for number in np.unique(heads["encoding_space_ref"][used]).tolist():
        found.encodings[number] = _evidence(heads[used & (heads["encoding_space_ref"] == number)])
    relevant = usable & (candidates | (kinds == Kind.CALIBRATION))
    _note_last(heads, np.flatnonzero(relevant), found.last)
    return found


def _slim(heads: NDArray[np.void]) -> NDArray[np.void]:
    """Return the fields that are looked at: a quarter of the memory, since those of the whole file are held at once."""
    slim = np.empty(len(heads), _SLIM)
    for name in _LOOKED_AT:
        slim[name] = heads[name]
    return slim


def _channels(counts: NDArray[np.uint16], announced: int) -> int:
    """Return the announced number of channels if enough readouts have it, else what most have; the larger of two as common."""
    if not len(counts):
        return announced
    values, times = np.unique(counts, return_counts=True)
    found = Counter(dict(zip(values.tolist(), times.tolist(), strict=True)))
    if found[announced] >= _ANNOUNCED_ENOUGH * len(counts):
        return announced
    return int(max(found, key=lambda channels: (found[channels], channels)))


def _evidence(heads: NDArray[np.void]) -> Evidence:
    discarded = heads["discard_pre"].astype(np.int64) + heads["discard_post"]
    valid = np.maximum(heads["number_of_samples"] - discarded, 0)
    values, times = np.unique(valid, return_counts=True)
    samples = int(values[np.argmax(times)])
    common = valid == samples
    centres = heads["center_sample"][common].astype(np.int64)
    plain = (discarded[common] == 0) & _is_middle(centres, np.full(len(centres), samples))
    return Evidence(
        samples,
        bool(plain.all()),
        int(heads["idx"]["kspace_encode_step_2"][0]),
        Steps(np.bincount(heads["idx"]["kspace_encode_step_1"], minlength=_COUNTER_VALUES)),
        Steps(np.bincount(heads["idx"]["kspace_encode_step_2"], minlength=_COUNTER_VALUES)),
        len(np.unique(heads["idx"]["contrast"])),
        _reach(heads[int(np.argmax(common))]),
    )


def _is_middle(centre: NDArray[np.int64], samples: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell whether an echo has its centre in the middle, or none that can be."""
    return np.asarray((np.abs(centre - samples // 2) <= _IN_THE_MIDDLE) | (centre >= samples) | (centre == 0))


def _note_last(heads: NDArray[np.void], numbers: NDArray[np.int64], last: dict[Counters, int]) -> None:
    """Set the number of the last readout of every set of counters, from one stretch of equal counters to the next."""
    if not len(numbers):
        return
    names = ("slice", "contrast", "phase", "repetition", "set")
    columns = [heads["encoding_space_ref"][numbers], *(heads["idx"][name][numbers] for name in names)]
    changes = np.zeros(len(numbers) - 1, np.bool_)
    for column in columns:
        changes |= column[1:] != column[:-1]
    starts = [0, *(np.flatnonzero(changes) + 1).tolist(), len(numbers)]
    tables = [column.tolist() for column in columns]
    for start, stop in pairwise(starts):
        last[Counters(*(table[start] for table in tables))] = int(numbers[stop - 1])


def flag_names(bits: int) -> str:
    """Return the doubtful flags among `bits` for messages."""
    return ", ".join(f"{number} ({name})" for number, name in flags.DOUBTFUL.items() if bits & flags.bit_of(number))
