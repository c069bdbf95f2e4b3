"""What happened to each lesion between two scans."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from recond_models.follow_up.change import Change, Noise, Trend
from recond_models.follow_up.matching import Group, match
from recond_models.follow_up.moving import is_covered
from recond_models.follow_up.visit import Visit
from recond_models.heads.measurements import Lesion, LesionTable
from recond_models.note import Note

Status = Literal["stable", "grown", "shrunk", "new", "vanished", "merged", "split", "not_covered"]

LESION_NOISE: Final = Noise(volume_ml=0.05, percent=15.0)
"""A lesion that changes by less is called stable."""


@dataclass(frozen=True, slots=True)
class LesionChange:
    """A lesion at two times.

    Parameters
    ----------
    status
        What happened. ``"not_covered"``: its place lies outside the field of view of the other scan, so nobody knows.
    trend
        Of its volume, also where lesions merged or split; None if it was not measured twice.
    prior, current
        The lesions, the largest first; several if they merged or split, none if it is new or vanished.
    volume
        Sum of the volumes, mL; 0 before a lesion is new and after it has vanished.
    diameter
        Of the largest, mm; None where there is none.
    centre_mm
        In the prior scan; of a new lesion, where it would lie there. RAS+ mm.
    """

    status: Status
    trend: Trend | None
    prior: tuple[Lesion, ...]
    current: tuple[Lesion, ...]
    volume: Change
    diameter: Change
    centre_mm: tuple[float, float, float]

    @property
    def location(self) -> str | None:
        """The structure that holds most of the largest, by the current scan if it is there."""
        return next((one.location for one in (*self.current, *self.prior)), None)

    def to_json(self) -> dict[str, Any]:
        """Return plain dictionaries and lists."""
        return {
            "status": self.status,
            "trend": self.trend,
            "prior": [one.number for one in self.prior],
            "current": [one.number for one in self.current],
            "location": self.location,
            "centre_mm": list(self.centre_mm),
            "volume": self.volume.to_json("ml"),
            "diameter": self.diameter.to_json("mm"),
        }


@dataclass(frozen=True, slots=True, eq=False)
class LesionComparison:
    """Lesions of one head at two times.

    Parameters
    ----------
    prior
        Lesions of the prior scan; None if there is none, or this head did not run on it.
    current
        Lesions of the current scan.
    count
        Number of lesions.
    total
        Volume of all lesions, mL; those outside the other field of view are left out of both.
    trend
        Of the total.
    changes
        Lesion by lesion; None if the scans could not be compared, which is not the same as none.
    """

    prior: LesionTable | None
    current: LesionTable
    count: Change
    total: Change
    trend: Trend | None
    changes: tuple[LesionChange, ...] | None

    def to_json(self) -> dict[str, Any]:
        """Return plain dictionaries and lists."""
        return {
            "count": {
                "prior": _whole(self.count.prior),
                "current": _whole(self.count.current),
                "change": _whole(self.count.absolute),
            },
            "total": {**self.total.to_json("ml"), "trend": self.trend},
            "statuses": self.statuses(),
            "lesions": None if self.changes is None else [one.to_json() for one in self.changes],
            "prior": None if self.prior is None else self.prior.to_json(),
            "current": self.current.to_json(),
        }

    def statuses(self) -> dict[str, int] | None:
        """Return how many lesions have each status; None if they could not be compared."""
        if self.changes is None:
            return None
        found: dict[str, int] = {}
        for one in self.changes:
            found[one.status] = found.get(one.status, 0) + 1
        return found


def compare_lesions(
    prior: LesionTable | None,
    current: LesionTable,
    visits: tuple[Visit | None, Visit],
    matrix: NDArray[np.float64] | None,
    months: float | None,
    noise: Noise,
) -> tuple[LesionComparison, tuple[Note, ...]]:
    """Compare the lesions of two scans.

    Parameters
    ----------
    prior, current
        Measured in each scan's own grid.
    visits
        Prior and current visit.
    matrix
        (4, 4): positions in the current scan to positions in the prior one, RAS+ mm; None if the scans could not be registered.
    months
        Between them; None if unknown.
    noise
        Below which a lesion is stable.

    Returns
    -------
    LesionComparison
        What changed.
    tuple of Note
        What the reader should know.
    """
    before = visits[0]
    if prior is None or before is None:
        count, total = Change(None, len(current.lesions), months), Change(None, current.total_ml, months)
        return LesionComparison(None, current, count, total, None, None), ()
    count = Change(len(prior.lesions), len(current.lesions), months)
    if matrix is None:
        total = Change(prior.total_ml, current.total_ml, months)
        return LesionComparison(prior, current, count, total, noise.trend(total), None), ()
    groups = match(prior, before.grid, current, visits[1].grid, matrix)
    changes = tuple(_change(one, prior, current, before, visits[1], matrix, months, noise) for one in groups)
    seen = [one for one in changes if one.status != "not_covered"]
    total = Change(sum(one.volume.prior or 0.0 for one in seen), sum(one.volume.current or 0.0 for one in seen), months)
    notes: tuple[Note, ...] = ()
    if len(seen) < len(changes):
        message = (
            f"{len(changes) - len(seen)} lesions lie where the other scan has no image: they count neither as new nor as "
            "vanished, and the totals leave them out."
        )
        notes = (Note("lesions-not-covered", message),)
    return LesionComparison(prior, current, count, total, noise.trend(total), changes), notes


def _change(
    group: Group,
    prior: LesionTable,
    current: LesionTable,
    before: Visit,
    after: Visit,
    matrix: NDArray[np.float64],
    months: float | None,
    noise: Noise,
) -> LesionChange:
    """Return what happened to a group of lesions."""
    olds = _lesions(prior.lesions, group.prior)
    news = _lesions(current.lesions, group.current)
    if olds:
        centre = np.array(olds[0].centre_mm)
        covered = bool(news) or is_covered(
            _moved(np.asarray(np.linalg.inv(matrix)), centre), after.grid, after.image.shape
        )
    else:
        centre = _moved(matrix, np.array(news[0].centre_mm))
        covered = is_covered(centre, before.grid, before.image.shape)
    unknown = None if not covered else 0.0
    volume = Change(
        sum(one.volume_ml for one in olds) if olds else unknown,
        sum(one.volume_ml for one in news) if news else unknown,
        months,
    )
    diameter = Change(_largest(olds), _largest(news), months)
    trend = noise.trend(volume) if olds and news else None
    place = (float(centre[0]), float(centre[1]), float(centre[2]))
    return LesionChange(_status(olds, news, covered, trend), trend, olds, news, volume, diameter, place)


def _status(olds: tuple[Lesion, ...], news: tuple[Lesion, ...], covered: bool, trend: Trend | None) -> Status:
    """Return what happened to a lesion."""
    if not covered:
        return "not_covered"
    if len(olds) == len(news):
        return trend or "stable"
    if not olds:
        return "new"
    if not news:
        return "vanished"
    return "merged" if len(olds) > len(news) else "split"


def _lesions(lesions: Iterable[Lesion], numbers: tuple[int, ...]) -> tuple[Lesion, ...]:
    """Return the lesions with some numbers, the largest first as in the table."""
    return tuple(one for one in lesions if one.number in numbers)


def _largest(lesions: tuple[Lesion, ...]) -> float | None:
    """Return the longest diameter among lesions, mm; None if there are none."""
    return max((one.diameters.longest_mm for one in lesions), default=None)


def _moved(matrix: NDArray[np.float64], position: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a position (3,) in the other scan, RAS+ mm."""
    return np.asarray(matrix[:3, :3] @ position + matrix[:3, 3])


def _whole(value: float | None) -> int | None:
    """Return a count as an integer."""
    return None if value is None else int(value)
