"""Each lesion through a series of visits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recond_models.follow_up.change import Change
from recond_models.follow_up.lesion_changes import LesionChange, LesionComparison, Status
from recond_models.heads.measurements import Lesion


@dataclass(frozen=True, slots=True)
class TrackPoint:
    """A lesion at one visit.

    Parameters
    ----------
    numbers
        Of its lesions in the label map of that visit: several after a split, none once it has vanished.
    volume
        Sum, beside that of the visit before, mL.
    diameter_mm
        Longest diameter of the largest; None once it has vanished.
    status
        What happened since the visit before; None at the first visit, or where the scans could not be compared.
    """

    numbers: tuple[int, ...]
    volume: Change
    diameter_mm: float | None
    status: Status | None

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return {
            "numbers": list(self.numbers),
            "volume_ml": self.volume.current,
            "diameter_mm": self.diameter_mm,
            "status": self.status,
        }


@dataclass(frozen=True, slots=True)
class Track:
    """A lesion through a series of visits; lesions that merge or split at some time are one.

    Parameters
    ----------
    name
        ``"L1"``, ``"L2"``, …: in the order of their first appearance, the largest first.
    points
        One for each visit; None before its first, where the head did not run, and after a visit that could not be compared.
    """

    name: str
    points: tuple[TrackPoint | None, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain dictionaries and lists."""
        return {"name": self.name, "points": [None if one is None else one.to_json() for one in self.points]}


def tracks(comparisons: Sequence[LesionComparison | None]) -> tuple[Track, ...]:
    """Follow lesions through the comparisons of each visit with the one before.

    Parameters
    ----------
    comparisons
        One for each visit; None where the head did not run.
    """
    chains: list[_Chain] = []
    for visit, comparison in enumerate(comparisons):
        if comparison is None:
            continue
        if comparison.changes is None:
            for lesion in comparison.current.lesions:
                chain = _Chain()
                chain.add(visit, (lesion,), Change(None, lesion.volume_ml), None)
                chains.append(chain)
            continue
        for change in comparison.changes:
            olds = {one.number for one in change.prior}
            before = [one for one in chains if one.at(visit - 1) & olds]
            if before:
                first = before[0]
                for other in before[1:]:
                    first.join(other)
                    chains.remove(other)
            else:
                first = _Chain()
                chains.append(first)
            first.add(visit, change.current, change.volume, change)
    return tuple(
        Track(f"L{index}", tuple(chain.points.get(visit) for visit in range(len(comparisons))))
        for index, chain in enumerate(chains, 1)
    )


class _Chain:
    """A track that is still growing."""

    def __init__(self) -> None:
        self.points: dict[int, TrackPoint] = {}

    def at(self, visit: int) -> set[int]:
        """Return the numbers of its lesions at a visit."""
        point = self.points.get(visit)
        return set() if point is None else set(point.numbers)

    def add(self, visit: int, lesions: Sequence[Lesion], volume: Change, change: LesionChange | None) -> None:
        """Add a visit; what is there already counts with it."""
        here = self.points.get(visit)
        numbers = tuple(one.number for one in lesions)
        diameter = max((one.diameters.longest_mm for one in lesions), default=None)
        status = None if change is None else change.status
        if here is not None:  # two parts of a lesion that split earlier
            numbers, status = here.numbers + numbers, here.status if here.numbers else status
            diameter = max((one for one in (here.diameter_mm, diameter) if one is not None), default=None)
            volume = Change(
                _sum(here.volume.prior, volume.prior), _sum(here.volume.current, volume.current), volume.months
            )
        self.points[visit] = TrackPoint(numbers, volume, diameter, status)

    def join(self, other: _Chain) -> None:
        """Take the visits of another track: the two lesions have merged."""
        for visit, point in other.points.items():
            here = self.points.get(visit)
            if here is None:
                self.points[visit] = point
                continue
            diameter = max((one for one in (here.diameter_mm, point.diameter_mm) if one is not None), default=None)
            volume = Change(
                _sum(here.volume.prior, point.volume.prior),
                _sum(here.volume.current, point.volume.current),
                here.volume.months,
            )
            self.points[visit] = TrackPoint(here.numbers + point.numbers, volume, diameter, here.status)


def _sum(first: float | None, second: float | None) -> float | None:
    """Return the sum of what is known."""
    return second if first is None else first if second is None else first + second
