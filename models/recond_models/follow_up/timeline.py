"""A series of visits of one patient, with the clinical rows beside them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date as Date  # noqa: N812 - a field is called date
from itertools import pairwise
from typing import Any, Final

from recond_models.follow_up.change import Change, Noise, months_between
from recond_models.follow_up.clinical import ClinicalRow
from recond_models.follow_up.comparison import STRUCTURE_NOISE, Comparison, compare
from recond_models.follow_up.errors import VisitError, VisitOrderError
from recond_models.follow_up.lesion_changes import LESION_NOISE
from recond_models.follow_up.therapies import Therapy, therapies
from recond_models.follow_up.tracks import Track, tracks
from recond_models.follow_up.visit import Visit

_COLUMNS: Final = (
    "patient", "visit", "date", "months", "kind", "head", "name", "status", "volume_ml", "diameter_mm",
    "change_ml", "change_percent", "ml_per_month", "therapy", "medication",
)  # fmt: skip
"""Columns of the table of a timeline."""


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """Visits of one patient in the order of time.

    Parameters
    ----------
    visits
        At least one.
    comparisons
        Of each visit with the one before; the first with none.
    tracks
        Each lesion through all visits, by the name of the head.
    rows
        Clinical rows of the patient, by date.
    therapies
        Therapies and medications as intervals.
    """

    visits: tuple[Visit, ...]
    comparisons: tuple[Comparison, ...]
    tracks: Mapping[str, tuple[Track, ...]]
    rows: tuple[ClinicalRow, ...]
    therapies: tuple[Therapy, ...]

    @property
    def months(self) -> tuple[float | None, ...]:
        """Time of each visit since the first, months of 30.4375 days; None where a date is unknown."""
        return tuple(months_between(self.visits[0].date, one.date) for one in self.visits)

    def totals(self, head: str) -> tuple[float | None, ...]:
        """Return the volume of all lesions at each visit, mL; None where the head did not run."""
        found = (one.lesions.get(head) for one in self.comparisons)
        return tuple(None if one is None else one.current.total_ml for one in found)

    def since_first(self, head: str) -> Change:
        """Return how the volume of all lesions changed from the first visit to the last, mL."""
        totals = self.totals(head)
        known = len(totals) > 1
        return Change(totals[0] if known else None, totals[-1], self.months[-1] if known else None)

    def table(self) -> list[dict[str, str | float | None]]:
        """Return a row for each total, lesion and structure of each visit; the keys are the same in all."""
        found: list[dict[str, str | float | None]] = []
        for index, (visit, comparison) in enumerate(zip(self.visits, self.comparisons, strict=True)):
            base = self._base(index, visit)
            for head, lesions in comparison.lesions.items():
                found.append(_row(base, "total", head, "all lesions", lesions.trend, lesions.total, None))
                for track in self.tracks.get(head, ()):
                    point = track.points[index]
                    if point is not None:
                        found.append(
                            _row(base, "lesion", head, track.name, point.status, point.volume, point.diameter_mm)
                        )
            for head, structures in comparison.structures.items():
                found += [_row(base, "structure", head, one.name, one.trend, one.volume, None) for one in structures]
        return found

    def to_csv(self) -> str:
        """Return the table as CSV with a heading: commas, points, UTF-8; empty where there is no value."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.table())
        return text.getvalue()

    def to_json(self) -> dict[str, Any]:
        """Return plain dictionaries and lists, as docs/follow-up.md shows them."""
        return {
            "patient": self.visits[0].patient or None,
            "visits": [
                {
                    "name": visit.name,
                    "date": None if visit.date is None else visit.date.isoformat(),
                    "months": months,
                    "comparison": comparison.to_json(),
                }
                for visit, months, comparison in zip(self.visits, self.months, self.comparisons, strict=True)
            ],
            "since_first": {head: self.since_first(head).to_json("ml") for head in self.tracks},
            "tracks": {head: [one.to_json() for one in found] for head, found in self.tracks.items()},
            "clinical": [one.to_json() for one in self.rows],
            "therapies": [one.to_json() for one in self.therapies],
        }

    def _base(self, index: int, visit: Visit) -> dict[str, str | float | None]:
        """Return what all rows of a visit share."""
        active = {"therapy": "", "medication": ""}
        if visit.date is not None:
            for one in self.therapies:
                if one.is_active(visit.date):
                    active[one.kind] += ("; " if active[one.kind] else "") + one.name
        return {
            "patient": visit.patient,
            "visit": visit.name,
            "date": None if visit.date is None else visit.date.isoformat(),
            "months": self.months[index],
            **active,
        }


def timeline(
    visits: Sequence[Visit],
    rows: Sequence[ClinicalRow] = (),
    *,
    minimum_ml: float = 0.0,
    lesion_noise: Noise = LESION_NOISE,
    structure_noise: Noise = STRUCTURE_NOISE,
    threads: int = 1,
) -> Timeline:
    """Compare each visit with the one before, and follow each lesion through all of them.

    Parameters
    ----------
    visits
        Of one patient; sorted by date here. Visits without a date stay as they are given, if none has one.
    rows
        Clinical rows; those of other pseudonyms are left out. With visits that have no pseudonym, rows of one patient only.
    minimum_ml, lesion_noise, structure_noise, threads
        As in `compare`.

    Raises
    ------
    VisitError
        There is no visit, or some have dates and some do not.
    VisitOrderError
        Visits are of different patients, or it is open whose the clinical rows are.
    """
    if not visits:
        raise VisitError("a timeline needs a visit")
    ordered = _ordered(visits)
    patient = _patient(ordered, rows)
    comparisons = [
        compare(None, ordered[0], minimum_ml=minimum_ml, lesion_noise=lesion_noise, structure_noise=structure_noise)
    ]
    comparisons += [
        compare(
            before,
            after,
            minimum_ml=minimum_ml,
            lesion_noise=lesion_noise,
            structure_noise=structure_noise,
            threads=threads,
        )
        for before, after in pairwise(ordered)
    ]
    own = tuple(sorted((one for one in rows if one.patient == patient), key=lambda one: (one.date, one.line)))
    heads = dict.fromkeys(head for one in comparisons for head in one.lesions)
    followed = {head: tracks([one.lesions.get(head) for one in comparisons]) for head in heads}
    return Timeline(tuple(ordered), tuple(comparisons), followed, own, therapies(own))


def _ordered(visits: Sequence[Visit]) -> list[Visit]:
    """Return visits by date."""
    dated = [one.date is not None for one in visits]
    if any(dated) and not all(dated):
        missing = ", ".join(one.name for one in visits if one.date is None)
        raise VisitError(f"visits without a date cannot be put among the others: {missing}")
    return sorted(visits, key=lambda one: one.date or Date.min)


def _patient(visits: Sequence[Visit], rows: Sequence[ClinicalRow]) -> str:
    """Return the pseudonym of the patient."""
    names = {one.patient for one in visits if one.patient}
    if len(names) > 1:
        raise VisitOrderError(f"the visits are of several patients: {', '.join(sorted(names))}")
    others = {one.patient for one in rows}
    if names:
        return names.pop()
    if len(others) > 1:
        raise VisitOrderError(
            f"the clinical rows are of several patients ({', '.join(sorted(others))}), the visits of nobody: give their pseudonym"
        )
    return others.pop() if others else ""


def _row(
    base: Mapping[str, str | float | None],
    kind: str,
    head: str,
    name: str,
    status: str | None,
    volume: Change,
    diameter_mm: float | None,
) -> dict[str, str | float | None]:
    """Return a row of the table, in the order of its columns."""
    values = {
        **base,
        "kind": kind,
        "head": head,
        "name": name,
        "status": status,
        "volume_ml": volume.current,
        "diameter_mm": diameter_mm,
        "change_ml": volume.absolute,
        "change_percent": volume.percent,
        "ml_per_month": volume.per_month,
    }
    return {column: values[column] for column in _COLUMNS}
