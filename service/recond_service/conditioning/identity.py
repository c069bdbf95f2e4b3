"""What tells images apart besides their counters: where they lie, and when their echoes come.

Some sequences and converters never set the counter of the slice, the slab or the echo. Readouts that were measured elsewhere, or of
another echo, are then kept apart here, and a finding says so.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recond_service.conditioning.runs import Counters, Run
from recond_service.types import FindingList, MrdHeader

_ROUNDING = 0.05  # mm; positions are float32, and some files round them
_PART_OF_SLICE = 0.3  # of the thickness: slices that overlap lie farther apart
_LARGEST_STEP = 2.0  # mm by which the position of one image may follow the motion of a head
_TURN = np.cos(np.deg2rad(5.0))
_SAME_TURN = np.cos(np.deg2rad(0.5))
_SAME_TABLE = 1.0  # mm
_SAME_DWELL = 0.01


@dataclass(frozen=True, slots=True)
class _Pose:
    """A position (3,) and directions (3, 3) of readouts, and the position (3,) of the table."""

    position: NDArray[np.float64]
    directions: NDArray[np.float64]
    table: NDArray[np.float64]

    def distance(self, other: _Pose) -> float:
        return float(np.linalg.norm(self.position - other.position))

    def table_distance(self, other: _Pose) -> float:
        distance = float(np.linalg.norm(self.table - other.table))
        return distance if np.isfinite(distance) else 0.0

    def is_turned(self, other: _Pose, cosine: float) -> bool:
        lengths = np.linalg.norm(self.directions, axis=1) * np.linalg.norm(other.directions, axis=1)
        return bool(((self.directions * other.directions).sum(axis=1) < cosine * lengths).any())

    def is_elsewhere(self, other: _Pose) -> bool:
        """Tell whether the poses differ by more than rounding."""
        return (
            self.distance(other) > _ROUNDING
            or self.table_distance(other) > _SAME_TABLE
            or self.is_turned(other, _SAME_TURN)
        )


@dataclass(slots=True)
class _Place:
    """The first pose that readouts had, whether imaging readouts were among them, and where these had each of their lines."""

    pose: _Pose
    imaged: bool = False
    came: dict[tuple[int, int, int], _Pose] = field(default_factory=dict)

    def had_elsewhere(self, lines: list[tuple[int, int, int]], pose: _Pose) -> bool:
        """Tell whether one of the lines came already, at another pose."""
        known = {id(found): found for found in (self.came.get(line) for line in lines) if found is not None}
        return any(found.is_elsewhere(pose) for found in known.values())


class Places:
    """Numbers the places of readouts that share all counters, from 0 in the order in which they are seen.

    A position may move a little within an image, as with prospective correction of motion: by less than a third of the slice
    thickness, at most 2 mm, and by 5 degrees; the table may move at will. A line that comes again elsewhere, with the same average,
    is that of another image.

    Parameters
    ----------
    findings
        Gets ``"positions-differ"`` and ``"position-moves"``.
    """

    def __init__(self, findings: FindingList) -> None:
        self._findings = findings
        self._known: dict[Counters, list[_Place]] = {}

    def of(self, run: Run, thickness: float, *, imaging: bool) -> int:
        """Return the number of the place of a run.

        Parameters
        ----------
        run
            Readouts at one place.
        thickness
            Of slice or slab, mm; 0 if it is not known.
        imaging
            These are imaging readouts: a second place of such is worth a warning.
        """
        header = run.header
        pose = _Pose(
            np.asarray(header["position"], np.float64),
            np.array([header[name] for name in ("read_dir", "phase_dir", "slice_dir")], np.float64),
            np.asarray(header["patient_table_position"], np.float64),
        )
        known = self._known.setdefault(run.counters, [])
        if not (np.isfinite(pose.position).all() and np.isfinite(pose.directions).all()):
            pose = known[0].pose if known else _Pose(np.zeros(3), np.zeros((3, 3)), pose.table)
        average = int(header["idx"]["average"])
        steps = zip(run.counter("kspace_encode_step_1"), run.counter("kspace_encode_step_2"), strict=True)
        lines = [(int(one), int(two), average) for one, two in steps] if imaging else []
        tolerance = min(_PART_OF_SLICE * thickness if thickness > 0 else 1.0, _LARGEST_STEP) + _ROUNDING
        near = [
            (place.pose.distance(pose) + place.pose.table_distance(pose), number)
            for number, place in enumerate(known)
            if not place.pose.is_turned(pose, _TURN)
            and place.pose.distance(pose) <= tolerance
            and not place.had_elsewhere(lines, pose)
        ]
        if near:
            number = min(near)[1]
            if known[number].pose.distance(pose) > _ROUNDING and imaging:
                self._findings.warn(
                    "position-moves",
                    f"The position of readouts of one image moves by up to {tolerance:.2g} mm: they make one image all the same.",
                    len(run),
                )
        else:
            if imaging and any(place.imaged for place in known):
                self._findings.warn(
                    "positions-differ",
                    "Readouts with the same counters lie at different places, as slices, slabs, orientations or stations of the "
                    "table do whose counters were never set: they make images of their own.",
                )
            known.append(_Place(pose))
            number = len(known) - 1
        known[number].came.update(dict.fromkeys(lines, pose))
        known[number].imaged |= imaging
        return number


@dataclass(slots=True)
class _Repeats:
    """How often each line came, by average; dwell times that were seen."""

    dwells: list[float] = field(default_factory=list)
    came: dict[tuple[int, int], NDArray[np.int64]] = field(default_factory=dict)


class Echoes:
    """Numbers echoes that no counter tells apart.

    Readouts of one image have one dwell time. Where the header lists several echo times and contrasts are not counted, a line that
    comes again is that of the next echo.

    Parameters
    ----------
    header
        ISMRMRD header of the scan.
    findings
        Gets ``"echoes-not-counted"`` and ``"dwell-times-differ"``.
    """

    def __init__(self, header: MrdHeader, findings: FindingList) -> None:
        self._findings = findings
        self._listed = len(header.sequence.echo_times)
        self._limits = [encoding.limits.contrast for encoding in header.encodings]
        self._known: dict[tuple[Counters, int], _Repeats] = {}

    def of(self, run: Run, place: int, lines: NDArray[np.int64], total: int, contrasts: int) -> NDArray[np.int64]:
        """Return the number of the echo of each readout of a run, int64 (count,).

        Parameters
        ----------
        run
            Imaging readouts.
        place
            Number of their place.
        lines
            Line of each.
        total
            How many lines there are.
        contrasts
            How many contrasts the scan is known to count.
        """
        counters = run.counters
        known = self._known.setdefault((counters, place), _Repeats())
        first = self._dwell(known, float(run.header["sample_time_us"]))
        limit = self._limits[counters.encoding]
        counted = contrasts > 1 or (limit is not None and limit.maximum > limit.minimum) or counters.contrast > 0
        if self._listed < 2 or counted:
            return np.full(len(lines), first)
        average = int(run.header["idx"]["average"])
        came = known.came.setdefault((first, average), np.zeros(total, np.int64))
        echoes = np.zeros(len(lines), np.int64)
        for number, line in enumerate(lines.tolist()):
            if line >= 0:
                echoes[number] = came[line]
                came[line] += 1
        again = int((echoes > 0).sum())
        if again:
            self._findings.warn(
                "echoes-not-counted",
                f"Lines came again with the same counters, and the header lists {self._listed} echo times: they are taken for "
                "echoes whose contrast was never set, and make images of their own.",
                again,
            )
        echoes %= self._listed
        return echoes + first * self._listed

    def _dwell(self, known: _Repeats, dwell: float) -> int:
        if not (np.isfinite(dwell) and dwell > 0):
            return 0  # it was not set
        for number, seen in enumerate(known.dwells):
            if abs(seen - dwell) <= _SAME_DWELL * max(abs(seen), abs(dwell)):
                return number
        if known.dwells:
            self._findings.warn(
                "dwell-times-differ",
                "Readouts with the same counters have different dwell times: they make images of their own.",
            )
        known.dwells.append(dwell)
        return len(known.dwells) - 1
