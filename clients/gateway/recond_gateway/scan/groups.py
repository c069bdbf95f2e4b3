"""Which readouts belong to which image, when an image has all of them, and what is missing in the end.

Counters decide and flags are hints: streams that were split or converted lose flags (SIRF issue 513). The service groups by
itself; this is the gateway's own account, for deadlines, for the headers of images and for what it reports.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from recond_client.result import ImageIndex
from recond_gateway.mrd.layouts import AcquisitionFlag as Flag
from recond_gateway.scan.header import HeaderFacts
from recond_gateway.scan.lines import Lines


class GroupKey(NamedTuple):
    """Counters that tell images apart; of a 3-D scan, `slice` counts slabs."""

    encoding: int
    slice: int
    contrast: int
    phase: int
    repetition: int
    set: int

    def __str__(self) -> str:
        named = zip(self._fields, self, strict=True)
        shown = [f"{name} {value}" for name, value in named if value or name == "slice"]
        return ", ".join(shown)


#: Readouts that make no image, by what they are for; the first that holds names it.
_ASIDE: Final = (
    ("noise", Flag.NOISE_MEASUREMENT),
    ("navigator", Flag.NAVIGATION),
    ("phase correction", Flag.PHASE_CORRECTION),
    ("feedback", Flag.HP_FEEDBACK | Flag.RT_FEEDBACK),
    ("dummy", Flag.DUMMY),
)
#: These are used all the same.
_USED: Final = frozenset({"noise", "calibration"})
_ANY_ASIDE: Final = np.uint64(sum(int(flags) for _, flags in _ASIDE) | int(Flag.PARALLEL_CALIBRATION))
_MOST_TOLD: Final = 12


@dataclass(slots=True)
class Group:
    """The readouts of an image.

    Parameters
    ----------
    first
        Header of the first one, 340 bytes.
    lines
        Lines of k-space that they fill, repeats counted once.
    readouts
        How many there were.
    closed_at
        When the image had all of them, seconds of the ledger's clock; None while more may come.
    ended_averages
        Counters of the averages whose last readout was flagged.
    """

    first: NDArray[np.void]
    lines: Lines = field(default_factory=Lines)
    readouts: int = 0
    closed_at: float | None = None
    ended_averages: set[int] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Incomplete:
    """An image that lacks lines.

    Parameters
    ----------
    key
        Counters of the image.
    has
        How many lines it has.
    wanted
        How many the others have, or the header announces.
    missing
        Partition and line of the first of those that are missing, as far as they are known.
    volume
        Whether partitions are told too.
    """

    key: GroupKey
    has: int
    wanted: int
    missing: tuple[tuple[int, int], ...]
    volume: bool = False

    def __str__(self) -> str:
        told = ""
        if self.missing:
            lines = [
                f"{line} of partition {partition}" if self.volume else str(line) for partition, line in self.missing
            ]
            left = self.wanted - self.has - len(lines)
            more = f" and {left} more" if left > 0 else ""
            told = f": missing {', '.join(lines)}{more}"
        return f"{self.key} has {self.has} of {self.wanted} lines{told}"


class GroupLedger:
    """The groups of a scan. Safe to use from several threads.

    Parameters
    ----------
    header
        Of the scan.
    now
        Seconds that never go back.
    """

    def __init__(self, header: HeaderFacts, now: Callable[[], float] = time.monotonic) -> None:
        self._header = header
        self._now = now
        self._lock = threading.Lock()
        self._groups: dict[GroupKey, Group] = {}
        self._awaited: dict[GroupKey, Group] = {}
        """Groups without an image that is out: few, where a scan in real time has thousands in all."""
        self._aside: Counter[str] = Counter()
        self._imaging = 0
        self._ended_at: float | None = None

    @property
    def received(self) -> int:
        """Readouts that came."""
        with self._lock:
            return self._imaging + sum(self._aside.values())

    @property
    def used(self) -> int:
        """Readouts that images are made from: of images, calibration and noise."""
        with self._lock:
            return self._imaging + sum(self._aside[name] for name in _USED)

    @property
    def dropped(self) -> dict[str, int]:
        """Readouts that no image is made from, by what they are for."""
        with self._lock:
            return {name: count for name, count in self._aside.items() if name not in _USED}

    def take(self, headers: NDArray[np.void]) -> None:
        """Enter readouts.

        Parameters
        ----------
        headers
            Acquisition headers (readouts,), in the order in which they came.
        """
        now = self._now()
        with self._lock:
            bits = headers["flags"]
            if (bits & _ANY_ASIDE).any():
                headers = headers[self._set_aside(bits)]
            self._imaging += len(headers)
            if not len(headers):
                return
            counters = headers["idx"]
            keys = np.stack(
                [headers["encoding_space_ref"]]
                + [counters[name] for name in ("slice", "contrast", "phase", "repetition", "set")],
                axis=1,
            )
            changes = np.flatnonzero((keys[1:] != keys[:-1]).any(axis=1)) + 1
            bounds = [0, *changes.tolist(), len(headers)]
            for start, stop in itertools.pairwise(bounds):
                self._enter(GroupKey(*keys[start].tolist()), headers[start:stop], now)

    def end(self) -> None:
        """Close all groups: nothing more is going to come."""
        with self._lock:
            self._ended_at = self._now() if self._ended_at is None else self._ended_at
            for group in self._groups.values():
                self._close(group)

    def group_of(self, index: ImageIndex) -> Group | None:
        """Return the readouts that an image was made from; None where the counters name none."""
        with self._lock:
            key = self._key_of(index)
            return None if key is None else self._groups[key]

    def delivered(self, index: ImageIndex) -> None:
        """Note that an image is out."""
        with self._lock:
            key = self._key_of(index)
            if key is not None:
                self._awaited.pop(key, None)

    def _key_of(self, index: ImageIndex) -> GroupKey | None:
        for encoding in range(max(len(self._header.encodings), 1)):
            # The images of a 3-D scan count partitions, slab after slab.
            facts = self._header.encoding(encoding)
            slices = (index.slice // facts.depth, 0, index.slice) if facts.volume else (index.slice,)
            for number in slices:
                key = GroupKey(encoding, number, index.contrast, index.phase, index.repetition, index.set)
                if key in self._groups:
                    return key
        return None

    def overdue(self, seconds: float, since: float) -> bool:
        """Tell whether an image that is not out has been complete for so long.

        Parameters
        ----------
        seconds
            How long.
        since
            When the readouts began to be read: what was complete before counts from then on.
        """
        bound = self._now() - seconds
        with self._lock:
            return any(
                group.closed_at is not None and max(group.closed_at, since) <= bound for group in self._awaited.values()
            )

    def waited(self, index: ImageIndex, since: float) -> float | None:
        """Seconds since the readouts of an image were complete, or since then; None while more may come.

        Which readouts those are is not always known: then it counts from the end of the scan.
        """
        group = self.group_of(index)
        closed_at = self._ended_at if group is None else group.closed_at
        return None if closed_at is None else self._now() - max(closed_at, since)

    def incomplete(self) -> list[Incomplete]:
        """Return the images that lack lines: those that the header announces, or that other images of their encoding have."""
        found = []
        with self._lock:
            for encoding in sorted({key.encoding for key in self._groups}):
                groups = {key: group for key, group in self._groups.items() if key.encoding == encoding}
                every = Lines()
                for group in groups.values():
                    every.update(group.lines)
                most = max(len(group.lines) for group in groups.values())
                facts = self._header.encoding(encoding)
                wanted = max(most, facts.expected_lines)
                expected = self._announced(encoding) if wanted == facts.expected_lines else every
                known = len(expected) == wanted
                for key, group in groups.items():
                    if len(group.lines) < wanted:
                        first = itertools.islice(expected.without(group.lines), _MOST_TOLD) if known else ()
                        found.append(Incomplete(key, len(group.lines), wanted, tuple(first), facts.volume))
        return found

    def _announced(self, encoding: int) -> Lines:
        facts = self._header.encoding(encoding)
        if not facts.expected_lines or facts.lines is None:
            return Lines()
        return Lines.between(facts.lines, facts.partitions if facts.volume and facts.partitions is not None else (0, 0))

    def _set_aside(self, bits: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Count what makes no image, and return which readouts do."""
        left: NDArray[np.bool_] = np.ones(len(bits), bool)
        for name, flags in _ASIDE:
            held = left & ((bits & np.uint64(int(flags))) != 0)
            self._aside[name] += int(held.sum())
            left &= ~held
        both = np.uint64(int(Flag.PARALLEL_CALIBRATION_AND_IMAGING))
        only = left & ((bits & np.uint64(int(Flag.PARALLEL_CALIBRATION))) != 0) & ((bits & both) == 0)
        self._aside["calibration"] += int(only.sum())
        left &= ~only
        return left

    def _enter(self, key: GroupKey, headers: NDArray[np.void], now: float) -> None:
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = self._awaited[key] = Group(headers[:1].copy())
        counters = headers["idx"]
        group.lines.add(counters["kspace_encode_step_2"].tolist(), counters["kspace_encode_step_1"].tolist())
        group.readouts += len(headers)
        flags = headers["flags"]
        facts = self._header.encoding(key.encoding)
        last = Flag.LAST_IN_REPETITION if facts.volume else Flag.LAST_IN_SLICE | Flag.LAST_IN_REPETITION
        group.ended_averages.update(counters["average"][(flags & np.uint64(last)) != 0].tolist())
        # Where averages are the inner loop, only the last one carries the flag.
        flagged = len(group.ended_averages) >= facts.averages or (facts.averages - 1) in group.ended_averages
        expected = facts.expected_lines
        counted = bool(expected) and len(group.lines) >= expected and group.readouts >= expected * facts.averages
        if int(np.bitwise_or.reduce(flags)) & Flag.LAST_IN_MEASUREMENT:
            for other in self._groups.values():
                self._close(other)
        elif flagged or counted or group.closed_at is not None:
            group.closed_at = now

    def _close(self, group: Group) -> None:
        if group.closed_at is None:
            group.closed_at = self._now()
