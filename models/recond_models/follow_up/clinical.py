"""Clinical rows beside images: dates, therapy and medication from a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date as Date  # noqa: N812 - a field is called date
from pathlib import Path
from typing import Any, Final

from recond_models.follow_up.dates import DateReader
from recond_models.follow_up.errors import ClinicalRowsError
from recond_models.note import Note

_COLUMNS: Final = {
    "patient": ("patient", "pseudonym", "patient id", "patientid", "subject", "subject id"),
    "date": ("date", "visit date", "study date", "start", "start date"),
    "end": ("end", "end date", "until", "stop", "stop date"),
    "therapy": ("therapy", "treatment"),
    "medication": ("medication", "drug", "medicine"),
    "dose": ("dose", "dosage"),
    "note": ("note", "notes", "comment", "comments", "remark"),
}
_MISSING: Final = frozenset({"", "na", "n/a", "nan", "null", "-", "--", "?"})
_DELIMITERS: Final = (",", ";", "\t", "|")
_LARGEST: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class ClinicalRow:
    """A line of a clinical table.

    Parameters
    ----------
    patient
        Pseudonym.
    date
        When it was noted, or when it began.
    end
        When it ended; None if the table does not say.
    therapy, medication, dose, note
        As written; None if missing. A therapy of ``"none"`` or ``"stopped"`` says that there is none.
    line
        Of the file, from 1.
    extra
        All other columns as written, by their heading.
    """

    patient: str
    date: Date
    end: Date | None = None
    therapy: str | None = None
    medication: str | None = None
    dose: str | None = None
    note: str | None = None
    line: int = 0
    extra: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return {
            "date": self.date.isoformat(),
            "end": None if self.end is None else self.end.isoformat(),
            "therapy": self.therapy,
            "medication": self.medication,
            "dose": self.dose,
            "note": self.note,
            **({"extra": dict(self.extra)} if self.extra else {}),
        }


@dataclass(frozen=True, slots=True)
class ClinicalTable:
    """Rows of a table, in the order of their dates.

    Parameters
    ----------
    rows
        Of all patients.
    notes
        What was odd about the file, and what was made of it.
    """

    rows: tuple[ClinicalRow, ...]
    notes: tuple[Note, ...] = ()

    def of(self, patient: str) -> tuple[ClinicalRow, ...]:
        """Return the rows of a patient."""
        return tuple(one for one in self.rows if one.patient == patient)


def read_clinical(source: Path | bytes, *, day_first: bool | None = None) -> ClinicalTable:
    """Read a table of clinical rows.

    The first line names the columns, in any order and case. ``patient`` (or ``pseudonym``) and ``date`` are needed, ``end``,
    ``therapy``, ``medication``, ``dose`` and ``note`` are known, others are kept. Commas, semicolons, tabs or bars separate them.
    Rows that come twice count once.

    Parameters
    ----------
    source
        File, or its content; UTF-8 with or without a byte order mark, UTF-16 with one, or Windows-1252.
    day_first
        How dates such as 03/04/2024 are read; None: only if another date of the file tells, and refused otherwise.

    Raises
    ------
    ClinicalRowsError
        The file cannot be read, a column is missing or doubled, a row has no patient or date or too many cells, or a date is
        ambiguous or no date; with the line.
    """
    text, notes = _text(_content(source))
    delimiter = _delimiter(text)
    # The csv module counts lines as it reads, so a quoted line break does not shift the numbers.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader]
    except csv.Error as error:
        raise ClinicalRowsError(f"this is no table: {error}", reader.line_num) from error
    lines = [(number, cells) for number, cells in lines if any(cells)]
    if not lines:
        raise ClinicalRowsError("the file is empty: its first line names the columns, such as patient,date,therapy")
    headings = lines[0][1]
    places = _places(headings, lines[0][0])
    cells = [(number, _row_cells(found, headings, number)) for number, found in lines[1:]]
    dates = DateReader.of(
        [row[places[name]] for _, row in cells for name in ("date", "end") if name in places], day_first
    )
    rows, seen = [], set()
    for number, row in cells:
        key = tuple(row)
        if key in seen:
            notes.append(Note("clinical-row-repeated", f"Line {number} repeats an earlier one and counts once."))
            continue
        seen.add(key)
        rows.append(_row(row, headings, places, dates, number))
    return ClinicalTable(tuple(sorted(rows, key=lambda one: (one.date, one.line))), tuple(notes))


def _content(source: Path | bytes) -> bytes:
    """Return the bytes of a table."""
    if isinstance(source, bytes):
        content = source
    else:
        try:
            content = source.read_bytes()
        except OSError as error:
            raise ClinicalRowsError(f"{source} cannot be read: {error.strerror}") from error
    if len(content) > _LARGEST:
        raise ClinicalRowsError(f"a table of {len(content)} bytes is no list of visits: {_LARGEST} are allowed")
    return content


def _text(content: bytes) -> tuple[str, list[Note]]:
    """Return the text of a file, and what was odd about its encoding."""
    encoding = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    notes = []
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        text = content.decode("cp1252", errors="replace")
        notes.append(
            Note("clinical-encoding", "The table is not UTF-8 and was read as Windows-1252: check its umlauts.")
        )
    if "\0" in text:
        raise ClinicalRowsError("this is no text: save the table as CSV (UTF-8)")
    return text, notes


def _delimiter(text: str) -> str:
    """Return what separates the columns: with what the first line has most known headings."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    known = {alias for aliases in _COLUMNS.values() for alias in aliases}
    return max(_DELIMITERS, key=lambda one: sum(_plain(cell.strip('"')) in known for cell in first.split(one)))


def _plain(heading: str) -> str:
    """Return a heading in lower case, without underscores, hyphens or further spaces."""
    return " ".join(heading.lower().replace("_", " ").replace("-", " ").split())


def _places(headings: Sequence[str], line: int) -> dict[str, int]:
    """Return where the known columns are."""
    places: dict[str, int] = {}
    for place, heading in enumerate(headings):
        name = next((name for name, aliases in _COLUMNS.items() if _plain(heading) in aliases), None)
        if name is None:
            continue
        if name in places:
            raise ClinicalRowsError(f"two columns say the {name}: {headings[places[name]]!r} and {heading!r}", line)
        places[name] = place
    for name in ("patient", "date"):
        if name not in places:
            known = ", ".join(_COLUMNS[name])
            raise ClinicalRowsError(
                f"no column says the {name}: call it one of {known}; found {', '.join(headings)}", line
            )
    return places


def _row_cells(cells: list[str], headings: Sequence[str], line: int) -> list[str]:
    """Return the cells of a row, one for each column: missing ones at its end are empty."""
    if any(cells[len(headings) :]):
        raise ClinicalRowsError(
            f"{len(cells)} cells in {len(headings)} columns: put text with separators in quotes", line
        )
    return (cells + [""] * len(headings))[: len(headings)]


def _row(
    cells: Sequence[str], headings: Sequence[str], places: Mapping[str, int], dates: DateReader, line: int
) -> ClinicalRow:
    """Return a row."""
    values = {
        name: cells[place] if _plain(cells[place]) not in _MISSING and cells[place] else None
        for name, place in places.items()
    }
    patient, when, until = values["patient"], values["date"], values.get("end")
    if patient is None:
        raise ClinicalRowsError("the row has no patient: write the pseudonym into every row", line)
    if when is None:
        raise ClinicalRowsError("the row has no date, so it has no place in time", line)
    try:
        date = dates.read(when)
        end = None if until is None else dates.read(until)
    except ValueError as error:
        raise ClinicalRowsError(str(error), line) from error
    if end is not None and end < date:
        raise ClinicalRowsError(f"it ends ({end}) before it begins ({date})", line)
    known = set(places.values())
    extra = {
        heading: cell
        for place, (heading, cell) in enumerate(zip(headings, cells, strict=True))
        if place not in known and cell and heading
    }
    return ClinicalRow(
        patient,
        date,
        end,
        values.get("therapy"),
        values.get("medication"),
        values.get("dose"),
        values.get("note"),
        line,
        extra,
    )
