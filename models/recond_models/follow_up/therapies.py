"""Therapies as intervals, from rows that name them at dates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date as Date  # noqa: N812 - parameters are called date
from itertools import groupby
from typing import Any, Final, Literal

from recond_models.follow_up.clinical import ClinicalRow

Lane = Literal["therapy", "medication"]

_NONE: Final = frozenset({"none", "no", "stop", "stopped", "end", "ended", "off", "paused", "pause", "discontinued"})


@dataclass(frozen=True, slots=True)
class Therapy:
    """A therapy or medication from a date to another.

    Parameters
    ----------
    kind
        Which column names it.
    name
        As written, a medication with its dose.
    start
        First day.
    end
        Day on which it ended; None if the rows do not say.
    """

    kind: Lane
    name: str
    start: Date
    end: Date | None

    def is_active(self, date: Date) -> bool:
        """Tell whether it was given on a day."""
        return self.start <= date and (self.end is None or date < self.end or date == self.start)

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return {
            "kind": self.kind,
            "name": self.name,
            "start": self.start.isoformat(),
            "end": None if self.end is None else self.end.isoformat(),
        }


def therapies(rows: Sequence[ClinicalRow]) -> tuple[Therapy, ...]:
    """Return the intervals that the rows of one patient describe.

    A row with an end is an interval. Of the others, those of one date say what is given from then on: what they do not name any
    more has ended; rows without an entry in the column say nothing about it. ``none``, ``stopped`` and the like name nothing.

    Parameters
    ----------
    rows
        Of one patient, by date.
    """
    found: list[Therapy] = []
    for lane in ("therapy", "medication"):
        found += _lane(rows, lane)
    return tuple(sorted(found, key=lambda one: (one.kind != "therapy", one.start, one.name)))


def _lane(rows: Sequence[ClinicalRow], lane: Lane) -> list[Therapy]:
    """Return the intervals of one column."""
    named = [(row, name) for row in rows if (name := _name(row, lane)) is not None]
    found = [Therapy(lane, name, row.date, row.end) for row, name in named if row.end is not None]
    active: dict[str, Date] = {}
    for date, group in groupby((one for one in named if one[0].end is None), key=lambda one: one[0].date):
        given = [name for _, name in group if name.lower().split(" ")[0] not in _NONE]
        ended = [one for one in active if one not in given]
        found += [Therapy(lane, name, active.pop(name), date) for name in ended]
        for name in given:
            active.setdefault(name, date)
    return found + [Therapy(lane, name, start, None) for name, start in active.items()]


def _name(row: ClinicalRow, lane: Lane) -> str | None:
    """Return what a row names in a column, a medication with its dose."""
    if lane == "therapy":
        return row.therapy
    if row.medication is None or row.dose is None:
        return row.medication
    return f"{row.medication} {row.dose}"
