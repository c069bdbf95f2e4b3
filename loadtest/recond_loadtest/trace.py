"""Schedules as CSV files: ``at,class,input,fault,cancel_after``. Only ``at`` (seconds) is needed.

A trace of arrivals that were recorded elsewhere has times only: the rest is drawn as for other arrivals.
"""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast, get_args

from recond_loadtest.planned import MOST_REQUESTS, Fault, PlannedRequest
from recond_loadtest.scenario import Scenario
from recond_loadtest.toml_reader import ScenarioError

COLUMNS: Final = ("at", "class", "input", "fault", "cancel_after")


@dataclass(frozen=True, slots=True)
class TraceRow:
    """A line of a trace; None where it says nothing.

    Parameters
    ----------
    at
        Seconds after the start of the run.
    kind, input, fault, cancel_after
        As in `PlannedRequest`.
    place
        File and line, for messages.
    """

    at: float
    kind: str | None
    input: int | None
    fault: Fault | None
    cancel_after: float | None
    place: str

    def resolve(self, drawn: PlannedRequest, scenario: Scenario) -> PlannedRequest:
        """Return the request, with what was drawn where the trace says nothing.

        Raises
        ------
        ScenarioError
            The scenario has no such class or input.
        """
        kinds = {kind.name: kind for kind in scenario.classes}
        name = drawn.kind if self.kind is None else self.kind
        if name not in kinds:
            raise ScenarioError(f"{self.place}: class {name!r}; the scenario has {', '.join(kinds)}")
        number = self.input if self.input is not None else drawn.input if name == drawn.kind else 0
        if not 0 <= number < len(kinds[name].inputs):
            raise ScenarioError(f"{self.place}: input {number}; class {name!r} has {len(kinds[name].inputs)}")
        return dataclasses.replace(
            drawn,
            kind=name,
            input=number,
            fault=drawn.fault if self.fault is None else self.fault,
            cancel_after=drawn.cancel_after if self.cancel_after is None else self.cancel_after,
        )


def write_trace(path: Path, schedule: Iterable[PlannedRequest]) -> None:
    """Write a schedule.

    Raises
    ------
    OSError
        The file cannot be written.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for request in schedule:
            writer.writerow([repr(request.at), request.kind, request.input, request.fault, repr(request.cancel_after)])


def read_trace(path: Path) -> list[TraceRow]:
    """Read a trace, in the order of its times.

    Raises
    ------
    ScenarioError
        The file cannot be read, or a line in it is wrong.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            known = set(reader.fieldnames or ())
            if "at" not in known or known - set(COLUMNS):
                raise ScenarioError(f"{path}: columns {', '.join(map(str, known))}; a trace has {', '.join(COLUMNS)}")
            rows = [_row(line, f"{path}:{reader.line_num}") for line in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ScenarioError(f"{path}: cannot be read: {error}") from error
    if len(rows) > MOST_REQUESTS:
        raise ScenarioError(f"{path}: {len(rows)} requests; at most {MOST_REQUESTS} are allowed")
    return sorted(rows, key=lambda row: row.at)


def _row(line: dict[str, str | None], place: str) -> TraceRow:
    try:
        at = float(line["at"] or "")
        cancel_after, number = line.get("cancel_after"), line.get("input")
        row = TraceRow(
            at=at,
            kind=line.get("class") or None,
            input=int(number) if number else None,
            fault=cast("Fault | None", line.get("fault")),
            cancel_after=float(cancel_after) if cancel_after else None,
            place=place,
        )
    except ValueError as error:
        raise ScenarioError(f"{place}: {error}") from None
    if not math.isfinite(at) or at < 0:
        raise ScenarioError(f"{place}: at {at}; times are 0 s or more")
    if row.fault is not None and row.fault not in get_args(Fault):
        raise ScenarioError(f"{place}: fault {row.fault!r}; known are {', '.join(filter(None, get_args(Fault)))}")
    return row
